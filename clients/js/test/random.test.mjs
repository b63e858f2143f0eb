// Cuts at random while both sides send numbered messages. Each message is looked at: none is lost, none comes twice,
// and all come in order. A seed that fails is printed, and JACKFIELD_SEED=N runs it alone.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { Jackfield } from '../dist/index.js';
import { MockNode } from './mock-node.mjs';
import { next, settled, until } from './waiting.mjs';

const MESSAGES = 400;

/** mulberry32: small, and the same on each machine. */
function randomOf(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const numbers = Array.from({ length: MESSAGES }, (_, number) => number);

async function run(seed) {
  const ends = [];
  try {
    return await runWith(randomOf(seed), ends);
  } finally {
    for (const end of ends) await end();
  }
}

async function runWith(random, ends) {
  const oneIn = (count) => random() < 1 / count;
  const atNode = [];
  const node = await MockNode.start({
    // A connection may break before the message is handled, after that, or be dead without saying so.
    beforeMessage(session) {
      if (oneIn(60)) node.halfOpen();
      if (!oneIn(40)) return undefined;
      session.cut();
      return 'lose';
    },
    onMessage(session, data) {
      atNode.push(Number(typeof data === 'string' ? data : data.toString()));
      if (oneIn(40)) session.cut();
      // The last acks come, since nothing comes after them that would acknowledge more.
      node.acks = atNode.length >= MESSAGES || !oneIn(3);
    },
  });
  // One in five attempts ends before its welcome.
  const breaksEarly = (socket) => oneIn(5) && (socket.terminate(), true);
  node.scripts = { shift: () => breaksEarly };
  const client = new Jackfield(node.url, {
    WebSocket, firstDelayMs: 2, longestDelayMs: 4, heartbeatMs: 10, heartbeatTimeoutMs: 40,
  });
  ends.push(() => client.close(), () => node.stop());
  client.binaryType = 'arraybuffer';
  const seen = { atClient: [], opens: 0, resumed: 0, dead: 0 };
  client.onmessage = ({ data }) => {
    seen.atClient.push(Number(typeof data === 'string' ? data : Buffer.from(data).toString()));
  };
  client.onopen = ({ resumed }) => {
    seen.opens += 1;
    seen.resumed += resumed;
  };
  client.addEventListener('reconnecting', ({ code }) => (seen.dead += code === 4900));
  await next(client, 'open');
  const { session } = node;
  const asSent = (number) => (oneIn(4) ? Buffer.from(`${number}`) : `${number}`);
  const acknowledged = [];
  for (const number of numbers) {
    if (oneIn(2)) client.send(asSent(number));
    else acknowledged.push(client.sendAcknowledged(asSent(number)));
    session.send(asSent(number));
    if (oneIn(4)) await settled();
    if (oneIn(50)) node.cut();
    if (oneIn(50)) await until(() => client.readyState === Jackfield.OPEN);
  }
  await until(() => seen.atClient.length >= MESSAGES && atNode.length >= MESSAGES, JSON.stringify(seen));
  await Promise.all(acknowledged);
  // A message that comes twice would come before the answer to this one.
  await client.sendAcknowledged('-1');
  session.send('-1');
  await until(() => seen.atClient.at(-1) === -1);
  assert.deepEqual(atNode, [...numbers, -1]);
  assert.deepEqual(seen.atClient, [...numbers, -1]);
  assert.equal(seen.resumed, seen.opens - 1);
  return seen;
}

test('cuts at random lose nothing and double nothing', async () => {
  const { JACKFIELD_SEED } = process.env;
  const seeds = JACKFIELD_SEED ? [Number(JACKFIELD_SEED)] : Array.from({ length: 20 }, (_, index) => index + 1);
  let [resumed, dead] = [0, 0];
  for (const seed of seeds) {
    const seen = await run(seed).catch((error) => {
      throw new Error(`seed ${seed}: ${error.message}`, { cause: error });
    });
    resumed += seen.resumed;
    dead += seen.dead;
  }
  console.log(`${seeds.length} runs of twice ${MESSAGES} messages: ${resumed} resumed, ${dead} after a dead connection`);
  assert.ok(resumed > seeds.length, `only ${resumed} connections were cut`);
});
