// When a client connects, on a clock and on sockets that the test moves.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { Jackfield } from '../dist/index.js';
import { fakeSockets } from './fake-socket.mjs';
import { settled } from './waiting.mjs';

beforeEach(() => mock.timers.enable({ apis: ['setTimeout'] }));
afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

/** A client, its sockets, and what it has said. */
async function start(options = {}) {
  const WebSocket = fakeSockets();
  const said = [];
  const client = new Jackfield('ws://node.test/console', { WebSocket, ...options });
  for (const type of ['open', 'reconnecting', 'error', 'close']) {
    client.addEventListener(type, (event) => said.push(event));
  }
  await settled();
  const types = () => said.map(({ type }) => type);
  return { client, WebSocket, said, types };
}

/** A page around the client, as far as the client looks at it. */
function showPage() {
  const [document, page] = [Object.assign(new EventTarget(), { hidden: false }), new EventTarget()];
  const parts = { document, addEventListener: page.addEventListener.bind(page) };
  Object.assign(globalThis, parts);
  return { document, page, remove: () => Object.keys(parts).forEach((name) => delete globalThis[name]) };
}

test('the waits grow until a connection has lasted for ten seconds', async () => {
  mock.method(Math, 'random', () => 0.5);
  const { client, WebSocket, said } = await start({ firstDelayMs: 1000, longestDelayMs: 5000 });
  for (const delayMs of [500, 1000, 2000, 2500, 2500]) {
    WebSocket.last.end(1006);
    const { length } = WebSocket.made;
    mock.timers.tick(delayMs - 1);
    await settled();
    assert.equal(WebSocket.made.length, length, 'too early');
    mock.timers.tick(1);
    await settled();
    assert.equal(WebSocket.made.length, length + 1, 'too late');
    assert.equal(said.at(-1).delayMs, delayMs);
  }
  // One that ends at once changes nothing: the waits go on growing.
  WebSocket.last.welcome();
  mock.timers.tick(9_999);
  WebSocket.last.end(1011);
  assert.deepEqual([said.at(-1).delayMs, said.at(-1).attempt], [2500, 6]);
  mock.timers.tick(2500);
  await settled();
  WebSocket.last.welcome();
  mock.timers.tick(10_000);
  WebSocket.last.end(1011);
  assert.deepEqual([said.at(-1).delayMs, said.at(-1).attempt], [500, 1]);
  client.close();
});

test('it gives up after maxAttempts, and says with what', async () => {
  const { WebSocket, said, types } = await start({ maxAttempts: 2 });
  for (let attempt = 0; attempt < 3; attempt += 1) {
    WebSocket.last.end(1006);
    mock.timers.tick(60_000);
    await settled();
  }
  assert.equal(WebSocket.made.length, 3);
  assert.deepEqual(types(), ['reconnecting', 'reconnecting', 'error', 'close']);
  assert.deepEqual([said.at(-1).code, said.at(-1).wasClean], [1006, false]);
});

test('an attempt that takes too long has failed, and what comes of it later is ignored', async () => {
  let give;
  const slow = { token: () => new Promise((resolve) => (give = resolve)), connectTimeoutMs: 3000 };
  const { client, WebSocket, said, types } = await start(slow);
  mock.timers.tick(3000);
  assert.deepEqual([said[0].type, said[0].code, said[0].reason], ['reconnecting', 1006, 'not open within 3000 ms']);
  give('late');
  await settled();
  assert.equal(WebSocket.made.length, 0);

  // A socket that opens without a welcome is not open.
  mock.timers.tick(1000);
  give('next');
  await settled();
  const [socket] = WebSocket.made;
  assert.match(socket.url, /token=next$/);
  socket.open('jackfield.v1');
  mock.timers.tick(3000);
  assert.deepEqual(types(), ['reconnecting', 'reconnecting']);
  assert.deepEqual(socket.closedWith, [4900, 'not open in time']);
  socket.welcome();
  assert.deepEqual(types(), ['reconnecting', 'reconnecting']);
  client.close();
});

