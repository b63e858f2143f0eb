/// <reference path="./globals.d.ts" />

import type { JackfieldError } from './result.js';
import type { HeaderList } from './header-list.js';

export { JackfieldError } from './result.js';
export type { HeaderList };

/** What a call of the node answers: it never throws because of what the node says. */
export type Result<T, Code extends string = ErrorCode> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: JackfieldError<Code> };

/** Why a call had no effect. After `timed-out` alone, it may have had one. */
export type ErrorCode =
  | 'invalid-argument'
  | 'not-found'
  | 'closed'
  | 'taken'
  | 'overloaded'
  | 'limit-exceeded'
  | 'unreachable'
  | 'timed-out'
  | 'denied'
  | 'internal';

/** Why a call to a plugin has no answer. */
export type CallErrorCode =
  | 'unknown-method'
  | 'invalid-argument'
  | 'not-found'
  | 'denied'
  | 'limit-exceeded'
  | 'overloaded'
  | 'unavailable'
  | 'failed';

/** The id of one client, which is one connection: 26 characters that are never used twice. */
export type ClientId = string;

/** One WebSocket message: a string is text, bytes are binary. */
export type Message = string | Uint8Array;

/** What can be sent. An array or a plain object goes out as JSON text. */
export type Content = Message | ArrayBuffer | readonly unknown[] | { readonly [key: string]: any };

/** A small map of strings that lasts as long as its client. */
export type Info = { [key: string]: string };

/** Something that a handler may return, or promise. */
type Answer<T> = T | PromiseLike<T>;

/** The handlers of a plugin. What is left out accepts everybody and does nothing. */
export interface Plugin {
  /** A client asks to come in. Return nothing or an `Acceptance` to accept it, or `refuse(status, reason)`. */
  onConnect?(client: ClientId, handshake: Handshake): Answer<Acceptance | Refusal | void>;
  /** A whole message of a client. The client's next one waits until this has returned. */
  onMessage?(client: ClientId, message: Message): Answer<void>;
  /** A client has left. Its uid and groups no longer count it. */
  onClose?(client: ClientId, departure: Departure): Answer<void>;
  /** A backend or another plugin calls. Return the answer, `callError(…)` or `unknownMethod(method)`. */
  onCall?(caller: Caller, method: string, payload: Uint8Array): Answer<Content | JackfieldError<string> | void>;
  /** A timer fires. */
  onTimer?(name: string): Answer<void>;
  /** This build is about to take over, once on each node. An error refuses the build. */
  onStart?(): Answer<void>;
  /** The last event of this build on this node has ended. */
  onStop?(): Answer<void>;
}

/** A client that asks to come in, as its HTTP request said it. */
export interface Handshake {
  /** The request's path, percent-encoded as it came. */
  readonly path: string;
  /** The query, decoded: `query.get('name')`. */
  readonly query: URLSearchParams;
  readonly headers: HeaderList;
  /** The client's address and port: `127.0.0.1:51234`. */
  readonly remoteAddress: string;
  /** The subprotocols that the client offers, in its order of preference. */
  readonly subprotocols: readonly string[];
  /** The uid that the node has found, where the manifest says how. */
  readonly uid?: string;
}

/** The client comes in, with these. */
export interface Acceptance {
  uid?: string | undefined;
  groups?: string | readonly string[] | undefined;
  info?: Info | undefined;
  /** One of those that the client offered. */
  subprotocol?: string | undefined;
}

/** The client is turned away. `refuse` makes it. */
export interface Refusal {
  readonly status: number;
  readonly reason: string;
}

/** A client that has left, as it was. */
export interface Departure {
  /** The close frame's code. 1005: a frame without one; 1006: no frame. */
  readonly code: number;
  readonly reason: string;
  /** Who ended the connection. */
  readonly by: 'client' | 'plugin' | 'node' | 'network';
  readonly uid?: string;
  readonly groups: readonly string[];
  readonly info: Info;
}

/** Who calls: a backend, by the name of its token (empty if the node asks for none), or a plugin, by its name. */
export interface Caller {
  readonly from: 'api' | 'plugin';
  readonly name: string;
}

/** Whom a send reached. */
export interface Reach {
  /** Clients whose outbox took the message. 0 is no error. */
  clients: number;
  /** Clients of this node that lost it because their outbox was full. */
  dropped: number;
  /** Nodes that could not be told. */
  missing: string[];
}

/** A number, gathered in the whole cluster. */
export interface Count {
  value: number;
  /** Nodes that did not answer. */
  missing: string[];
}

/** A part of a list. */
export interface Page {
  items: string[];
  /** The `cursor` of the next part; undefined after the last one. */
  next: string | undefined;
  /** Nodes that did not answer. */
  missing: string[];
}

/** Which part of a list. `limit` is 1 to 1000, and 1000 if left out. */
export interface Part {
  cursor?: string | undefined;
  limit?: number | undefined;
}

export type Level = 'trace' | 'debug' | 'info' | 'warn' | 'error';

/** `node`: the node where the timer was set fires it. `cluster`: one of the nodes that run the plugin. */
export type TimerScope = 'node' | 'cluster';

/** The plugin: `export default definePlugin({ … })` in src/index.ts or src/index.js. */
export function definePlugin(plugin: Plugin): Plugin;

/** Turns a client away with an HTTP status, 400 to 599, and a text. For `onConnect` to return. */
export function refuse(status: number, reason?: string): Refusal;

