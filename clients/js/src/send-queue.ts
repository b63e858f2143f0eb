import { ProtocolError, QueueFullError } from './errors.js';

/** What can be sent: a text, or bytes. */
export type Data = string | ArrayBuffer | ArrayBufferView | Blob;

/** A message on its way to the plugin. */
export interface Outgoing {
  readonly data: Data;
  readonly bytes: number;
  /** Whether a socket has got it, so that the plugin may have handled it. */
  written: boolean;
  /** Called once: without an error when the plugin has handled it, else with the reason why nobody can know. */
  readonly settle?: (error?: Error) => void;
}

/**
 * The messages that wait for a socket, and those that wait for their acknowledgement. Both count for the bounds.
 *
 * Messages leave in the order in which they came. A message is numbered when it leaves, from 1 in each session.
 */
export class SendQueue {
  readonly #maxMessages: number;
  readonly #maxBytes: number;
  readonly #keepsWritten: boolean;
  #waiting: Outgoing[] = [];
  /** Messages of an earlier session, which the first ones of a new session overtake. */
  #held: Outgoing[] = [];
  #unacknowledged: Outgoing[] = [];
  /** The number of the last message that was acknowledged. */
  #acknowledged = 0;
  #messages = 0;
  #bytes = 0;

  /** With `keepsWritten`, what a socket has got stays here until it is acknowledged. */
  constructor(maxMessages: number, maxBytes: number, keepsWritten: boolean) {
    this.#maxMessages = maxMessages;
    this.#maxBytes = maxBytes;
    this.#keepsWritten = keepsWritten;
  }

  /** The bytes of the messages that wait for a socket. */
  get waitingBytes(): number {
    return sumOfBytes(this.#held) + sumOfBytes(this.#waiting);
  }

  /** The number of messages that a socket has got and that are not acknowledged. */
  get unacknowledged(): number {
    return this.#unacknowledged.length;
  }

  get isWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  /** Takes a message, or throws a `QueueFullError`. */
  push(given: Data, settle?: (error?: Error) => void): Outgoing {
    const data = copy(given);
    const bytes = byteLength(data);
    if (this.#messages >= this.#maxMessages || this.#bytes + bytes > this.#maxBytes) {
      throw new QueueFullError(
        `a message of ${bytes} bytes does not fit: ${this.#messages} messages of ${this.#bytes} bytes wait, ` +
          `and queueMessages is ${this.#maxMessages}, queueBytes ${this.#maxBytes}`,
      );
    }
    const outgoing: Outgoing = { data, bytes, written: false, ...(settle && { settle }) };
    this.#waiting.push(outgoing);
    this.#messages += 1;
    this.#bytes += bytes;
    return outgoing;
  }

  /** Removes everything, and returns it: nothing will be sent any more. */
  clear(): Outgoing[] {
    const all = [...this.#unacknowledged, ...this.#held, ...this.#waiting];
    this.#unacknowledged = [];
    this.#held = [];
    this.#waiting = [];
    this.#forget(all);
    return all;
  }

  /** The next message for the socket. It counts as written. */
  next(): Outgoing | undefined {
    const outgoing = this.#waiting.shift();
    if (!outgoing) return undefined;
    outgoing.written = true;
    if (this.#keepsWritten) this.#unacknowledged.push(outgoing);
    else this.#forget([outgoing]);
    return outgoing;
  }

  /** Takes back a message that no socket has got. */
  withdraw(outgoing: Outgoing): void {
    if (outgoing.written) return;
    for (const list of [this.#waiting, this.#held]) {
      const at = list.indexOf(outgoing);
      if (at >= 0) this.#forget(list.splice(at, 1));
    }
  }

  /** The plugin has handled the messages up to this number. Throws a `ProtocolError` if there are not so many. */
  acknowledge(received: number): void {
    const count = received - this.#acknowledged;
    if (count < 0 || count > this.#unacknowledged.length) {
      const sent = this.#acknowledged + this.#unacknowledged.length;
      throw new ProtocolError(`the node acknowledged ${received} messages of ${sent} (before: ${this.#acknowledged})`);
    }
    this.#acknowledged = received;
    const handled = this.#unacknowledged.splice(0, count);
    this.#forget(handled);
    for (const { settle } of handled) settle?.();
  }

  /** The session goes on: what the plugin has not handled leaves again, before everything else. */
  resume(received: number): void {
    this.acknowledge(received);
    // They stay `written`: the lost connection may have carried them.
    this.#waiting.unshift(...this.#unacknowledged);
    this.#unacknowledged = [];
  }

  /**
   * A new session begins. Returns the messages that the plugin may have handled. With `resend` they are kept, and
   * leave again. What is kept is held until `release`.
   */
  reset(resend: boolean): Outgoing[] {
    const all = [...this.#unacknowledged, ...this.#held, ...this.#waiting];
    const unknown = all.filter((outgoing) => outgoing.written);
    this.#acknowledged = 0;
    this.#unacknowledged = [];
    this.#waiting = [];
    this.#held = resend ? all : all.filter((outgoing) => !outgoing.written);
    if (!resend) this.#forget(unknown);
    else for (const outgoing of unknown) outgoing.written = false;
    return unknown;
  }

  /** The messages of the earlier session may leave now. */
  release(): void {
    this.#waiting.push(...this.#held);
    this.#held = [];
  }

  #forget(gone: Outgoing[]): void {
    this.#messages -= gone.length;
    this.#bytes -= sumOfBytes(gone);
  }
}

function sumOfBytes(messages: Outgoing[]): number {
  return messages.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** What a WebSocket would send: a copy of bytes, which the caller may change later, and a text for anything else. */
function copy(data: Data): Data {
  if (ArrayBuffer.isView(data)) {
    return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice().buffer as ArrayBuffer;
  }
  if (data instanceof Blob) return data;
  return data instanceof ArrayBuffer ? data.slice(0) : String(data);
}

/** The bytes that a message has in its frame: those of UTF-8 for a text. */
export function byteLength(data: Data): number {
  if (typeof data !== 'string') return data instanceof Blob ? data.size : data.byteLength;
  let bytes = data.length;
  for (let at = 0; at < data.length; at += 1) {
    const unit = data.charCodeAt(at);
    if (unit < 0x80) continue;
    // Half of a surrogate pair has two of its four bytes.
    const isPair = unit >= 0xd800 && unit < 0xdc00 && (data.charCodeAt(at + 1) & 0xfc00) === 0xdc00;
    if (isPair) at += 1;
    bytes += unit < 0x800 ? 1 : 2;
  }
  return bytes;
}
