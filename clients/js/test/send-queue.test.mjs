import assert from 'node:assert/strict';
import { test } from 'node:test';
import { byteLength, SendQueue } from '../dist/send-queue.js';

/** All that can leave, by what it says. */
function leave(queue) {
  const left = [];
  for (let one = queue.next(); one; one = queue.next()) left.push(one.data);
  return left;
}

const queueOf = (...texts) => {
  const queue = new SendQueue(100, 1000, true);
  for (const text of texts) queue.push(text);
  return queue;
};

test('what does not fit is refused, and nothing else is lost', () => {
  const byCount = new SendQueue(2, 1000, true);
  byCount.push('a');
  byCount.push('b');
  assert.throws(() => byCount.push('c'), { name: 'QueueFullError', message: /queueMessages is 2/ });
  // What waits for its acknowledgement counts, too.
  assert.deepEqual(leave(byCount), ['a', 'b']);
  assert.throws(() => byCount.push('c'), { name: 'QueueFullError' });
  byCount.acknowledge(1);
  byCount.push('c');
  assert.deepEqual(leave(byCount), ['c']);

  const byBytes = new SendQueue(100, 10, true);
  byBytes.push('üüü');
  byBytes.push(new Uint8Array(4));
  assert.equal(byBytes.waitingBytes, 10);
  assert.throws(() => byBytes.push('x'), { name: 'QueueFullError', message: /queueBytes 10/ });
});

test('without acknowledgements, a message is gone when the socket has it', () => {
  const queue = new SendQueue(1, 10, false);
  for (const text of ['a', 'b', 'c']) {
    queue.push(text);
    assert.deepEqual(leave(queue), [text]);
  }
  assert.equal(queue.unacknowledged, 0);
  assert.deepEqual(queue.reset(false), []);
});

test('acknowledgements settle messages in order, and a wrong one is an error', () => {
  const handled = [];
  const queue = new SendQueue(100, 1000, true);
  for (const text of ['a', 'b', 'c']) queue.push(text, (error) => handled.push(error ?? text));
  leave(queue);
  queue.acknowledge(2);
  queue.acknowledge(2);
  assert.deepEqual(handled, ['a', 'b']);
  assert.equal(queue.unacknowledged, 1);
  assert.throws(() => queue.acknowledge(4), { name: 'ProtocolError' });
  assert.throws(() => queue.acknowledge(1), { name: 'ProtocolError' });
  queue.acknowledge(3);
  assert.deepEqual(handled, ['a', 'b', 'c']);
});

test('a session that goes on sends again what was not handled, before everything else', () => {
  const queue = queueOf('a', 'b', 'c');
  leave(queue);
  queue.push('d');
  queue.resume(1);
  assert.equal(queue.next().data, 'b');
  // The connection breaks again, before c has left again.
  queue.resume(1);
  assert.deepEqual(leave(queue), ['b', 'c', 'd']);
  queue.acknowledge(4);
});

test('a new session does not send again what may have been handled, and says what it is', () => {
  const queue = queueOf('a', 'b', 'c');
  assert.deepEqual([queue.next().data, queue.next().data], ['a', 'b']);
  queue.resume(1);
  assert.deepEqual(queue.reset(false).map(({ data }) => data), ['b']);
  queue.push('enter');
  assert.deepEqual(leave(queue), ['enter']);
  queue.release();
  assert.deepEqual(leave(queue), ['c']);
  queue.acknowledge(2);
  assert.equal(queue.waitingBytes, 0);
});

test('a new session sends everything again if it shall', () => {
  const queue = queueOf('a', 'b', 'c');
  assert.deepEqual([queue.next().data, queue.next().data], ['a', 'b']);
  queue.acknowledge(1);
  assert.deepEqual(queue.reset(true).map(({ data }) => data), ['b']);
  assert.deepEqual(leave(queue), []);
  queue.release();
  assert.deepEqual(leave(queue), ['b', 'c']);
});

test('what has not left can be taken back', () => {
  const queue = new SendQueue(2, 1000, true);
  const [a, b] = [queue.push('a'), queue.push('b')];
  assert.equal(queue.next(), a);
  queue.withdraw(a);
  queue.withdraw(b);
  queue.withdraw(b);
  queue.push('c');
  assert.deepEqual(leave(queue), ['c']);
  queue.acknowledge(2);
  assert.deepEqual(queue.clear(), []);
});

test('bytes are copied, and each kind of data is counted in the bytes of its frame', async () => {
  const bytes = new Uint8Array([1, 2, 3, 4]);
  const queue = queueOf(bytes.subarray(1, 3), bytes.buffer, new DataView(bytes.buffer, 3));
  bytes.fill(9);
  assert.deepEqual(leave(queue).map((data) => [...new Uint8Array(data)]), [[2, 3], [1, 2, 3, 4], [4]]);
  const texts = ['', 'abc', 'grüße', '€', '🫖', 'a🫖b', '\ud83e', '\udad6x', '\ud83e\ud83e\uded6'];
  for (const text of texts) assert.equal(byteLength(text), new TextEncoder().encode(text).length, JSON.stringify(text));
  assert.equal(byteLength(new Blob(['grüße'])), 7);
  // As a WebSocket does it.
  assert.deepEqual(leave(queueOf(42, null)), ['42', 'null']);
});
