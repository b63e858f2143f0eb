// Buckets: state that outlives connections, instances and builds. Types are in keyvalue.d.ts.

import { Cas, increment, swap } from 'wasi:keyvalue/atomics@0.2.0-draft2';
import { open } from 'wasi:keyvalue/store@0.2.0-draft2';
import { bytes, text, wrong } from './arguments.js';
import { parseJson } from './json.js';
import { u64 } from './numbers.js';
import { ask, done, failed, JackfieldError } from './result.js';
import { decode } from './utf8.js';

/** How often `update` begins anew when another change came first. */
const UPDATE_TRIES = 100;

/** The function of an update may return it: the key stays as it is. */
export const refused = (reason) => new JackfieldError('refused', text('refused: reason', reason));

export function openBucket(name) {
  return new Bucket(text('openBucket: name', name));
}

/** The interface's error: a string for what a log should show, or only a case. */
const toError = ({ tag, val }) => failed(tag, val ?? (tag === 'no-such-store' ? 'there is no such bucket: its manifest does not name it' : tag));

class Bucket {
  #name;
  #handle;

  constructor(name) {
    this.#name = name;
  }

  /** Opened by the first use: a bucket may be made at the top level of a module, where there is no node. */
  #ask(what, work) {
    return ask(`Bucket.${what}`, () => work((this.#handle ??= open(this.#name))), toError);
  }

  get(key) {
    const asked = text('Bucket.get: key', key);
    return this.#ask('get', (bucket) => bucket.get(asked) ?? undefined);
  }

  getText(key) {
    return map(this.get(key), (value) => value && decode(value));
  }

  getJson(key) {
    return parsed(this.get(key));
  }

  set(key, value) {
    const [name, stored] = [text('Bucket.set: key', key), bytes('Bucket.set: value', value)];
    return this.#ask('set', (bucket) => bucket.set(name, stored));
  }

  delete(key) {
    const name = text('Bucket.delete: key', key);
    return this.#ask('delete', (bucket) => bucket.delete(name));
  }

  exists(key) {
    const name = text('Bucket.exists: key', key);
    return this.#ask('exists', (bucket) => bucket.exists(name));
  }

  keys() {
    return this.#ask('keys', (bucket) => {
      const all = [];
      let cursor;
      do {
        const part = bucket.listKeys(cursor);
        all.push(...part.keys);
        cursor = part.cursor ?? undefined;
      } while (cursor !== undefined);
      return all;
    });
  }

  increment(key, by = 1) {
    const name = text('Bucket.increment: key', key);
    if (!Number.isSafeInteger(by)) throw wrong('Bucket.increment: by', 'a whole number', by);
    return this.#ask('increment', (bucket) => Number(increment(bucket, name, u64(by))));
  }

  update(key, change) {
    return this.#update('update', key, change, done);
  }

  updateJson(key, change) {
    return this.#update('updateJson', key, change, (old) => parsed(done(old)));
  }

  #update(what, key, change, read) {
    const name = text(`Bucket.${what}: key`, key);
    if (typeof change !== 'function') throw wrong(`Bucket.${what}: change`, 'a function', change);
    let cas = this.#ask(what, (bucket) => Cas.new(bucket, name));
    for (let tries = 0; cas.ok && tries < UPDATE_TRIES; tries++) {
      const handle = cas.value;
      const old = this.#ask(what, () => handle.current() ?? undefined);
      const before = old.ok ? read(old.value) : old;
      const after = before.ok ? change(before.value) : before.error;
      if (after instanceof JackfieldError) {
        handle[Symbol.dispose]();
        return { ok: false, error: after };
      }
      const stored = bytes(`Bucket.${what}: what change returned`, after);
      // Where another change came first, the error is a handle of the value that is there now.
      cas = ask(`Bucket.${what}`, () => swap(handle, stored), ({ tag, val }) => (tag === 'cas-failed' ? done(val) : toError(val)));
      if (cas.ok && cas.value === undefined) return done(after);
    }
    if (!cas.ok) return cas;
    cas.value[Symbol.dispose]();
    return failed('conflict', `${name} was changed by others ${UPDATE_TRIES} times in a row`);
  }
}

const map = (result, change) => (result.ok ? done(change(result.value)) : result);

/** A result's bytes, taken as JSON. */
const parsed = (result) => (result.ok && result.value !== undefined ? parseJson(result.value) : result);
