export { Jackfield } from './client.js';
export { ClosedError, ProtocolError, QueueFullError, RequestError, SessionLostError } from './errors.js';
export {
  ClosedEvent,
  FailedEvent,
  type JackfieldEventMap,
  NotificationEvent,
  OpenEvent,
  ReconnectingEvent,
} from './events.js';
export type { JackfieldOptions, Socket, SocketConstructor, TokenFunction } from './options.js';
export type { Params, RequestOptions } from './requests.js';
export type { Data } from './send-queue.js';
