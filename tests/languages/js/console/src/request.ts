// A request: what to do, with which arguments, and the id that its answer carries.

import { parseJson } from 'jackfield-sdk';
import type { Message, Result } from 'jackfield-sdk';
import { Arguments, invalid, isObject } from './arguments.js';
import { operations } from './operations.js';

const EXPECTED = 'a request is a text message with a JSON object, {"id":7,"do":"join-group","group":"g"}';

export class Request {
  private constructor(
    /** Any JSON value; null where the request has none. */
    readonly id: unknown,
    private readonly operation: unknown,
    private readonly fields: Record<string, unknown>,
    private readonly mistake = EXPECTED,
  ) {}

  static fromMessage(message: Message): Request {
    if (typeof message === 'string') return Request.parse(message);
    return new Request(null, undefined, {}, `${EXPECTED}; this was a binary message`);
  }

  /** A whole request, or for short the name of one that needs no arguments: `panic`. */
  static namedOrWhole(text: string): Request {
    return text.startsWith('{') ? Request.parse(text) : new Request(null, text, {});
  }

  static fromObject({ id = null, do: operation, ...fields }: Record<string, unknown>): Request {
    return new Request(id, operation, fields);
  }

  private static parse(text: string): Request {
    const parsed = parseJson(text);
    if (!parsed.ok) return new Request(null, undefined, {}, `${EXPECTED}: ${parsed.error.message}`);
    if (!isObject(parsed.value)) return new Request(null, undefined, {});
    return Request.fromObject(parsed.value);
  }

  /** `caller` is who is meant where no client is named. */
  run(caller: string): Result<unknown, string> {
    if (typeof this.operation !== 'string') return invalid(this.mistake);
    const operation = operations.get(this.operation);
    if (!operation) return invalid(`\`do\` can't be \`${this.operation}\`; it is one of ${[...operations.keys()].join(', ')}`);
    const given = new Arguments(this.fields, caller);
    const step = operation.read(given);
    const mistake = given.mistake();
    if (mistake !== undefined) return invalid(`${this.operation} takes ${operation.takes}: ${mistake}`);
    return step();
  }

  answer(result: Result<unknown, string>): string {
    return json({ id: this.id, ...verdict(result) });
  }
}

/** A result, as its one key says. */
export const verdict = (result: Result<unknown, string>) => (result.ok ? { ok: result.value } : { error: result.error });

/** What is undefined is null. */
export const json = (value: object): string => JSON.stringify(value, (_, field: unknown) => (field === undefined ? null : field));
