// Promises for QuickJS. Its own ones never go on: nobody runs its queue of jobs when an event has
// ended. These have a queue that the end of each event runs (`runJobs`); build.mjs compiles `async`
// functions to them.

const jobs = [];

export const addJob = (job) => jobs.push(job);

/** Rejections that nobody handles, until the event ends. */
const unhandled = new Set();

/** Runs what waits, and what that makes wait, to the end. Answers with the rejections that nobody has handled. */
export function runJobs() {
  if (jobs.length === 0 && unhandled.size === 0) return [];
  try {
    for (let next = 0; next < jobs.length; next++) jobs[next]();
  } finally {
    jobs.length = 0;
  }
  const reasons = [...unhandled].map((promise) => stateOf(promise).value);
  unhandled.clear();
  return reasons;
}

/** `{ status: 'pending' | 'fulfilled' | 'rejected', value }` of a promise made here. */
export let stateOf;

export class Promise {
  #status = 'pending';
  #value;
  #reactions = [];

  static {
    stateOf = (promise) => ({ status: promise.#status, value: promise.#value });
  }

  constructor(executor) {
    if (typeof executor !== 'function') throw new TypeError('Promise: executor must be a function');
    const { resolve, reject } = this.#resolvers();
    try {
      executor(resolve, reject);
    } catch (error) {
      reject(error);
    }
  }

  #resolvers() {
    let called = false;
    const once = (work) => (value) => {
      if (called) return;
      called = true;
      work(value);
    };
    return {
      resolve: once((value) => this.#resolve(value)),
      reject: once((reason) => this.#settle('rejected', reason)),
    };
  }

  #resolve(value) {
    if (value === this) return this.#settle('rejected', new TypeError('a promise cannot wait for itself'));
    if ((typeof value !== 'object' || value === null) && typeof value !== 'function') return this.#settle('fulfilled', value);
    let then;
    try {
      then = value.then;
    } catch (error) {
      return this.#settle('rejected', error);
    }
    if (typeof then !== 'function') return this.#settle('fulfilled', value);
    addJob(() => {
      const { resolve, reject } = this.#resolvers();
      try {
        then.call(value, resolve, reject);
      } catch (error) {
        reject(error);
      }
    });
  }

  #settle(status, value) {
    this.#status = status;
    this.#value = value;
    if (status === 'rejected' && this.#reactions.length === 0) unhandled.add(this);
    for (const reaction of this.#reactions) addJob(reaction);
    this.#reactions = [];
  }

  then(onFulfilled, onRejected) {
    return new this.constructor((resolve, reject) => {
      const reaction = () => {
        const fulfilled = this.#status === 'fulfilled';
        const handler = fulfilled ? onFulfilled : onRejected;
        if (typeof handler !== 'function') return (fulfilled ? resolve : reject)(this.#value);
        try {
          resolve(handler(this.#value));
        } catch (error) {
          reject(error);
        }
      };
      unhandled.delete(this);
      if (this.#status === 'pending') this.#reactions.push(reaction);
      else addJob(reaction);
    });
  }

  catch(onRejected) {
    return this.then(undefined, onRejected);
  }

  finally(work) {
    if (typeof work !== 'function') return this.then(work, work);
    return this.then(
      (value) => Promise.resolve(work()).then(() => value),
      (reason) => Promise.resolve(work()).then(() => { throw reason; }),
    );
  }

  get [Symbol.toStringTag]() {
    return 'Promise';
  }

  static resolve(value) {
    return value instanceof Promise && value.constructor === this ? value : new this((resolve) => resolve(value));
  }

  static reject(reason) {
    return new this((_, reject) => reject(reason));
  }

  static withResolvers() {
    const resolvers = {};
    resolvers.promise = new this((resolve, reject) => Object.assign(resolvers, { resolve, reject }));
    return resolvers;
  }

  static try(work, ...args) {
    return new this((resolve) => resolve(work(...args)));
  }

  static race(values) {
    return new this((resolve, reject) => {
      for (const value of values) this.resolve(value).then(resolve, reject);
    });
  }

  static all(values) {
    return Promise.#each.call(this, values, (set, reject) => [set, reject]);
  }

  static allSettled(values) {
    return Promise.#each.call(this, values, (set) => [
      (value) => set({ status: 'fulfilled', value }),
      (reason) => set({ status: 'rejected', reason }),
    ]);
  }

  static any(values) {
    // All must be rejected for it to be: `all`, the other way round.
    const all = Promise.#each.call(this, values, (set, reject) => [reject, set]);
    return all.then((reasons) => { throw new AggregateError(reasons, 'all promises were rejected'); }, (value) => value);
  }

  static #each(values, handlers) {
    return new this((resolve, reject) => {
      const results = [];
      let missing = 1;
      const one = () => --missing === 0 && resolve(results);
      for (const value of values) {
        const at = results.push(undefined) - 1;
        missing++;
        this.resolve(value).then(...handlers((result) => { results[at] = result; one(); }, reject));
      }
      one();
    });
  }
}
