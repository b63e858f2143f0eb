// The globals that the engine does not have, or has in a way that misleads.

import { getRandomBytes } from 'wasi:random/random@0.2.0';
import { log } from 'jackfield:plugin/runtime@0.1.0';
import { needNode, running, show } from './event.js';
import { addJob, Promise as SdkPromise } from './promise.js';
import { u64 } from './numbers.js';
import { URLSearchParams } from './search-params.js';
import { decode, encode } from './utf8.js';

const random = (length) => getRandomBytes(u64(length));

// The SDK's own frames are not shown, and must not push out the author's.
Error.stackTraceLimit = 30;

// QuickJS's own numbers begin with the same seed in every instance. SpiderMonkey's come from the node.
const seeded = Math.random;
Math.random = () => {
  if (!running() && JACKFIELD_ENGINE === 'quickjs') return seeded();
  needNode('Math.random');
  const [first, ...rest] = random(7);
  return rest.reduce((number, byte) => number * 256 + byte, first & 31) / 2 ** 53;
};

const line = (level) => (...values) => {
  if (running()) log(level, values.map(show).join(' ').toWellFormed());
};
globalThis.console = {
  log: line('info'),
  info: line('info'),
  warn: line('warn'),
  error: line('error'),
  debug: line('debug'),
  trace: line('trace'),
};

for (const name of ['setTimeout', 'setInterval', 'setImmediate']) {
  globalThis[name] = () => {
    throw new Error(`${name} cannot work in a plugin: nothing runs between events. Use setTimer(name, afterMs) and onTimer.`);
  };
}

const crypto = {
  getRandomValues(array) {
    needNode('crypto.getRandomValues');
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(random(array.byteLength));
    return array;
  },
  randomUUID() {
    needNode('crypto.randomUUID');
    const bytes = random(16);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
  },
};

if (JACKFIELD_ENGINE === 'quickjs') {
  globalThis.Promise = SdkPromise;
  globalThis.queueMicrotask = addJob;
  delete Array.fromAsync; // it would return a promise of the engine's
  globalThis.crypto = crypto;
  globalThis.URLSearchParams = URLSearchParams;
  globalThis.TextEncoder = class TextEncoder {
    encoding = 'utf-8';
    encode(string = '') {
      return encode(String(string));
    }
  };
  globalThis.TextDecoder = class TextDecoder {
    encoding = 'utf-8';
    constructor(label = 'utf-8', { fatal = false } = {}) {
      if (!/^utf-?8$/i.test(label)) throw new RangeError(`TextDecoder: only utf-8 is known, not ${label}`);
      this.fatal = fatal;
    }
    decode(bytes = new Uint8Array()) {
      const view = ArrayBuffer.isView(bytes) ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : new Uint8Array(bytes);
      const string = decode(view, this.fatal);
      return string.startsWith('\ufeff') ? string.slice(1) : string;
    }
  };
}
