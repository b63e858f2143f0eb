// For each close code, what a client does is looked at from outside: it comes back, or it says that it does not.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Jackfield } from '../dist/index.js';
import { fakeSockets } from './fake-socket.mjs';
import { next, settled } from './waiting.mjs';

/** What a client does when its connection ends with this code. */
async function after(code, options = {}, reason = '') {
  const WebSocket = fakeSockets();
  const client = new Jackfield('ws://node.test/console', { WebSocket, ...options });
  await settled();
  WebSocket.last.welcome();
  const said = Promise.race([next(client, 'reconnecting'), next(client, 'close')]);
  WebSocket.last.end(code, reason);
  const event = await said;
  assert.equal(event.code, code);
  assert.equal(client.readyState, event.type === 'close' ? Jackfield.CLOSED : Jackfield.CONNECTING);
  client.close();
  return event;
}

test('it reconnects after what passes', async () => {
  for (const code of [1001, 1006, 1011, 1012, 1013, 4408, 4425, 4429, 4500, 4503, 4599]) {
    assert.equal((await after(code)).type, 'reconnecting', code);
  }
});

test('it does not reconnect where the same would happen, whatever reconnectOn says', async () => {
  const reconnectOn = () => true;
  for (const code of [1002, 1003, 1007, 1008, 1009, 1010, 4001, 4400, 4403, 4404, 4409, 4499]) {
    assert.equal((await after(code, { reconnectOn, token: () => 't' })).type, 'close', code);
  }
});

test('it asks the author about every other code', async () => {
  for (const code of [1000, 1005, 3000, 3999, 4000, 4003, 4399, 4600, 4899, 4999]) {
    assert.equal((await after(code)).type, 'close', code);
    const reconnectOn = (asked, reason) => asked === code && reason === 'tea';
    assert.equal((await after(code, { reconnectOn }, 'tea')).type, 'reconnecting', code);
  }
});

test('reconnectOn that throws counts as no, and its error is an event', async () => {
  const WebSocket = fakeSockets();
  const reconnectOn = () => {
    throw new Error('tea');
  };
  const client = new Jackfield('ws://node.test/', { WebSocket, reconnectOn });
  await settled();
  WebSocket.last.welcome();
  const [failed, closed] = [next(client, 'error'), next(client, 'close')];
  WebSocket.last.end(4000);
  assert.equal((await failed).message, 'tea');
  assert.equal((await closed).code, 4000);
});

test('an expired token is renewed at once where there is a function for it, and is the end otherwise', async () => {
  for (const code of [4002, 4401]) {
    const renewed = await after(code, { token: async () => 'new' });
    assert.deepEqual([renewed.type, renewed.delayMs], ['reconnecting', 0]);
    assert.equal((await after(code, { token: 'old' })).type, 'close');
    assert.equal((await after(code)).type, 'close');
  }
});

test('it waits as long as the node says, also if that is not at all', async () => {
  assert.equal((await after(1012, {}, 'the node restarts, retry-after-ms=734')).delayMs, 734);
  assert.equal((await after(4503, {}, 'retry-after-ms=0')).delayMs, 0);
  const { delayMs, attempt } = await after(1012, { firstDelayMs: 50 });
  assert.ok(delayMs >= 0 && delayMs < 50, `${delayMs}`);
  assert.equal(attempt, 1);
});
