/** The part of a WebSocket that this library uses: the browser's class has it, and that of the package `ws`. */
export interface Socket {
  binaryType: string;
  readonly bufferedAmount: number;
  readonly extensions: string;
  readonly protocol: string;
  readonly readyState: number;
  onopen: ((event: any) => any) | null;
  onmessage: ((event: any) => any) | null;
  onerror: ((event: any) => any) | null;
  onclose: ((event: any) => any) | null;
  send(data: any): void;
  close(code?: number, reason?: string): void;
}

/** A class of WebSockets. */
export interface SocketConstructor {
  new (url: string, protocols?: string[], options?: any): Socket;
}

/** Gives a token, such as a fresh one from the page's own server. */
export type TokenFunction = () => string | Promise<string>;

/** What can be set. All of it is optional. */
export interface JackfieldOptions {
  /** The plugin's own subprotocols, which are offered beside `jackfield.v1`. Default: none. */
  protocols?: string | string[];

  /**
   * Whether to speak `jackfield.v1`: acknowledged messages, resume and heartbeat. With `false` the connection is a
   * plain WebSocket, which also speaks to servers that are no Jackfield node. Default: true.
   */
  reliable?: boolean;

  /**
   * Whether messages that the plugin may have handled are sent again when their session was lost. Then it may handle
   * them twice. Without it, the event `open` lists them. Default: false.
   */
  resendAfterReset?: boolean;

  /**
   * The token, or a function that is asked for it before each attempt to connect. If it throws, the attempt has
   * failed, and another one follows. Without a function, an expired token (4002, 4401) closes the client for good.
   *
   * @example { token: async () => (await fetch('/token')).text() }
   */
  token?: string | TokenFunction;

  /**
   * Where the token stands: in the query, as the subprotocol `bearer.TOKEN`, or in the header `Authorization`, which
   * only the class of the package `ws` can send. Default: `'query'`.
   */
  tokenIn?: 'query' | 'subprotocol' | 'header';

  /** The query parameter of the token. Default: `'token'`. */
  tokenParameter?: string;

  /** The longest wait before the first new attempt, in milliseconds. It doubles with each attempt. Default: 1000. */
  firstDelayMs?: number;

  /** The longest wait before any attempt, in milliseconds. Default: 30000. */
  longestDelayMs?: number;

  /** The attempts to connect again until the client closes for good. Default: `Infinity`. */
  maxAttempts?: number;

  /** How long an attempt to connect may take, with its token, in milliseconds. Default: 10000. */
  connectTimeoutMs?: number;

  /** The silence after which the node is asked for a sign of life, in milliseconds. 0: never. Default: 20000. */
  heartbeatMs?: number;

  /** How long the node has for this sign of life, in milliseconds. Default: 10000. */
  heartbeatTimeoutMs?: number;

  /** The most messages that wait to be sent or acknowledged. Default: 1000. */
  queueMessages?: number;

  /** The most bytes of these messages. Default: 1048576. */
  queueBytes?: number;

  /** Whether `request` and `notify` can be used, and notifications are events. Default: true. */
  jsonRpc?: boolean;

  /** How long an answer may take, in milliseconds. `Infinity`: for ever. Default: 30000. */
  requestTimeoutMs?: number;

  /**
   * Whether to connect again after a close whose code only the plugin's author can judge: 1000, 1005, 3000 to 3999,
   * and those of 4000 to 4999 that Jackfield gives no meaning. Default: never.
   *
   * @example { reconnectOn: (code) => code === 4100 }
   */
  reconnectOn?: (code: number, reason: string) => boolean;

  /** The class of the socket, such as that of the package `ws`. Default: `globalThis.WebSocket`. */
  WebSocket?: SocketConstructor;
}

/** The options with their defaults. */
export type Settings = Required<Omit<JackfieldOptions, 'token' | 'protocols'>> & {
  protocols: string[];
  token: string | TokenFunction | undefined;
};

/** Adds the defaults. Throws a `TypeError` or a `RangeError` that names the wrong option. */
export function settingsOf(options: JackfieldOptions): Settings {
  const settings: Settings = {
    reliable: true,
    resendAfterReset: false,
    tokenIn: 'query',
    tokenParameter: 'token',
    firstDelayMs: 1000,
    longestDelayMs: 30_000,
    maxAttempts: Infinity,
    connectTimeoutMs: 10_000,
    heartbeatMs: 20_000,
    heartbeatTimeoutMs: 10_000,
    queueMessages: 1000,
    queueBytes: 1_048_576,
    jsonRpc: true,
    requestTimeoutMs: 30_000,
    reconnectOn: () => false,
    WebSocket: globalThis.WebSocket,
    token: undefined,
    ...given(options),
    protocols: [options.protocols ?? []].flat(),
  };
  for (const [name, value] of Object.entries(settings)) {
    if (typeof value === 'number' && !(value >= 0)) throw new RangeError(`${name} is ${value}: it must be 0 or more`);
  }
  if (!settings.WebSocket) {
    throw new TypeError('there is no WebSocket here: set the option WebSocket, to the class of the package ws');
  }
  if (settings.tokenIn === 'header' && settings.WebSocket === globalThis.WebSocket) {
    throw new TypeError("tokenIn: 'header' needs the class of the package ws as the option WebSocket");
  }
  if (settings.tokenIn === 'subprotocol' && !settings.reliable && !settings.protocols.length) {
    throw new TypeError("tokenIn: 'subprotocol' needs protocols, so that the node can choose one that is no token");
  }
  return settings;
}

/** The options that are there: one that is `undefined` has its default. */
function given(options: JackfieldOptions): object {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
