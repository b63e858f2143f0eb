import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { Heartbeat } from '../dist/heartbeat.js';

function start(silenceMs = 20_000) {
  mock.timers.reset();
  mock.timers.enable({ apis: ['setTimeout'] });
  const seen = [];
  return [seen, new Heartbeat(silenceMs, 10_000, () => seen.push('asked'), () => seen.push('dead'))];
}

test('it asks after the silence, and an answer is enough', () => {
  const [seen, heartbeat] = start();
  heartbeat.heard();
  mock.timers.tick(19_999);
  assert.deepEqual(seen, []);
  heartbeat.heard();
  mock.timers.tick(19_999);
  assert.deepEqual(seen, []);
  mock.timers.tick(1);
  assert.deepEqual(seen, ['asked']);
  mock.timers.tick(9_999);
  heartbeat.heard();
  mock.timers.tick(19_999);
  assert.deepEqual(seen, ['asked']);
});

test('without an answer in time the connection is dead, once', () => {
  const [seen, heartbeat] = start();
  heartbeat.heard();
  mock.timers.tick(20_000);
  mock.timers.tick(10_000);
  mock.timers.tick(100_000);
  assert.deepEqual(seen, ['asked', 'dead']);
});

test('it asks at once when it is told to', () => {
  const [seen, heartbeat] = start();
  heartbeat.heard();
  heartbeat.probe();
  assert.deepEqual(seen, ['asked']);
  mock.timers.tick(10_000);
  assert.deepEqual(seen, ['asked', 'dead']);
});

test('it is silent when it has stopped, and when it is off', () => {
  const [seen, heartbeat] = start();
  heartbeat.heard();
  heartbeat.stop();
  const [unseen, off] = [[], new Heartbeat(0, 10_000, () => unseen.push('asked'), () => unseen.push('dead'))];
  off.heard();
  off.probe();
  mock.timers.tick(1_000_000);
  assert.deepEqual([seen, unseen], [[], []]);
  mock.timers.reset();
});
