import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backoff, retryAfterMs } from '../dist/backoff.js';

test('the bound of a wait doubles up to the longest one, and begins again when the connection is stable', () => {
  const backoff = new Backoff(1000, 5000, () => 0.999_999);
  assert.deepEqual([1, 2, 3, 4, 5].map(() => backoff.next()), [999, 1999, 3999, 4999, 4999]);
  assert.equal(backoff.attempts, 5);
  backoff.reset();
  assert.equal(backoff.attempts, 0);
  assert.equal(backoff.next(), 999);
});

test('the whole range is random', () => {
  assert.equal(new Backoff(1000, 5000, () => 0).next(), 0);
  const waits = Array.from({ length: 2000 }, () => new Backoff(1000, 5000).next());
  for (let tenth = 0; tenth < 10; tenth += 1) {
    const count = waits.filter((wait) => Math.floor(wait / 100) === tenth).length;
    assert.ok(count > 100, `${count} of 2000 waits are in tenth ${tenth}`);
  }
});

test('after very many attempts a wait is still a number', () => {
  const backoff = new Backoff(1000, 5000, () => 0.5);
  for (let attempt = 0; attempt < 2000; attempt += 1) assert.ok(backoff.next() <= 2500);
});

test('the wait that a node asks for is read from its reason, and is an hour at most', () => {
  assert.equal(retryAfterMs('the node restarts, retry-after-ms=734'), 734);
  assert.equal(retryAfterMs('retry-after-ms=0'), 0);
  assert.equal(retryAfterMs('retry-after-ms=99999999999'), 3_600_000);
  for (const reason of ['', 'retry-after-ms=', 'retry-after-ms=x', 'retry-after-ms=-5']) {
    assert.equal(retryAfterMs(reason), undefined, reason);
  }
});