/** Sends to all clients of this plugin in the cluster, but those in `exclude`. */
export function sendToAll(message: Content, exclude?: ClientId | readonly ClientId[]): Result<Reach>;
/** Sends to one client. */
export function sendToClient(client: ClientId, message: Content): Result<void>;
/** Sends to the client whose event this is. */
export function reply(message: Content): Result<void>;
/** Sends to every client of each of these uids, once each. */
export function sendToUid(uids: string | readonly string[], message: Content): Result<Reach>;
/** Sends to the members of these groups, once each, but those in `exclude`. */
export function sendToGroup(
  groups: string | readonly string[],
  message: Content,
  exclude?: ClientId | readonly ClientId[],
): Result<Reach>;

/** Gives the client this uid in place of the one it had. */
export function bindUid(client: ClientId, uid: string): Result<void>;
/** Takes the client's uid away; with `uid`, only if it is that one. The value says whether one was taken away. */
export function unbindUid(client: ClientId, uid?: string): Result<boolean>;
/** Whether any client has this uid. */
export function isUidOnline(uid: string): Result<boolean>;
/** The client's uid; undefined if it has none, which is not the same as `not-found`. */
export function getUidByClientId(client: ClientId): Result<string | undefined>;
/** The clients with this uid. */
export function getClientIdsByUid(uid: string, part?: Part): Result<Page>;
/** All uids that some client has, each once. */
export function getAllUids(part?: Part): Result<Page>;

/** Puts the client into the group. Joining again is no error. */
export function joinGroup(client: ClientId, group: string): Result<void>;
/** Takes the client out of the group. Not being in it is no error. */
export function leaveGroup(client: ClientId, group: string): Result<void>;
/** Dissolves the group; its members stay connected. The value counts them. */
export function ungroup(group: string): Result<Count>;
/** How many clients are in the group. */
export function getClientCountByGroup(group: string): Result<Count>;
/** The clients in the group. */
export function getClientIdsByGroup(group: string, part?: Part): Result<Page>;
/** The uids in the group, each once. */
export function getUidsByGroup(group: string, part?: Part): Result<Page>;
/** How many different uids are in the group. */
export function getUidCountByGroup(group: string): Result<Count>;
/** All groups that have members. */
export function getAllGroups(part?: Part): Result<Page>;

/** Whether this client is connected. */
export function isOnline(client: ClientId): Result<boolean>;
/** How many clients this plugin has in the cluster. */
export function getAllClientCount(): Result<Count>;
/**
 * Closes a client: what is queued for it goes out, then `lastMessage`, then a close frame. `code`
 * is 1000 to 1003, 1007 to 1014 or 3000 to 4999, and 1000 if left out; `reason` has at most 123 bytes.
 */
export function closeClient(client: ClientId, code?: number, reason?: string, lastMessage?: Content): Result<void>;
/** Closes every client of the uid. The value counts them. */
export function closeUid(uid: string, code?: number, reason?: string, lastMessage?: Content): Result<Count>;
/** Closes every client in the group. The value counts them. */
export function closeGroup(group: string, code?: number, reason?: string, lastMessage?: Content): Result<Count>;

/** The client's info; empty when nothing was set. */
export function getInfo(client: ClientId): Result<Info>;
/** Replaces the client's info. */
export function setInfo(client: ClientId, info: Info): Result<void>;
/** Sets each key to its value, and deletes those given as null. The value is the whole info after it. */
export function updateInfo(
  client: ClientId,
  changes: { readonly [key: string]: string | null | undefined },
): Result<Info>;

/** Calls another plugin of this node, and waits for its answer. Its manifest must name this one under `[calls] allow`. */
export function call(plugin: string, method: string, payload?: Content): Result<Uint8Array, CallErrorCode>;
/** An error for `onCall` to return. */
export function callError(code: CallErrorCode, message: string): JackfieldError<CallErrorCode>;
/** The error for a method that the plugin does not have, for `onCall` to return. */
export function unknownMethod(method: string): JackfieldError<CallErrorCode>;

/**
 * Sets a timer, in place of one of the same name and scope. It fires `afterMs` from now, and then
 * every `everyMs`. Both are 10 ms to 366 days. The scope is `node` if left out.
 */
export function setTimer(
  name: string,
  afterMs: number,
  options?: { everyMs?: number | undefined; scope?: TimerScope | undefined },
): Result<void>;
/** Ends a timer. The value says whether there was one. */
export function cancelTimer(name: string, options?: { scope?: TimerScope | undefined }): Result<boolean>;

/** What runs, and where. */
export function identify(): { plugin: string; generation: number; node: string };
/** Writes one line to the node's log. `console.log` and the others do the same. */
export function log(level: Level, message: string): void;
/** Waits, which keeps the instance from other events and counts against `wait_timeout`. */
export function sleep(ms: number): void;

/** The settings under `[config]` in the manifest. */
export const config: {
  get(name: string): string | undefined;
  all(): { [name: string]: string };
};

/** The JSON in a message, a payload or a value of a bucket. */
export function parseJson<T = unknown>(content: Message): Result<T, 'invalid-argument'>;
/** Bytes as text; a text as it is. */
export function toText(content: Message): string;
/** All items of a list: `allPages((cursor) => getAllUids({ cursor }))`. */
export function allPages<Code extends string>(
  page: (cursor: string | undefined) => Result<Page, Code>,
): Result<string[], Code>;