test('a token is asked for at each attempt, and a function that throws is an attempt that has failed', async () => {
  let asked = 0;
  const token = () => {
    asked += 1;
    if (asked === 2) throw new Error('no network');
    return `t${asked}`;
  };
  const { client, WebSocket, said, types } = await start({ token });
  WebSocket.last.end(1006);
  mock.timers.tick(1000);
  await settled();
  assert.deepEqual(types(), ['reconnecting', 'error', 'reconnecting']);
  assert.equal(said[1].message, 'no network');
  mock.timers.tick(2000);
  await settled();
  assert.deepEqual(WebSocket.made.map(({ url }) => url), [
    'ws://node.test/console?token=t1',
    'ws://node.test/console?token=t3',
  ]);
  assert.equal(client.url, 'ws://node.test/console');
  client.close();
});

test('a token stands where the author says', async () => {
  const query = await start({ token: 'a b', tokenParameter: 'access_token' });
  assert.equal(query.WebSocket.last.url, 'ws://node.test/console?access_token=a+b');
  assert.equal(query.WebSocket.last.options, undefined);
  const subprotocol = await start({ token: 'a.b.c', tokenIn: 'subprotocol', protocols: 'chat.v2' });
  assert.deepEqual(subprotocol.WebSocket.last.protocols, ['jackfield.v1', 'chat.v2', 'bearer.a.b.c']);
  assert.equal(subprotocol.WebSocket.last.url, 'ws://node.test/console');
  const header = await start({ token: 'a.b.c', tokenIn: 'header' });
  assert.deepEqual(header.WebSocket.last.options, { headers: { authorization: 'Bearer a.b.c' } });
  for (const { client } of [query, subprotocol, header]) client.close();
});

test('a second refusal of the token waits', async () => {
  mock.method(Math, 'random', () => 0.5);
  const { client, WebSocket, said } = await start({ token: () => 't' });
  for (const delayMs of [0, 1000, 2000]) {
    WebSocket.last.end(4401);
    assert.equal(said.at(-1).delayMs, delayMs);
    mock.timers.tick(delayMs);
    await settled();
  }
  client.close();
});

test('a dead connection is left at once, and its session is asked for', async () => {
  const { client, WebSocket, said } = await start();
  const [socket] = WebSocket.made;
  socket.welcome();
  socket.frame('mone');
  mock.timers.tick(20_000);
  assert.equal(socket.sent.at(-1), '{"type":"ping"}');
  socket.control({ type: 'pong' });
  mock.timers.tick(20_000);
  assert.equal(socket.sent.filter((frame) => frame.includes('ping')).length, 2);
  mock.timers.tick(10_000);
  assert.deepEqual(socket.closedWith, [4900, 'no answer to a ping']);
  assert.deepEqual([said.at(-1).type, said.at(-1).code, said.at(-1).delayMs], ['reconnecting', 4900, 0]);
  socket.frame('mtoo late');
  mock.timers.tick(0);
  await settled();
  assert.equal(WebSocket.made.length, 2);
  assert.deepEqual(WebSocket.last.protocols, ['jackfield.v1', 'jackfield.resume.c1.x.1']);
  client.close();
});

test('what has arrived is acknowledged after 32 messages or a second, where the node keeps it', async () => {
  const { client, WebSocket } = await start({ heartbeatMs: 0 });
  const socket = WebSocket.last;
  socket.welcome();
  for (let count = 0; count < 33; count += 1) socket.frame('m');
  assert.deepEqual(socket.sent, ['{"type":"ack","received":32}']);
  mock.timers.tick(999);
  assert.equal(socket.sent.length, 1);
  mock.timers.tick(1);
  assert.deepEqual(socket.sent.slice(1), ['{"type":"ack","received":33}']);
  mock.timers.tick(5000);
  assert.equal(socket.sent.length, 2);
  socket.frame(new ArrayBuffer(2));
  mock.timers.tick(1000);
  assert.deepEqual(socket.sent.slice(2), ['{"type":"ack","received":34}']);
  client.close();

  const keepsNothing = await start({ heartbeatMs: 0 });
  keepsNothing.WebSocket.last.welcome({ resume: undefined });
  for (let count = 0; count < 100; count += 1) keepsNothing.WebSocket.last.frame('m');
  mock.timers.tick(5000);
  assert.deepEqual(keepsNothing.WebSocket.last.sent, []);
  keepsNothing.client.close();
});

