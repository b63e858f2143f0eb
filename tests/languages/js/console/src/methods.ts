// What the plugin answers when it is called, by backends and other plugins.

import { callError, toText, unknownMethod } from 'jackfield-sdk';
import type { CallErrorCode, Caller } from 'jackfield-sdk';
import { Request } from './request.js';

const CODES: readonly CallErrorCode[] = [
  'unknown-method',
  'invalid-argument',
  'not-found',
  'denied',
  'limit-exceeded',
  'overloaded',
  'unavailable',
  'failed',
];

export function answerCall(caller: Caller, method: string, payload: Uint8Array) {
  switch (method) {
    case 'echo':
      return payload;
    case 'caller':
      return `${caller.from} ${caller.name}`;
    case 'do': {
      const request = Request.namedOrWhole(toText(payload));
      // A call is no client's: a request that means one has to name it.
      return request.answer(request.run(''));
    }
    case 'bytes': {
      const bytes = toText(payload);
      if (!/^\d+$/.test(bytes)) return callError('invalid-argument', `\`bytes\` takes a number, not ${bytes}`);
      return new Uint8Array(Number(bytes)).fill(46);
    }
    case 'fail': {
      const code = CODES.find((one) => one === toText(payload));
      return code ? callError(code, 'asked to fail') : callError('invalid-argument', '`fail` takes the code of an error');
    }
    default:
      return unknownMethod(method);
  }
}
