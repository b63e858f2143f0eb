// The arguments of a request. What is wrong with them is said once they have all been read.

import { JackfieldError } from 'jackfield-sdk';
import type { Info, Level, Message, Result, TimerScope } from 'jackfield-sdk';

export const invalid = (message: string): Result<never, string> => ({ ok: false, error: new JackfieldError('invalid-argument', message) });

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export class Arguments {
  readonly #fields: Map<string, unknown>;
  #mistake: string | undefined;

  constructor(fields: Record<string, unknown>, readonly caller: string) {
    this.#fields = new Map(Object.entries(fields));
  }

  /** What is wrong, if anything: a name that the operation has not read, or what it has found. */
  mistake(): string | undefined {
    const [unknown] = this.#fields.keys();
    return unknown === undefined ? this.#mistake : `unknown field \`${unknown}\``;
  }

  text(name: string): string {
    return this.#read(name, 'a string', isString) ?? this.#missing(name, '');
  }

  optionalText(name: string): string | undefined {
    return this.#read(name, 'a string', isString);
  }

  /** The client that is named, or the caller. */
  client(): string {
    return this.optionalText('client') ?? this.caller;
  }

  /** A whole number from 0 to `max`. */
  number(name: string, max: number, otherwise?: number): number {
    return this.optionalNumber(name, max) ?? otherwise ?? this.#missing(name, 0);
  }

  optionalNumber(name: string, max: number): number | undefined {
    const isIt = (value: unknown): value is number => typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= max;
    return this.#read(name, `a whole number from 0 to ${max}`, isIt);
  }

  /** A string, or an array of strings. The name may be in the plural. */
  names(name: string): string[] {
    return this.#names(`${name}s`) ?? this.#names(name) ?? this.#missing(name, []);
  }

  exclude(): string[] {
    return this.#names('exclude') ?? [];
  }

  message(): Message {
    return this.lastMessage() ?? this.#wrong('the message is missing: give `text`, or `binary` in base64', '');
  }

  lastMessage(): Message | undefined {
    const [text, binary] = [this.optionalText('text'), this.optionalText('binary')];
    if (binary === undefined) return text;
    if (text !== undefined) return this.#wrong('a message is `text` or `binary`, not both', '');
    try {
      return Uint8Array.from(atob(binary), (byte) => byte.charCodeAt(0));
    } catch {
      return this.#wrong('`binary` is not base64', '');
    }
  }

  close(): [code: number, reason: string, lastMessage: Message | undefined] {
    return [this.number('code', 0xffff, 1000), this.optionalText('reason') ?? '', this.lastMessage()];
  }

  part(): { cursor: string | undefined; limit: number } {
    return { cursor: this.optionalText('cursor'), limit: this.number('limit', 0xffffffff, 100) };
  }

  info(): Info {
    const isIt = (value: unknown): value is Info => isObject(value) && Object.values(value).every(isString);
    return this.#read('info', 'an object of strings', isIt) ?? this.#missing('info', {});
  }

  changes(): Record<string, string | null> {
    const isIt = (value: unknown): value is Record<string, string | null> =>
      isObject(value) && Object.values(value).every((one) => one === null || isString(one));
    return this.#read('info', 'an object of strings and nulls', isIt) ?? this.#missing('info', {});
  }

  request(): Record<string, unknown> {
    return this.#read('request', 'an object', isObject) ?? this.#missing('request', {});
  }

  level(): Level {
    return this.#oneOf('level', ['trace', 'debug', 'info', 'warn', 'error'], 'info');
  }

  scope(): TimerScope {
    return this.#oneOf('scope', ['node', 'cluster'], 'node');
  }

  #oneOf<T extends string>(name: string, values: readonly T[], otherwise: T): T {
    const isIt = (value: unknown): value is T => values.some((one) => one === value);
    return this.#read(name, `one of ${values.join(', ')}`, isIt) ?? otherwise;
  }

  #names(name: string): string[] | undefined {
    const isIt = (value: unknown): value is string | string[] => isString(value) || (Array.isArray(value) && value.every(isString));
    const names = this.#read(name, 'a string or an array of strings', isIt);
    return typeof names === 'string' ? [names] : names;
  }

  #read<T>(name: string, expected: string, isIt: (value: unknown) => value is T): T | undefined {
    const value = this.#fields.get(name);
    this.#fields.delete(name);
    if (value === undefined || value === null || isIt(value)) return value ?? undefined;
    return this.#wrong(`\`${name}\` is ${JSON.stringify(value)}, expected ${expected}`, undefined);
  }

  #missing<T>(name: string, instead: T): T {
    return this.#wrong(`missing field \`${name}\``, instead);
  }

  #wrong<T>(mistake: string, instead: T): T {
    this.#mistake ??= mistake;
    return instead;
  }
}

function isString(value: unknown): value is string {
  return typeof value === 'string';
}
