// One event, from the node's call to the answer.

import { getStderr } from 'wasi:cli/stderr@0.2.0';
import { log } from 'jackfield:plugin/runtime@0.1.0';
import { Promise as SdkPromise, runJobs, stateOf } from './promise.js';
import { errorText } from './trace.js';
import { encode } from './utf8.js';

/** False while the plugin is being built: modules are evaluated then, and there is no node. */
let isRunning = false;

export const running = () => isRunning;

/** Called by all that needs a node. */
export function needNode(what) {
  if (isRunning) return;
  throw new Error(`${what} was called at the top level of a module, which runs once, when the plugin is built. Call it in a handler.`);
}

/**
 * A function to export. What `work` returns (or promises) goes through `answer`, which gives
 * `{ ok }` or `{ error }`, as the contract's function has it. What is thrown goes to `caught`.
 */
export function event(name, work, answer = () => ({}), caught = fail) {
  const attempt = (step) => {
    try {
      return step();
    } catch (error) {
      caught(name, error);
    }
  };
  const finish = (value) => {
    const { ok, error } = attempt(() => answer(value));
    if (error !== undefined) throw error;
    return ok;
  };
  return (...args) => {
    isRunning = true;
    const outcome = attempt(() => settled(name, work(...args)));
    // SpiderMonkey's own promises: the engine waits for them.
    if (JACKFIELD_ENGINE === 'starlingmonkey' && typeof outcome?.then === 'function') {
      return outcome.then(finish, (error) => caught(name, error));
    }
    return finish(outcome);
  };
}

/** Ends the event with a trap. The node shows what is on stderr. */
function fail(name, error) {
  const text = error instanceof Error ? errorText(error) : `it threw ${show(error)}`;
  using stderr = getStderr();
  // A write takes at most 4096 bytes.
  stderr.blockingWriteAndFlush(encode(`${name}: ${text}\n`).slice(0, 4096));
  // The engine shows it as well: the less, the better.
  throw Object.assign(new Error('see above'), { stack: '' });
}

function settled(name, value) {
  if (JACKFIELD_ENGINE === 'starlingmonkey') return value;
  const isPromise = value instanceof SdkPromise;
  const reasons = runJobs();
  const { status, value: result } = isPromise ? stateOf(value) : { status: 'fulfilled', value };
  for (const reason of reasons) {
    if (!(isPromise && reason === result)) log('error', `a promise was rejected, and nobody handled it: ${show(reason)}`);
  }
  if (status === 'rejected') throw result;
  if (status === 'fulfilled') return result;
  throw new Error(`${name} returned a promise that is still pending when the event ends. Nothing runs between events: what has to happen later needs setTimer and onTimer.`);
}

/** A value as the log shows it. */
export function show(value) {
  if (typeof value === 'string') return value;
  if (value instanceof Error) return errorText(value);
  try {
    return JSON.stringify(value, plain) ?? String(value);
  } catch {
    return String(value); // it refers to itself
  }
}

/** What JSON does not have. */
function plain(_, value) {
  if (typeof value === 'bigint') return `${value}n`;
  if (value instanceof Error) return errorText(value);
  if (value instanceof Map || value instanceof Set) return [...value];
  return value;
}