test('a full buffer of the socket makes messages wait, and they leave when it drains', async () => {
  const { client, WebSocket } = await start({ reliable: false });
  const socket = WebSocket.last;
  socket.open();
  socket.bufferedAmount = 256 * 1024;
  client.send('abc');
  client.send(new Uint8Array(2));
  assert.equal(client.bufferedAmount, 256 * 1024 + 5);
  mock.timers.tick(1000);
  assert.deepEqual(socket.sent, []);
  socket.bufferedAmount = 0;
  mock.timers.tick(10);
  assert.equal(socket.sent.length, 2);
  assert.equal(client.bufferedAmount, 0);

  // A client that closes sends them before, however full the buffer is.
  socket.bufferedAmount = 256 * 1024;
  client.send('last');
  client.close();
  assert.equal(socket.sent.at(-1), 'last');
});

test('a page that is seen again, or has its network again, connects without waiting', async () => {
  mock.method(Math, 'random', () => 0.9);
  const { document, page, remove } = showPage();
  document.hidden = true;
  try {
    const { client, WebSocket, types } = await start();
    WebSocket.last.end(1006);
    document.dispatchEvent(new Event('visibilitychange'));
    await settled();
    assert.equal(WebSocket.made.length, 1, 'it is hidden');
    document.hidden = false;
    document.dispatchEvent(new Event('visibilitychange'));
    await settled();
    assert.equal(WebSocket.made.length, 2);
    WebSocket.last.end(1006);
    page.dispatchEvent(new Event('online'));
    await settled();
    assert.equal(WebSocket.made.length, 3);
    mock.timers.tick(5000);
    assert.equal(WebSocket.made.length, 3, 'the wait of before is over');

    // A connection that is there is asked whether it still works.
    WebSocket.last.welcome();
    page.dispatchEvent(new Event('online'));
    assert.deepEqual(WebSocket.last.sent, ['{"type":"ping"}']);
    // A wait that the node has asked for is kept: it spreads its clients.
    WebSocket.last.end(1012, 'the node restarts, retry-after-ms=700');
    page.dispatchEvent(new Event('online'));
    await settled();
    assert.equal(WebSocket.made.length, 3);
    mock.timers.tick(700);
    await settled();
    assert.equal(WebSocket.made.length, 4);

    WebSocket.last.end(1000);
    page.dispatchEvent(new Event('online'));
    await settled();
    assert.equal(WebSocket.made.length, 4);
    assert.equal(types().at(-1), 'close');
    client.close();
  } finally {
    remove();
  }
});

test('a page in the cache of the browser is away, and comes back as the same client', async () => {
  const { page, remove } = showPage();
  const persisted = (type) => page.dispatchEvent(Object.assign(new Event(type), { persisted: true }));
  try {
    const { client, WebSocket } = await start();
    WebSocket.last.welcome();
    page.dispatchEvent(Object.assign(new Event('pagehide'), { persisted: false }));
    assert.equal(client.readyState, Jackfield.OPEN, 'the browser closes it');
    persisted('pagehide');
    assert.deepEqual(WebSocket.last.closedWith, [4900, 'the page is put away']);
    assert.equal(client.readyState, Jackfield.CONNECTING);
    mock.timers.tick(100_000);
    await settled();
    assert.equal(WebSocket.made.length, 1);
    persisted('pageshow');
    persisted('pageshow');
    await settled();
    assert.equal(WebSocket.made.length, 2);
    assert.equal(WebSocket.last.protocols[1], 'jackfield.resume.c1.x.0');
    // It is put away while it waits.
    WebSocket.last.end(1006);
    persisted('pagehide');
    mock.timers.tick(100_000);
    persisted('pageshow');
    await settled();
    assert.equal(WebSocket.made.length, 3);
    WebSocket.last.welcome();
    client.close();
    WebSocket.last.end(1000);
    persisted('pageshow');
    await settled();
    assert.equal(WebSocket.made.length, 3);
  } finally {
    remove();
  }
});

