/** The send queue is full: the message was not taken. Wait for `bufferedAmount` to fall, or drop the message. */
export class QueueFullError extends Error {
  override readonly name = 'QueueFullError';
}

/**
 * The session was lost after the message had been sent. Whether the plugin has handled it cannot be known any more.
 */
export class SessionLostError extends Error {
  override readonly name = 'SessionLostError';

  constructor() {
    super('the session was lost, and whether the plugin has handled this message cannot be known');
  }
}

/** The client is closed for good, so nothing can be sent and no answer can come. */
export class ClosedError extends Error {
  override readonly name = 'ClosedError';

  constructor(
    /** The code of the close, such as 4001. */
    readonly code: number,
    /** The reason of the close. */
    readonly reason: string,
  ) {
    super(`the client is closed: ${code} ${reason}`.trimEnd());
  }
}

/** The plugin has answered a request with an error of JSON-RPC. */
export class RequestError extends Error {
  override readonly name = 'RequestError';

  constructor(
    /** The error's number, such as -32601 for an unknown method. */
    readonly code: number,
    message: string,
    /** What the plugin has added, if anything. */
    readonly data?: unknown,
  ) {
    super(message);
  }
}

/** The node has sent what `jackfield.v1` does not allow. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
}
