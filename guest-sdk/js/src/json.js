import { done, failed } from './result.js';
import { decode } from './utf8.js';

export function parseJson(content) {
  try {
    return done(JSON.parse(typeof content === 'string' ? content : decode(content, true)));
  } catch (error) {
    return failed('invalid-argument', `this is no JSON: ${error.message}`);
  }
}
