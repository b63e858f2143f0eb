/** Why a call had no effect: a `code` for the program, and a `message` for a person. As a string: `message (code)`. */
export class JackfieldError<Code extends string = string> extends Error {
  constructor(code: Code, message: string);
  readonly code: Code;
  toJSON(): { code: Code; message: string };
}
