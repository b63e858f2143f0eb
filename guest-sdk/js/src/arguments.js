// Checks of arguments. A value of the wrong type would otherwise end the event in the engine, with
// a text that names neither the function nor the argument.

import { encode } from './utf8.js';

/** What was found in place of what was expected. */
function found(value) {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return 'an array';
  if (typeof value !== 'object') return `the ${typeof value} ${String(value).slice(0, 40)}`;
  if (typeof value.then === 'function') return 'a promise (write `await` before it)';
  return isPlain(value) ? 'an object' : `an object of the class ${value.constructor?.name}`;
}

export const wrong = (what, expected, value) =>
  new TypeError(`${what} must be ${expected}, not ${found(value)}`);

/** A string that is valid Unicode: half of a surrogate pair becomes U+FFFD. */
export function text(what, value) {
  if (typeof value !== 'string') throw wrong(what, 'a string', value);
  return value.isWellFormed() ? value : value.toWellFormed();
}

export const optionalText = (what, value) =>
  value === undefined || value === null ? undefined : text(what, value);

/** A list of names, which may be given as one string. */
export function names(what, value) {
  if (typeof value === 'string') return [text(what, value)];
  if (!Array.isArray(value)) throw wrong(what, 'a string or an array of strings', value);
  return value.map((name, at) => text(`${what}[${at}]`, name));
}

/** A whole number from 0 to `max`. What is beyond becomes the nearest one, and the node says whether that will do. */
export function whole(what, value, max) {
  if (typeof value === 'bigint') value = Number(value);
  if (typeof value !== 'number' || Number.isNaN(value)) throw wrong(what, 'a number', value);
  return Math.min(Math.max(Math.floor(value), 0), max);
}

export function oneOf(what, value, values) {
  if (values.includes(value)) return value;
  throw wrong(what, values.map((one) => `'${one}'`).join(' or '), value);
}

/** An object with no other keys than these, so that a misspelt one is seen. */
export function options(what, value, keys) {
  if (!isPlain(value)) throw wrong(what, `an object with ${keys.join(', ')}`, value);
  for (const key of Object.keys(value)) {
    if (!keys.includes(key)) throw new TypeError(`${what} has no ${key}: its keys are ${keys.join(', ')}`);
  }
  return value;
}

export function entries(what, value, toValue) {
  if (!isPlain(value)) throw wrong(what, 'an object of strings', value);
  return Object.entries(value).map(([key, one]) => [text(what, key), toValue(`${what}.${key}`, one)]);
}

const MESSAGE = 'a string, a Uint8Array, or an array or plain object to be sent as JSON';

/** A message of the contract. */
export function message(what, value) {
  if (typeof value === 'string') return { tag: 'text', val: text(what, value) };
  if (value instanceof Uint8Array) return { tag: 'binary', val: value };
  if (value instanceof ArrayBuffer) return { tag: 'binary', val: new Uint8Array(value) };
  return { tag: 'text', val: json(what, value) };
}

/** The bytes of a text, of JSON, or as they are. */
export function bytes(what, value) {
  if (value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  return encode(typeof value === 'string' ? value : json(what, value));
}

function json(what, value) {
  if (!Array.isArray(value) && !isPlain(value)) throw wrong(what, MESSAGE, value);
  return JSON.stringify(value);
}

function isPlain(value) {
  if (typeof value !== 'object' || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype;
}
