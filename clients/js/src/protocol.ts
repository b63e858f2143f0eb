import { ProtocolError } from './errors.js';
import type { Data } from './send-queue.js';

/** The subprotocol that this library speaks. */
export const SUBPROTOCOL = 'jackfield.v1';

/** The first frame of each connection. */
export interface Welcome {
  readonly type: 'welcome';
  readonly client: string;
  readonly resumed: boolean;
  /** How many messages of this client the plugin has handled. */
  readonly received: number;
  /** The plugin's own subprotocol, if it has chosen one. */
  readonly subprotocol?: string;
  /** Missing if the node does not wait for this client. */
  readonly resume?: { readonly token: string };
}

/** A control message of the node. */
export type Control =
  | Welcome
  | { readonly type: 'ack'; readonly received: number }
  | { readonly type: 'pong' | 'unknown' };

/** A frame of the node: a message for the page, or a control message. */
export type Frame = { readonly message: unknown } | { readonly control: Control };

/** A message as it stands in a frame. */
export function encode(data: Data): Data {
  return typeof data === 'string' ? `m${data}` : data;
}

/** The control message with which this client says what has arrived. */
export function encodeAck(received: number): string {
  return JSON.stringify({ type: 'ack', received });
}

/** The control message that asks for a sign of life. */
export const PING = JSON.stringify({ type: 'ping' });

/** The subprotocol with which a client asks for its session. */
export function resumeProtocol(token: string, received: number): string {
  return `jackfield.resume.${token}.${received}`;
}

/** Reads one frame. Throws a `ProtocolError` if it is none of `jackfield.v1`. */
export function decode(frame: unknown): Frame {
  if (typeof frame !== 'string') return { message: frame };
  if (frame.startsWith('m')) return { message: frame.slice(1) };
  if (!frame.startsWith('{')) throw new ProtocolError('the node sent a frame that is not of jackfield.v1');
  let control: Record<string, unknown>;
  try {
    control = JSON.parse(frame);
  } catch {
    throw new ProtocolError('the node sent a control message that is not JSON');
  }
  switch (control.type) {
    case 'welcome':
      if (isWelcome(control)) return { control };
      throw new ProtocolError('the node sent a welcome that lacks something');
    case 'ack':
      if (isCount(control.received)) return { control: { type: 'ack', received: control.received } };
      throw new ProtocolError('the node sent an ack without a number');
    case 'pong':
      return { control: { type: 'pong' } };
    default:
      return { control: { type: 'unknown' } };
  }
}

function isWelcome(control: object): control is Welcome {
  const { client, resumed, received, subprotocol, resume } = control as Record<string, unknown>;
  return (
    typeof client === 'string' &&
    typeof resumed === 'boolean' &&
    isCount(received) &&
    (subprotocol === undefined || typeof subprotocol === 'string') &&
    (resume === undefined || typeof (resume as { token?: unknown } | null)?.token === 'string')
  );
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
