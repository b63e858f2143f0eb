// A call of the node answers with a value, whether it worked or not. An exception that nobody
// catches would close the client whose event it is.

import { needNode } from './event.js';

/** Why a call had no effect: a `code` for the program and a `message` for a person. */
export class JackfieldError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }

  toString() {
    return `${this.message} (${this.code})`;
  }

  toJSON() {
    return { code: this.code, message: this.message };
  }
}

export const done = (value) => ({ ok: true, value });
export const failed = (code, message) => ({ ok: false, error: new JackfieldError(code, message) });

/** Calls the node; `what` is the function's name, for an error. `toError` reads the error of an interface that is not the contract's. */
export function ask(what, work, toError = ({ code, message }) => failed(code, message)) {
  needNode(what);
  try {
    return done(work());
  } catch (error) {
    // The engine puts an error of the node here; some have nothing to say, and it is undefined.
    if (!(error instanceof Error && 'payload' in error)) throw error;
    return toError(error.payload);
  }
}
