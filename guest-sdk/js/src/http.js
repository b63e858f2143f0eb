// Requests to the hosts that the manifest allows. Types are in http.d.ts.
//
// `using` gives each handle back before the one that it came from: a collector might not.

import { handle } from 'wasi:http/outgoing-handler@0.2.4';
import { Fields, httpErrorCode, OutgoingBody, OutgoingRequest, RequestOptions } from 'wasi:http/types@0.2.4';
import { bytes, entries, options, text, whole, wrong } from './arguments.js';
import { HeaderList } from './header-list.js';
import { parseJson } from './json.js';
import { u64 } from './numbers.js';
import { ask, done, failed } from './result.js';
import { decode, encode } from './utf8.js';

/** What one call writes at most, as the interface of streams has it. */
const WRITE_BYTES = 4096;

/** What one call reads at most. */
const READ_BYTES = 65536;

export function request(url, given = {}) {
  const { method, headers, body, timeoutMs } = options('request: options', given, ['method', 'headers', 'body', 'timeoutMs']);
  const target = split(text('request: url', url));
  if (!target) return failed('invalid-argument', `${JSON.stringify(url)} is no URL: write https://HOST/PATH`);
  const verb = text('request: method', method ?? (body === undefined ? 'GET' : 'POST')).toUpperCase();
  const fields = entries('request: headers', headers ?? {}, text);
  const content = body === undefined ? new Uint8Array() : bytes('request: body', body);
  const limit = timeoutMs === undefined ? undefined : u64(whole('request: timeoutMs', timeoutMs, 2 ** 31) * 1e6);
  return ask('request', () => send(verb, target, fields, content, limit), toError);
}

function send(method, { scheme, authority, path }, headers, body, limit) {
  const outgoing = new OutgoingRequest(Fields.fromList(headers.map(([name, value]) => [name.toLowerCase(), encode(value)])));
  part('method', () => outgoing.setMethod(METHODS.includes(method) ? { tag: method.toLowerCase() } : { tag: 'other', val: method }));
  part('scheme', () => outgoing.setScheme({ tag: scheme }));
  part('host', () => outgoing.setAuthority(authority));
  part('path', () => outgoing.setPathWithQuery(path));
  const content = outgoing.body();
  using answer = handle(outgoing, limit === undefined ? undefined : timeouts(limit));
  // Who wants no more of the body, a server or the node, says why by the answer.
  const unwritten = write(content, body);
  wait(answer);
  const answered = answer.get();
  if (unwritten && answered?.tag !== 'ok') throw unwritten;
  using incoming = nested(nested(answered));
  return response(incoming);
}

/** Sets a part of the request. The interface's error has nothing to say. */
function part(what, set) {
  try {
    set();
  } catch {
    throw refusal({ tag: 'invalid-argument', val: `the request's ${what} is wrong` });
  }
}

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE', 'CONNECT'];

function timeouts(limit) {
  const given = new RequestOptions();
  given.setConnectTimeout(limit);
  given.setFirstByteTimeout(limit);
  given.setBetweenBytesTimeout(limit);
  return given;
}

/** Writes the body; answers with the error, if there was one. */
function write(body, content) {
  try {
    writeParts(body, content);
    OutgoingBody.finish(body, undefined);
  } catch (error) {
    return error;
  }
}

function writeParts(body, content) {
  if (content.length === 0) return;
  using stream = body.write();
  for (let at = 0; at < content.length; at += WRITE_BYTES) {
    stream.blockingWriteAndFlush(content.slice(at, at + WRITE_BYTES));
  }
}

function response(incoming) {
  const status = incoming.status();
  using fields = incoming.headers();
  const headers = fields.entries().map(([name, value]) => [name.toLowerCase(), decode(value)]);
  const body = read(incoming);
  return {
    status,
    ok: status >= 200 && status < 300,
    headers: new HeaderList(headers),
    body,
    text: () => decode(body),
    json: () => parseJson(body),
  };
}

function read(incoming) {
  using body = incoming.consume();
  using stream = body.stream();
  const parts = [];
  try {
    for (;;) parts.push(stream.blockingRead(u64(READ_BYTES)));
  } catch (error) {
    if (error.payload?.tag !== 'closed') throw error;
  }
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function wait(answer) {
  using pollable = answer.subscribe();
  pollable.block();
}

/** The value of a result within another value; its error is thrown as that of a function is. */
function nested(result) {
  if (result?.tag === 'ok') return result.val;
  throw refusal(result?.val ?? { tag: 'no-answer' });
}

/** An error as the engine throws that of a function. */
function refusal(payload) {
  return Object.assign(new Error(payload.tag), { payload });
}

/** An error code of the interface, or an error of a stream. */
function toError(payload) {
  if (payload?.tag === 'last-operation-failed') {
    const code = httpErrorCode(payload.val);
    // Its first line says what; the rest is where in the node.
    return code ? toError(code) : failed('stream', payload.val.toDebugString().split('\n')[0]);
  }
  const code = payload?.tag ?? 'invalid-argument';
  const detail = payload?.val;
  const message = detail === undefined || detail === null ? code : typeof detail === 'string' ? detail : JSON.stringify(detail);
  return failed(code, message);
}

/** A URL's scheme, its authority, and its path with the query. */
function split(url) {
  const [, scheme, authority, path] = /^(https?):\/\/([^/?#]+)([^#]*)/i.exec(url) ?? [];
  return scheme && { scheme: scheme.toUpperCase(), authority, path: path.startsWith('/') ? path : `/${path}` };
}