test('a client that closes while it waits, or while it connects, does not connect any more', async () => {
  const waits = await start();
  waits.WebSocket.last.end(1006);
  waits.client.close(3000, 'tea');
  assert.equal(waits.client.readyState, Jackfield.CLOSING);
  assert.deepEqual(waits.types(), ['reconnecting']);
  await settled();
  const { code, reason, wasClean } = waits.said.at(-1);
  assert.deepEqual([code, reason, wasClean, waits.client.readyState], [3000, 'tea', true, Jackfield.CLOSED]);

  const connects = await start();
  connects.client.close();
  connects.WebSocket.last.welcome();
  await settled();
  assert.deepEqual(connects.types(), ['close']);

  const asks = await start({ token: () => new Promise(() => {}) });
  asks.client.close();
  await settled();
  assert.deepEqual(asks.types(), ['close']);
  mock.timers.tick(100_000);
  await settled();
  assert.deepEqual([waits, connects, asks].map(({ WebSocket }) => WebSocket.made.length), [1, 1, 0]);
});

test('a node that breaks the protocol is left for good', async () => {
  const breaks = [
    (socket) => socket.frame('x'),
    (socket) => socket.control({ type: 'ack', received: 1 }),
    (socket) => socket.welcome(),
  ];
  for (const breakIt of breaks) {
    const { WebSocket, said, types } = await start();
    WebSocket.last.welcome();
    breakIt(WebSocket.last);
    assert.deepEqual(types(), ['open', 'error', 'close']);
    assert.equal(said[1].error.name, 'ProtocolError');
    assert.equal(said[2].code, 1002);
  }
  for (const first of ['mtea', '{"type":"welcome"}']) {
    const { WebSocket, types } = await start();
    WebSocket.last.open('jackfield.v1');
    WebSocket.last.frame(first);
    assert.deepEqual(types(), ['error', 'close'], first);
  }
  const { WebSocket, types } = await start();
  WebSocket.last.welcome({ resumed: true });
  assert.deepEqual(types(), ['error', 'close'], 'nothing was offered');
});

test('a server that does not speak jackfield.v1 is said, and tried again', async () => {
  const { client, WebSocket, said } = await start({ protocols: 'chat.v2' });
  WebSocket.last.open('chat.v2');
  assert.match(said[0].reason, /does not speak jackfield\.v1: set the option reliable to false/);
  assert.equal(said[0].type, 'reconnecting');
  client.close();
});

test('wrong arguments are refused with what to do', async () => {
  const WebSocket = fakeSockets();
  const make = (url, options) => () => new Jackfield(url, { WebSocket, ...options });
  assert.throws(make('/console'), TypeError);
  assert.throws(make('ftp://node.test/'), { name: 'SyntaxError' });
  assert.throws(make('ws://node.test/', { firstDelayMs: -1 }), { name: 'RangeError', message: /firstDelayMs is -1/ });
  assert.throws(make('ws://node.test/', { queueBytes: NaN }), { name: 'RangeError' });
  assert.throws(make('ws://node.test/', { reliable: false, token: 't', tokenIn: 'subprotocol' }), /needs protocols/);
  assert.throws(() => new Jackfield('ws://node.test/'), /set the option WebSocket, to the class of the package ws/);
  assert.equal(WebSocket.made.length, 0);

  const client = make('https://node.test/tea#pot', { firstDelayMs: undefined })();
  assert.equal(client.url, 'wss://node.test/tea');
  assert.throws(() => client.close(1001), { name: 'InvalidAccessError' });
  assert.throws(() => client.close(5000), { name: 'InvalidAccessError' });
  assert.throws(() => client.close(3000, 'ü'.repeat(62)), { name: 'SyntaxError' });
  client.close(3000, 'x'.repeat(123));

  // What only the class of the socket can know is the end, since it never gets better.
  const refuses = class {
    constructor() {
      throw new DOMException('a space in a subprotocol', 'SyntaxError');
    }
  };
  const refused = new Jackfield('ws://node.test/', { WebSocket: refuses });
  const said = [];
  for (const type of ['error', 'close', 'reconnecting']) refused.addEventListener(type, (event) => said.push(event));
  await settled();
  assert.equal(said[0].message, 'a space in a subprotocol');
  assert.equal(said.at(-1).type, 'close');
});
