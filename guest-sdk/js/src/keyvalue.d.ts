// Buckets. The manifest names them: [keyvalue] buckets = ["default"]

import type { Content, Result } from './index.js';
import type { JackfieldError } from './result.js';

/**
 * `refused`: the function of an update said so. `conflict`: others changed the key again and again.
 * `invalid-argument`: the value is no JSON. `other`: the store failed; the message says how.
 */
export type BucketErrorCode =
  | 'no-such-store'
  | 'access-denied'
  | 'other'
  | 'refused'
  | 'conflict'
  | 'invalid-argument';

type BucketResult<T> = Result<T, BucketErrorCode>;

export interface Bucket {
  /** The value's bytes; undefined if there is none. */
  get(key: string): BucketResult<Uint8Array | undefined>;
  getText(key: string): BucketResult<string | undefined>;
  getJson<T = unknown>(key: string): BucketResult<T | undefined>;
  /** An array or a plain object is stored as JSON. */
  set(key: string, value: Content): BucketResult<void>;
  delete(key: string): BucketResult<void>;
  exists(key: string): BucketResult<boolean>;
  /** All keys. */
  keys(): BucketResult<string[]>;
  /** Adds to a number, which is stored as decimal text, in one step. The value is the sum. */
  increment(key: string, by?: number): BucketResult<number>;
  /**
   * Replaces the value by what `change` returns; no other change can come in between. `change` is
   * called again when another one came first. It may return `refused(reason)`: nothing is changed.
   */
  update<C extends Content>(
    key: string,
    change: (old: Uint8Array | undefined) => C | JackfieldError<'refused'>,
  ): BucketResult<C>;
  /** The same for JSON. */
  updateJson<T extends Content>(
    key: string,
    change: (old: T | undefined) => T | JackfieldError<'refused'>,
  ): BucketResult<T>;
}

/** A bucket by its name. It may be called at the top level of a module; the first use opens the bucket. */
export function openBucket(name: string): Bucket;

/** For the function of an update to return: the key stays as it is, and the update's error has this reason. */
export function refused(reason: string): JackfieldError<'refused'>;
