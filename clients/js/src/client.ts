import { Backoff, retryAfterMs } from './backoff.js';
import { COMES_BACK, CONNECTION_LOST, verdictOn } from './close-codes.js';
import { Connection, type End, type Session } from './connection.js';
import { ClosedError, ProtocolError, SessionLostError } from './errors.js';
import { ClosedEvent, FailedEvent, NotificationEvent, OpenEvent, ReconnectingEvent } from './events.js';
import type { JackfieldEventMap } from './events.js';
import { type JackfieldOptions, type Settings, settingsOf } from './options.js';
import { SUBPROTOCOL, type Welcome, resumeProtocol } from './protocol.js';
import { type Params, type RequestOptions, Requests, encodeCall, parseIncoming } from './requests.js';
import { type Data, type Outgoing, SendQueue, byteLength } from './send-queue.js';

/** A connection that has lasted so long is stable: the next wait is short again. In milliseconds. */
const STABLE_AFTER_MS = 10_000;

/** The bytes in a socket's buffer above which messages wait in the queue, where they can still be taken back. */
const HIGH_WATER_BYTES = 256 * 1024;

/** Between two looks at a full buffer, in milliseconds. A WebSocket does not say when it has drained. */
const LOOK_AGAIN_MS = 10;

/** The longest reason of a close, in bytes. */
const REASON_BYTES = 123;

type Handler<E extends Event> = ((event: E) => unknown) | null;
type ListenerOptions = Parameters<EventTarget['addEventListener']>[2];
type Listener<E extends Event> = Handler<E> | { handleEvent(event: E): unknown };

/**
 * A client of a Jackfield node. It has the shape of a WebSocket, and comes back when its connection breaks.
 *
 * It differs from a WebSocket in three points. `open` comes again after each reconnect. `close` comes only when the
 * client does not reconnect any more. `send` can be called while there is no connection.
 *
 * @example
 * const client = new Jackfield('wss://example.com/lobby', { token: async () => (await fetch('/token')).text() });
 * client.onopen = ({ resumed }) => { if (!resumed) client.send('enter tea'); };
 * client.onmessage = ({ data }) => console.log(data);
 * client.onclose = ({ code, reason }) => console.log(`ended for good: ${code} ${reason}`);
 */
export class Jackfield extends EventTarget {
  static readonly CONNECTING = 0;
  static readonly OPEN = 1;
  static readonly CLOSING = 2;
  static readonly CLOSED = 3;
  readonly CONNECTING = 0;
  readonly OPEN = 1;
  readonly CLOSING = 2;
  readonly CLOSED = 3;

  readonly #settings: Settings;
  readonly #address: URL;
  readonly #queue: SendQueue;
  readonly #requests = new Requests();
  readonly #backoff: Backoff;
  readonly #handlers = new Map<string, Handler<any>>();
  readonly #page = new AbortController();
  #readyState: 0 | 1 | 2 | 3 = Jackfield.CONNECTING;
  #binaryType: 'blob' | 'arraybuffer' = 'blob';
  /** Until it is open, `#session` is what it offers. */
  #connection: Connection | undefined;
  #session: Session | undefined;
  #clientId: string | undefined;
  #protocol = '';
  #resumed = false;
  /** With what the client closes, or has closed. */
  #closed: ClosedError | undefined;
  /** Names one attempt to connect: a token that arrives after the attempt has failed is not used. */
  #attempt: object | undefined;
  #attemptTimer: ReturnType<typeof setTimeout> | undefined;
  #waitTimer: ReturnType<typeof setTimeout> | undefined;
  /** Whether the node has said how long to wait. */
  #isTold = false;
  #stableTimer: ReturnType<typeof setTimeout> | undefined;
  #flushTimer: ReturnType<typeof setTimeout> | undefined;

