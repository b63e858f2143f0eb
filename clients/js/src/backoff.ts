/** The longest wait that a close reason can ask for: one hour, in milliseconds. */
const LONGEST_RETRY_AFTER_MS = 3_600_000;

/**
 * How long to wait before each attempt to connect: a random time between 0 and a bound that doubles with each
 * attempt. The whole range is random ("full jitter"), so that the clients of a node that has crashed do not all come
 * back at once.
 */
export class Backoff {
  readonly #firstMs: number;
  readonly #longestMs: number;
  readonly #random: () => number;
  #attempts = 0;

  constructor(firstMs: number, longestMs: number, random: () => number = Math.random) {
    this.#firstMs = firstMs;
    this.#longestMs = longestMs;
    this.#random = random;
  }

  /** The attempts since the last connection that was stable. */
  get attempts(): number {
    return this.#attempts;
  }

  /** Counts one more attempt, and says how many milliseconds to wait before it. */
  next(): number {
    const bound = Math.min(this.#longestMs, this.#firstMs * 2 ** this.#attempts);
    this.#attempts += 1;
    return Math.floor(this.#random() * bound);
  }

  /** Forgets the attempts: the connection is stable. */
  reset(): void {
    this.#attempts = 0;
  }
}

/**
 * The milliseconds that a node asks its client to wait, in the reason of a close.
 *
 * @example retryAfterMs('the node restarts, retry-after-ms=734') // 734
 */
export function retryAfterMs(reason: string): number | undefined {
  const found = /\bretry-after-ms=(\d+)/.exec(reason);
  return found ? Math.min(Number(found[1]), LONGEST_RETRY_AFTER_MS) : undefined;
}
