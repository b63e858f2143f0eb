import { RequestError } from './errors.js';
import type { Outgoing } from './send-queue.js';

/** The parameters of a request: JSON-RPC allows an array or an object. */
export type Params = readonly unknown[] | object;

/** What can be set for one request. */
export interface RequestOptions {
  /** How long the answer may take, in milliseconds. Default: the option `requestTimeoutMs` of the client. */
  timeoutMs?: number;
  /** Gives the request up. */
  signal?: AbortSignal;
}

/** A text that is an answer or a notification of JSON-RPC 2.0. */
export type Incoming =
  | { readonly id: number; readonly result: unknown; readonly error?: RequestError }
  | { readonly method: string; readonly params: unknown };

interface Pending {
  readonly outgoing: Outgoing;
  readonly settle: (result: unknown, error?: unknown) => void;
}

/** The longest time that `setTimeout` accepts, in milliseconds. It takes a longer one for 1. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

/** The requests that wait for their answers. */
export class Requests {
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;

  /** Sends a request and waits for its answer. `send` and `withdraw` are those of the send queue. */
  start(
    method: string,
    params: Params | undefined,
    { timeoutMs, signal }: { timeoutMs: number; signal?: AbortSignal | undefined },
    send: (text: string) => Outgoing,
    withdraw: (outgoing: Outgoing) => void,
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const id = ++this.#lastId;
      const outgoing = send(encodeCall(method, params, id));
      const giveUp = (reason: unknown): void => {
        withdraw(outgoing);
        settle(undefined, reason);
      };
      const abort = (): void => giveUp(signal?.reason);
      const timedOut = (): void =>
        giveUp(new DOMException(`${method} was not answered within ${timeoutMs} ms`, 'TimeoutError'));
      const timer = timeoutMs > LONGEST_TIMEOUT_MS ? undefined : setTimeout(timedOut, timeoutMs);
      const settle = (result: unknown, error?: unknown): void => {
        this.#pending.delete(id);
        clearTimeout(timer);
        signal?.removeEventListener('abort', abort);
        if (error === undefined) resolve(result);
        else reject(error);
      };
      signal?.addEventListener('abort', abort);
      this.#pending.set(id, { outgoing, settle });
    });
  }

  /** Gives the answer to its request. Returns false if there is none. */
  answer(id: number, result: unknown, error?: RequestError): boolean {
    const pending = this.#pending.get(id);
    pending?.settle(result, error);
    return pending !== undefined;
  }

  /** No answer comes any more to the requests that were sent, or to all of them. */
  reject(which: 'written' | 'all', error: Error): void {
    for (const { outgoing, settle } of [...this.#pending.values()]) {
      if (which === 'all' || outgoing.written) settle(undefined, error);
    }
  }
}

/** A request, or without an id a notification. */
export function encodeCall(method: string, params: Params | undefined, id?: number): string {
  return JSON.stringify({ jsonrpc: '2.0', method, params, id });
}

/** Reads a text as an answer or a notification. Any other text is `undefined`. */
export function parseIncoming(text: string): Incoming | undefined {
  // Most texts are the page's own: they are not parsed twice.
  if (!text.startsWith('{') || !text.includes('"jsonrpc"')) return undefined;
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { jsonrpc, id, method, params, result, error } = value;
  if (jsonrpc !== '2.0') return undefined;
  if (id === undefined) return typeof method === 'string' ? { method, params } : undefined;
  if (typeof id !== 'number' || method !== undefined) return undefined;
  if (error === undefined) return 'result' in value ? { id, result } : undefined;
  const { code, message, data } = (error ?? {}) as { code?: unknown; message?: unknown; data?: unknown };
  if (typeof code !== 'number' || typeof message !== 'string') return undefined;
  return { id, result, error: new RequestError(code, message, data) };
}