  /**
   * Begins to connect. As for a WebSocket, the second argument may also be the plugin's subprotocols.
   *
   * Throws a `SyntaxError` (a `DOMException`) or a `TypeError` for an address that is none of a WebSocket, and a
   * `TypeError` or a `RangeError` for a wrong option.
   */
  constructor(url: string | URL, options: JackfieldOptions | string | string[] = {}) {
    super();
    const isProtocols = typeof options === 'string' || Array.isArray(options);
    this.#settings = settingsOf(isProtocols ? { protocols: options } : options);
    const { queueMessages, queueBytes, reliable, firstDelayMs, longestDelayMs } = this.#settings;
    this.#address = addressOf(url);
    this.#queue = new SendQueue(queueMessages, queueBytes, reliable);
    this.#backoff = new Backoff(firstDelayMs, longestDelayMs);
    const { signal } = this.#page;
    globalThis.addEventListener?.('online', () => this.#hurry(), { signal });
    const { document } = globalThis;
    document?.addEventListener('visibilitychange', () => document.hidden || this.#hurry(), { signal });
    globalThis.addEventListener?.('pagehide', ({ persisted }) => persisted && this.#putAway(), { signal });
    globalThis.addEventListener?.('pageshow', ({ persisted }) => persisted && this.#takeOut(), { signal });
    void this.#connect();
  }

  /** The address, without the token. */
  get url(): string {
    return this.#address.href;
  }

  /** 0 while there is no connection and one is expected, 1 while there is one, 2 while it closes, 3 for good. */
  get readyState(): 0 | 1 | 2 | 3 {
    return this.#readyState;
  }

  /** The subprotocol that the plugin has chosen, or the empty string. */
  get protocol(): string {
    return this.#protocol;
  }

  /** The extensions of the WebSocket protocol that are in use, such as `permessage-deflate`. */
  get extensions(): string {
    return this.#connection?.socket.extensions ?? '';
  }

  /** The bytes that were given to `send` and have not left this machine. */
  get bufferedAmount(): number {
    return this.#queue.waitingBytes + (this.#connection?.socket.bufferedAmount ?? 0);
  }

  /** As what binary messages arrive: `'blob'`, which is the default, or `'arraybuffer'`. */
  get binaryType(): 'blob' | 'arraybuffer' {
    return this.#binaryType;
  }

  set binaryType(type: 'blob' | 'arraybuffer') {
    this.#binaryType = type;
    if (this.#connection) this.#connection.socket.binaryType = type;
  }

  /** The client id that the plugin knows, or `undefined` before the first connection and with `reliable: false`. */
  get clientId(): string | undefined {
    return this.#clientId;
  }

  /** Whether the last connection has gone on as the client that was there before. */
  get resumed(): boolean {
    return this.#resumed;
  }

  /** The number of messages that were sent and that the plugin has not handled yet. 0 with `reliable: false`. */
  get unacknowledged(): number {
    return this.#queue.unacknowledged;
  }

  // What is read fits a WebSocket, so that a client can be used as one; what is set gets the events of a client.
  get onopen(): Handler<any> {
    return this.#handlers.get('open') ?? null;
  }

  set onopen(handler: Handler<OpenEvent>) {
    this.#setHandler('open', handler);
  }

  get onmessage(): Handler<any> {
    return this.#handlers.get('message') ?? null;
  }

  set onmessage(handler: Handler<MessageEvent>) {
    this.#setHandler('message', handler);
  }

  get onerror(): Handler<any> {
    return this.#handlers.get('error') ?? null;
  }

  set onerror(handler: Handler<FailedEvent>) {
    this.#setHandler('error', handler);
  }

  get onclose(): Handler<any> {
    return this.#handlers.get('close') ?? null;
  }

  set onclose(handler: Handler<ClosedEvent>) {
    this.#setHandler('close', handler);
  }

  /**
   * Sends a message now, or when there is a connection again. Bytes are copied. Messages arrive in the order of the
   * calls; only what is sent within an `open` handler of a new session goes ahead of what has waited for it.
   *
   * Throws a `QueueFullError` if too much waits already, and a `ClosedError` if the client is closed.
   */
  send(data: Data): void {
    this.#send(data);
  }

  /**
   * Sends a message, and waits until the plugin has handled it.
   *
   * Rejects as `send` throws. Rejects with a `SessionLostError` when it cannot be known any more whether the plugin
   * has handled the message, and with a `ClosedError` when the client closes before it is known.
   *
   * @example await client.sendAcknowledged('buy 3'); // the plugin has it, and no reconnect can lose it
   */
  sendAcknowledged(data: Data): Promise<void> {
    return new Promise((resolve, reject) => {
      if (!this.#settings.reliable) throw new TypeError('sendAcknowledged needs the option reliable');
      this.#send(data, (error) => (error ? reject(error) : resolve()));
    });
  }

  /**
   * Calls a method of the plugin over JSON-RPC 2.0, and waits for its result. A plugin answers with the text
   * `{"jsonrpc":"2.0","id":ID,"result":…}`.
   *
   * Rejects with a `RequestError` if the plugin answers with an error, with a `TimeoutError` (a `DOMException`) if it
   * does not answer in time, with the signal's reason if that aborts, and else as `sendAcknowledged`.
   *
   * @example const people = await client.request('people', { room: 'tea' }, { timeoutMs: 5000 });
   */
  request(method: string, params?: Params, options: RequestOptions = {}): Promise<unknown> {
    if (!this.#settings.jsonRpc) return Promise.reject(new TypeError('request needs the option jsonRpc'));
    return this.#requests.start(
      method,
      params,
      { timeoutMs: options.timeoutMs ?? this.#settings.requestTimeoutMs, signal: options.signal },
      (text) => this.#send(text),
      (outgoing) => this.#queue.withdraw(outgoing),
    );
  }

  /** Calls a method of the plugin over JSON-RPC 2.0 without an answer. Throws as `send` does. */
  notify(method: string, params?: Params): void {
    if (!this.#settings.jsonRpc) throw new TypeError('notify needs the option jsonRpc');
    this.#send(encodeCall(method, params));
  }

  /**
   * Closes the client for good. What `send` has taken is sent before; its acknowledgements are not waited for. Without a
   * connection it closes at once, and the node, which cannot be told, waits for the client as long as its `[resume]`
   * says.
   *
   * The code is 1000 or one of 3000 to 4999, and is 1000 if it is left out. The reason has at most 123 bytes. Throws
   * an `InvalidAccessError` or a `SyntaxError` (a `DOMException`) otherwise.
   */
  close(code = 1000, reason = ''): void {
    if (code !== 1000 && !(code >= 3000 && code <= 4999)) {
      throw new DOMException(`${code} is not 1000 and not one of 3000 to 4999`, 'InvalidAccessError');
    }
    if (byteLength(reason) > REASON_BYTES) {
      throw new DOMException(`a reason has at most ${REASON_BYTES} bytes`, 'SyntaxError');
    }
    if (this.#closed) return;
    this.#closed = new ClosedError(code, reason);
    if (this.#readyState === Jackfield.OPEN && this.#connection) {
      this.#queue.release();
      this.#write(Infinity);
      this.#readyState = Jackfield.CLOSING;
      return this.#connection.close(code, reason);
    }
    this.#stopAttempt('the client closes');
    this.#readyState = Jackfield.CLOSING;
    // Events come after the call, as those of a WebSocket do.
    queueMicrotask(() => this.#finish({ code, reason, wasClean: true }));
  }

  #setHandler(type: string, handler: Handler<any>): void {
    const before = this.#handlers.get(type);
    if (before) super.removeEventListener(type, before);
    if (handler) super.addEventListener(type, handler);
    this.#handlers.set(type, handler);
  }

  /** One attempt to connect. All of its ends but one lead to `#lost`: a wrong subprotocol never gets better. */
  async #connect(): Promise<void> {
    const attempt = {};
    const { connectTimeoutMs, token: source } = this.#settings;
    this.#attempt = attempt;
    this.#attemptTimer = setTimeout(() => {
      this.#stopAttempt('not open in time');
      this.#lost({ code: CONNECTION_LOST, reason: `not open within ${connectTimeoutMs} ms`, wasClean: false });
    }, connectTimeoutMs);
    let token: string | undefined;
    try {
      // It is asked each time: a page cannot tell a refused token from a broken network, both are 1006.
      token = await (typeof source === 'function' ? source() : source);
    } catch (error) {
      if (this.#attempt !== attempt) return;
      this.dispatchEvent(new FailedEvent(error));
      return this.#lost({ code: CONNECTION_LOST, reason: 'the token function failed', wasClean: false });
    }
    if (this.#attempt !== attempt) return;
    try {
      this.#open(token);
    } catch (error) {
      this.dispatchEvent(new FailedEvent(error));
      this.#finish({ code: CONNECTION_LOST, reason: 'the WebSocket cannot be made', wasClean: false });
    }
  }

  #open(token: string | undefined): void {
    const { WebSocket, reliable, tokenIn, tokenParameter } = this.#settings;
    const address = new URL(this.#address);
    const protocols = [...this.#settings.protocols];
    const session = this.#session;
    if (reliable) protocols.unshift(SUBPROTOCOL);
    // Only the node knows whether it has the client still: a proxy may have made up the close code.
    if (session?.token !== undefined) protocols.push(resumeProtocol(session.token, session.received));
    let headers: object | undefined;
    if (token !== undefined) {
      if (tokenIn === 'query') address.searchParams.set(tokenParameter, token);
      if (tokenIn === 'subprotocol') protocols.push(`bearer.${token}`);
      if (tokenIn === 'header') headers = { authorization: `Bearer ${token}` };
    }
    // The browser's class has two parameters, and the package ws takes headers as the third.
    const socket = headers
      ? new WebSocket(address.href, protocols, { headers })
      : new WebSocket(address.href, protocols);
    socket.binaryType = this.#binaryType;
    this.#connection = new Connection(socket, session?.token === undefined ? undefined : session, this.#settings, {
      opened: (welcome) => this.#opened(socket.protocol, welcome),
      received: (message) => this.#received(message),
      acknowledged: (received) => {
        this.#queue.acknowledge(received);
        this.#flush();
      },
      ended: (end) => this.#lost(end),
    });
  }

  #opened(protocol: string, welcome: Welcome | undefined): void {
    this.#resumed = welcome?.resumed ?? false;
    let unknown: Outgoing[] = [];
    if (welcome?.resumed) this.#queue.resume(welcome.received);
    else unknown = this.#queue.reset(this.#settings.resendAfterReset);
    clearTimeout(this.#attemptTimer);
    this.#stableTimer = setTimeout(() => this.#backoff.reset(), STABLE_AFTER_MS);
    this.#session = this.#connection?.session;
    this.#clientId = welcome?.client;
    this.#protocol = welcome ? (welcome.subprotocol ?? '') : protocol;
    this.#readyState = Jackfield.OPEN;
    const isKept = this.#settings.resendAfterReset;
    if (!isKept) for (const { settle } of unknown) settle?.(new SessionLostError());
    // The answer to a request of the old session, if there was one, has gone with it.
    if (!this.#resumed) this.#requests.reject('written', new SessionLostError());
    this.dispatchEvent(new OpenEvent(this.#clientId, this.#resumed, isKept ? [] : unknown.map(({ data }) => data)));
    this.#queue.release();
    this.#flush();
  }

  #received(data: unknown): void {
    if (this.#readyState !== Jackfield.OPEN) return;
    const incoming = this.#settings.jsonRpc && typeof data === 'string' ? parseIncoming(data) : undefined;
    if (incoming && 'method' in incoming) {
      this.dispatchEvent(new NotificationEvent(incoming.method, incoming.params));
    } else if (!incoming || !this.#requests.answer(incoming.id, incoming.result, incoming.error)) {
      this.dispatchEvent(new MessageEvent('message', { data, origin: this.#address.origin }));
    }
  }

  #send(data: Data, settle?: (error?: Error) => void): Outgoing {
    if (this.#closed) throw this.#closed;
    const outgoing = this.#queue.push(data, settle);
    this.#flush();
    return outgoing;
  }

  /** Writes what waits, and comes back when the socket's buffer is full. */
  #flush(): void {
    clearTimeout(this.#flushTimer);
    this.#write(HIGH_WATER_BYTES);
    if (this.#queue.isWaiting && this.#connection?.isWritable) {
      this.#flushTimer = setTimeout(() => this.#flush(), LOOK_AGAIN_MS);
    }
  }

  #write(highWaterBytes: number): void {
    const connection = this.#connection;
    if (this.#readyState !== Jackfield.OPEN || !connection) return;
    while (connection.isWritable && connection.socket.bufferedAmount < highWaterBytes) {
      const outgoing = this.#queue.next();
      if (!outgoing) return;
      connection.write(outgoing.data);
    }
  }

  /** The connection, or the attempt to get one, has ended. */
  #lost(end: End): void {
    this.#forgetConnection();
    if (this.#readyState === Jackfield.CLOSING) return this.#finish(end);
    this.#readyState = Jackfield.CONNECTING;
    // Without acknowledgements nobody knows what has become of them.
    if (!this.#settings.reliable) this.#requests.reject('written', new SessionLostError());
    const { code, reason } = end;
    const isFirst = this.#backoff.attempts === 0;
    if (this.#backoff.attempts >= this.#settings.maxAttempts || !this.#comesBackAfter(code, reason)) {
      return this.#finish(end);
    }
    const backoffMs = this.#backoff.next();
    // The node has not asked for a wait, and the other clients do not come at the same time.
    const isAlone = code === COMES_BACK || verdictOn(code) === 'renew-token';
    const toldMs = retryAfterMs(reason);
    this.#isTold = toldMs !== undefined;
    const delayMs = toldMs ?? (isFirst && isAlone ? 0 : backoffMs);
    this.#waitTimer = setTimeout(() => {
      this.#waitTimer = undefined;
      void this.#connect();
    }, delayMs);
    this.dispatchEvent(new ReconnectingEvent(delayMs, code, reason, this.#backoff.attempts));
  }

  #comesBackAfter(code: number, reason: string): boolean {
    switch (verdictOn(code)) {
      case 'reconnect':
        return true;
      case 'renew-token':
        return typeof this.#settings.token === 'function';
      case 'final':
        return false;
      case 'ask':
        try {
          return this.#settings.reconnectOn(code, reason);
        } catch (error) {
          this.dispatchEvent(new FailedEvent(error));
          return false;
        }
    }
  }

  /** The network is there again, or somebody looks at the page. */
  #hurry(): void {
    this.#connection?.probe();
    if (this.#waitTimer === undefined || this.#isTold) return;
    clearTimeout(this.#waitTimer);
    this.#waitTimer = undefined;
    void this.#connect();
  }

  /**
   * The page goes to the browser's back/forward cache. Its socket would stay open there, and the client online, while
   * nothing that arrives is read.
   */
  #putAway(): void {
    if (this.#closed) return;
    this.#stopAttempt('the page is put away');
    this.#readyState = Jackfield.CONNECTING;
    if (!this.#settings.reliable) this.#requests.reject('written', new SessionLostError());
  }

  /** The page comes from the back/forward cache. */
  #takeOut(): void {
    if (!this.#closed && !this.#attempt) void this.#connect();
  }

  #forgetConnection(): void {
    for (const timer of [this.#attemptTimer, this.#waitTimer, this.#stableTimer, this.#flushTimer]) clearTimeout(timer);
    this.#waitTimer = undefined;
    this.#attempt = undefined;
    this.#connection = undefined;
  }

  #stopAttempt(reason: string): void {
    this.#connection?.abandon(reason);
    this.#forgetConnection();
  }

  #finish({ code, reason, wasClean }: End): void {
    this.#forgetConnection();
    this.#readyState = Jackfield.CLOSED;
    this.#page.abort();
    const error = new ClosedError(code, reason);
    this.#closed = error;
    const rest = this.#queue.clear();
    for (const { settle } of rest) settle?.(error);
    this.#requests.reject('all', error);
    if (!wasClean) this.dispatchEvent(new FailedEvent(code === 1002 ? new ProtocolError(reason) : error));
    const dataOf = (written: boolean): Data[] => rest.filter((one) => one.written === written).map(({ data }) => data);
    this.dispatchEvent(new ClosedEvent(code, reason, wasClean, dataOf(true), dataOf(false)));
  }
}

// The events of a client beside those of any EventTarget.
export interface Jackfield {
  addEventListener<K extends keyof JackfieldEventMap>(
    type: K,
    listener: Listener<JackfieldEventMap[K]>,
    options?: ListenerOptions,
  ): void;
  addEventListener(type: string, listener: Listener<Event>, options?: ListenerOptions): void;
  removeEventListener<K extends keyof JackfieldEventMap>(
    type: K,
    listener: Listener<JackfieldEventMap[K]>,
    options?: ListenerOptions,
  ): void;
  removeEventListener(type: string, listener: Listener<Event>, options?: ListenerOptions): void;
}

/** The address of a WebSocket: `http` becomes `ws`, as browsers do it, and a page's path is enough. */
function addressOf(url: string | URL): URL {
  const address = new URL(url, globalThis.location?.href);
  if (address.protocol === 'http:') address.protocol = 'ws:';
  if (address.protocol === 'https:') address.protocol = 'wss:';
  if (address.protocol !== 'ws:' && address.protocol !== 'wss:') {
    throw new DOMException(`${address.href} does not begin with ws: or wss:`, 'SyntaxError');
  }
  address.hash = '';
  return address;
}
