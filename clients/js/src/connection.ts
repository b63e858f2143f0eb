import { COMES_BACK, CONNECTION_LOST, PROTOCOL_BROKEN } from './close-codes.js';
import { ProtocolError } from './errors.js';
import { Heartbeat } from './heartbeat.js';
import type { Settings, Socket } from './options.js';
import { type Control, PING, SUBPROTOCOL, type Welcome, decode, encode, encodeAck } from './protocol.js';
import type { Data } from './send-queue.js';

/** Messages of the node after which an ack is due. */
const ACK_AFTER_MESSAGES = 32;

/** The time after which an ack is due, in milliseconds. */
const ACK_AFTER_MS = 1000;

/** How a connection ended. */
export interface End {
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;
}

/** What the node keeps for a client while it is away, and what the client needs to come back to it. */
export interface Session {
  /** `undefined` if the node does not wait for this client. */
  readonly token: string | undefined;
  /** The number of messages that have arrived from the node. */
  received: number;
}

/** Who hears of a connection. Nothing is called after `ended`. */
export interface Owner {
  /** The connection can be used. Without `jackfield.v1` there is no welcome. */
  opened(welcome: Welcome | undefined): void;
  received(message: unknown): void;
  acknowledged(received: number): void;
  ended(end: End): void;
}

/** One connection: from its socket until that ends, breaks, or is found dead. */
export class Connection {
  readonly #socket: Socket;
  readonly #owner: Owner;
  readonly #heartbeat: Heartbeat;
  readonly #reliable: boolean;
  #session: Session | undefined;
  #isOpen = false;
  #acknowledged: number;
  #ackTimer: ReturnType<typeof setTimeout> | undefined;

  /** `session` is that of the connection before, if it was offered. */
  constructor(socket: Socket, session: Session | undefined, settings: Settings, owner: Owner) {
    this.#socket = socket;
    this.#owner = owner;
    this.#session = session;
    this.#acknowledged = session?.received ?? 0;
    this.#reliable = settings.reliable;
    this.#heartbeat = new Heartbeat(
      settings.heartbeatMs,
      settings.heartbeatTimeoutMs,
      () => this.#socket.send(PING),
      () => this.#lose('no answer to a ping'),
    );
    socket.onopen = () => this.#socketOpened();
    socket.onmessage = ({ data }: { data: unknown }) => this.#frame(data);
    socket.onclose = ({ code, reason, wasClean }: End) => {
      this.#detach();
      owner.ended({ code, reason, wasClean });
    };
    // What it says is also in the close. Without a handler, the package ws would throw it.
    socket.onerror = () => {};
  }

  /** The session of this connection, once it is open. */
  get session(): Session | undefined {
    return this.#session;
  }

  get socket(): Socket {
    return this.#socket;
  }

  /** Whether what is written now can arrive. */
  get isWritable(): boolean {
    return this.#isOpen && this.#socket.readyState === 1;
  }

  write(data: Data): void {
    this.#socket.send(this.#reliable ? encode(data) : data);
  }

  /** Asks the node for a sign of life, now. */
  probe(): void {
    if (this.#reliable && this.isWritable) this.#heartbeat.probe();
  }

  /** Begins to close. The owner hears of the end. */
  close(code: number, reason: string): void {
    this.#socket.close(code, reason);
  }

  /** Lets go of the socket. The owner hears nothing more, and the node waits for the client. */
  abandon(reason: string): void {
    this.#detach();
    this.#socket.close(COMES_BACK, reason);
  }

  /** The socket is of no use any more: a close frame would have to wait for a dead peer. */
  #lose(reason: string): void {
    this.abandon(reason);
    this.#owner.ended({ code: COMES_BACK, reason, wasClean: false });
  }

  #detach(): void {
    this.#heartbeat.stop();
    clearTimeout(this.#ackTimer);
    this.#isOpen = false;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
  }

  #socketOpened(): void {
    if (!this.#reliable) {
      this.#isOpen = true;
      this.#owner.opened(undefined);
    } else if (this.#socket.protocol !== SUBPROTOCOL) {
      const reason = `the server does not speak ${SUBPROTOCOL}: set the option reliable to false`;
      this.#detach();
      this.#socket.close(1000);
      this.#owner.ended({ code: CONNECTION_LOST, reason, wasClean: false });
    }
  }

  #frame(data: unknown): void {
    if (!this.#reliable) return this.#owner.received(data);
    this.#heartbeat.heard();
    try {
      const frame = decode(data);
      if ('control' in frame) return this.#control(frame.control);
      if (!this.#isOpen || !this.#session) throw new ProtocolError('the node sent a message before its welcome');
      this.#session.received += 1;
      if (this.#session.token !== undefined) this.#planAck(this.#session);
      this.#owner.received(frame.message);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#detach();
      // A page cannot close with 1002.
      this.#socket.close(1000, error.message);
      this.#owner.ended({ code: PROTOCOL_BROKEN, reason: error.message, wasClean: false });
    }
  }

  #control(control: Control): void {
    if (control.type === 'ack') this.#owner.acknowledged(control.received);
    if (control.type !== 'welcome') return;
    if (this.#isOpen) throw new ProtocolError('the node sent a second welcome');
    if (control.resumed && !this.#session) throw new ProtocolError('the node resumed what was not offered');
    const received = control.resumed ? this.#acknowledged : 0;
    this.#session = { token: control.resume?.token, received };
    this.#acknowledged = received;
    this.#isOpen = true;
    this.#owner.opened(control);
  }

  #planAck(session: Session): void {
    if (session.received - this.#acknowledged >= ACK_AFTER_MESSAGES) return this.#ack(session);
    this.#ackTimer ??= setTimeout(() => this.#ack(session), ACK_AFTER_MS);
  }

  #ack(session: Session): void {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    this.#acknowledged = session.received;
    this.#socket.send(encodeAck(session.received));
  }
}
