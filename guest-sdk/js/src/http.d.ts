// Requests. The manifest names the hosts: [http] allow = ["https://api.example.com"]

import type { Content, HeaderList, Result } from './index.js';

export interface Response {
  readonly status: number;
  /** The status is 200 to 299. A redirect is not: none is followed. */
  readonly ok: boolean;
  readonly headers: HeaderList;
  readonly body: Uint8Array;
  text(): string;
  json<T = unknown>(): Result<T, 'invalid-argument'>;
}

/**
 * Sends a request, and waits for the whole answer. Any status is an answer. The error's code is
 * WASI's, as `connection-timeout`. The node ends a request after its `http_timeout`, 4 seconds.
 */
export function request(
  url: string,
  options?: {
    /** POST if there is a body, and GET without one. */
    method?: string | undefined;
    headers?: { readonly [name: string]: string } | undefined;
    /** An array or a plain object is sent as JSON; its `content-type` is yours to set. */
    body?: Content | undefined;
    /** How long to wait for the connection, for the answer, and for each part of it. */
    timeoutMs?: number | undefined;
  },
): Result<Response, string>;
