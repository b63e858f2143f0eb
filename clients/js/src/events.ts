import type { Data } from './send-queue.js';

/** The connection is open: for the first time, or again. */
export class OpenEvent extends Event {
  constructor(
    /** The client id, or `undefined` with `reliable: false`. It changes when `resumed` is false. */
    readonly clientId: string | undefined,
    /** Whether this is the same client as before. If it is false, the page has to load its state. */
    readonly resumed: boolean,
    /**
     * Messages that were sent in the session that was lost, and of which nobody knows whether the plugin has handled
     * them. They are not sent again, unless the option `resendAfterReset` is set.
     */
    readonly unacknowledged: readonly Data[],
  ) {
    super('open');
  }
}

/** The connection has ended, and another attempt follows. */
export class ReconnectingEvent extends Event {
  constructor(
    /** Milliseconds until the attempt. */
    readonly delayMs: number,
    /** How the connection or the attempt ended, such as 1006. */
    readonly code: number,
    readonly reason: string,
    /** 1 for the first attempt since the last stable connection. */
    readonly attempt: number,
  ) {
    super('reconnecting');
  }
}

/** The client has ended for good: it does not reconnect. */
export class ClosedEvent extends Event {
  constructor(
    readonly code: number,
    readonly reason: string,
    readonly wasClean: boolean,
    /** Messages that were sent, and of which nobody knows whether the plugin has handled them. */
    readonly unacknowledged: readonly Data[],
    /** Messages that were never sent. */
    readonly unsent: readonly Data[],
  ) {
    super('close');
  }
}

/** Something has failed. What follows from it, another event says. */
export class FailedEvent extends Event {
  constructor(
    /** What has failed, such as the error that the token function threw. */
    readonly error: unknown,
  ) {
    super('error');
  }

  get message(): string {
    return this.error instanceof Error ? this.error.message : String(this.error);
  }
}

/** The plugin has sent a notification of JSON-RPC. */
export class NotificationEvent extends Event {
  constructor(
    readonly method: string,
    /** An array, an object, or `undefined` if there are none. */
    readonly params: unknown,
  ) {
    super('notification');
  }
}

/** The events of a client, by name. */
export interface JackfieldEventMap {
  open: OpenEvent;
  message: MessageEvent;
  reconnecting: ReconnectingEvent;
  notification: NotificationEvent;
  error: FailedEvent;
  close: ClosedEvent;
}
