// A client and a node over real sockets. The node is the mock, which speaks jackfield.v1 as docs/protocol.md has it.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { WebSocket } from 'ws';
import { Jackfield } from '../dist/index.js';
import { MockNode } from './mock-node.mjs';
import { next, settled, until } from './waiting.mjs';

const ends = [];
after(async () => {
  for (const end of ends) await end();
});

async function startNode(options) {
  const node = await MockNode.start(options);
  ends.unshift(() => node.stop());
  return node;
}

/** A client whose waits are short, what it has heard, and how often it came back. */
function connect(node, options) {
  const client = new Jackfield(node.url, { WebSocket, firstDelayMs: 5, longestDelayMs: 20, ...options });
  ends.unshift(() => client.close());
  const heard = [];
  client.addEventListener('message', ({ data }) => heard.push(data));
  return { client, heard };
}

test('it is used as a WebSocket', async () => {
  const node = await startNode();
  const { client } = connect(node, ['app.v1']);
  const plain = new Jackfield(node.url, { WebSocket, protocols: ['app.v1', 'app.v2'] });
  client.close();
  const said = [];
  plain.onopen = ({ type }) => said.push(type);
  plain.onmessage = ({ data, origin }) => {
    said.push(data, origin);
    plain.close(3000, 'bye');
  };
  plain.onclose = ({ type, code, reason, wasClean }) => said.push(type, code, reason, wasClean);
  plain.onerror = ({ message }) => said.push(message);
  plain.send('hello');
  assert.equal(plain.readyState, plain.CONNECTING);
  await next(plain, 'close');
  assert.deepEqual(said, ['open', 'hello', new URL(node.url).origin, 'close', 3000, 'bye', true]);
  assert.equal(plain.readyState, Jackfield.CLOSED);
  assert.equal(plain.protocol, 'app.v1');
  await until(() => node.closed.includes(3000));
});

test('a handler is replaced and removed like that of a WebSocket', async () => {
  const node = await startNode();
  const { client, heard } = connect(node);
  let calls = 0;
  client.onmessage = () => assert.fail('it was replaced');
  client.onmessage = () => (calls += 1);
  client.send('one');
  await until(() => heard.length === 1);
  client.onmessage = null;
  assert.equal(client.onmessage, null);
  client.send('two');
  await until(() => heard.length === 2);
  assert.equal(calls, 1);
});

test('bytes arrive as what the page wants', async () => {
  const node = await startNode();
  const { client, heard } = connect(node);
  client.send(new Uint8Array([1, 2]));
  await until(() => heard.length === 1);
  assert.ok(heard[0] instanceof Blob);
  client.binaryType = 'arraybuffer';
  client.send(new Blob([new Uint8Array([3])]));
  await until(() => heard.length === 2);
  assert.deepEqual([...new Uint8Array(await heard[0].arrayBuffer()), ...new Uint8Array(heard[1])], [1, 2, 3]);
  node.cut();
  client.send(new Uint8Array([4]).buffer);
  await until(() => heard.length === 3);
  assert.deepEqual([...new Uint8Array(heard[2])], [4]);
});

test('a client whose connection breaks goes on as the same client', async () => {
  const node = await startNode({ acks: false });
  const { client, heard } = connect(node);
  const { clientId } = await next(client, 'open');
  for (const text of ['a', 'b', 'c']) client.send(text);
  await until(() => heard.length === 3);
  assert.equal(client.unacknowledged, 3);
  node.cut();
  client.send('d');
  node.session.send('from the node');
  const open = await next(client, 'open');
  assert.deepEqual([open.resumed, open.clientId, open.unacknowledged], [true, clientId, []]);
  assert.deepEqual([client.resumed, client.clientId], [true, clientId]);
  await until(() => heard.length === 5);
  assert.deepEqual(heard, ['a', 'b', 'c', 'from the node', 'd']);
  assert.equal(node.sessions.size, 1);
});

test('a session that is lost is said, with what may have been handled; the rest is sent', async () => {
  const node = await startNode({ acks: false });
  const { client, heard } = connect(node);
  const { clientId } = await next(client, 'open');
  const handled = client.sendAcknowledged('a');
  const refused = assert.rejects(handled, { name: 'SessionLostError' });
  client.send(new Uint8Array([7]));
  await until(() => heard.length === 2);
  node.forget();
  node.cut();
  await next(client, 'reconnecting');
  client.send('waits');
  client.onopen = () => client.send('enter');
  const open = await next(client, 'open');
  assert.equal(open.resumed, false);
  assert.notEqual(open.clientId, clientId);
  assert.equal(open.unacknowledged[0], 'a');
  assert.deepEqual([...new Uint8Array(open.unacknowledged[1])], [7]);
  await refused;
  await until(() => heard.length === 4);
  // What the page says to its new session goes ahead of what has waited.
  assert.deepEqual(heard.slice(2), ['enter', 'waits']);
});

test('messages of a session that is lost are sent again if the page says so', async () => {
  const node = await startNode({ acks: false });
  const { client, heard } = connect(node, { resendAfterReset: true });
  await next(client, 'open');
  const handled = client.sendAcknowledged('a');
  await until(() => heard.length === 1);
  node.forget();
  node.acks = true;
  node.cut();
  const open = await next(client, 'open');
  assert.deepEqual([open.resumed, open.unacknowledged], [false, []]);
  await handled;
  assert.deepEqual(heard, ['a', 'a']);
});

test('sendAcknowledged waits for the plugin, across connections', async () => {
  const node = await startNode({ acks: false });
  const { client, heard } = connect(node);
  let isHandled = false;
  const handled = client.sendAcknowledged('a').then(() => (isHandled = true));
  await until(() => heard.length === 1);
  await settled();
  assert.equal(isHandled, false);
  node.cut();
  await handled;
  assert.equal(client.unacknowledged, 0);
  await assert.rejects(connect(node, { reliable: false }).client.sendAcknowledged('a'), TypeError);
});

test('a node without [resume] acknowledges, and makes a new client after each break', async () => {
  const node = await startNode({ resume: false });
  const { client, heard } = connect(node);
  await client.sendAcknowledged('a');
  node.cut();
  const open = await next(client, 'open');
  assert.deepEqual([open.resumed, open.unacknowledged], [false, []]);
  assert.equal(node.handshakes.at(-1).headers['sec-websocket-protocol'], 'jackfield.v1');
  await client.sendAcknowledged('b');
  assert.deepEqual(heard, ['a', 'b']);
});

test('a connection that is half open is noticed, and nothing is lost', async () => {
  const node = await startNode();
  const { client, heard } = connect(node, { heartbeatMs: 20, heartbeatTimeoutMs: 50 });
  await next(client, 'open');
  node.halfOpen();
  client.send('a');
  const reconnecting = await next(client, 'reconnecting');
  assert.deepEqual([reconnecting.code, reconnecting.delayMs], [4900, 0]);
  await client.sendAcknowledged('b');
  assert.deepEqual(heard, ['a', 'b']);
  assert.equal(client.resumed, true);
});

test('a connection that answers is kept', async () => {
  let pings = 0;
  const onPing = (session) => session.socket.send('{"type":"pong"}', () => (pings += 1));
  const node = await startNode({ onPing });
  const { client } = connect(node, { heartbeatMs: 1 });
  client.onerror = client.onclose = () => assert.fail('it was given up');
  client.addEventListener('reconnecting', () => assert.fail('it was given up'));
  await until(() => pings === 5);
  client.onclose = client.onerror = null;
  client.close();
});

test('a client that is taken over stays away, and says what nobody has got', async () => {
  const node = await startNode({ acks: false });
  const { client, heard } = connect(node);
  await next(client, 'open');
  client.send('a');
  const refused = assert.rejects(client.sendAcknowledged('b'), { name: 'ClosedError', code: 4001 });
  await until(() => heard.length === 2);
  node.closeAll(4001, 'uid taken over');
  const { code, reason, unacknowledged, unsent } = await next(client, 'close');
  assert.deepEqual([code, reason, unacknowledged, unsent], [4001, 'uid taken over', ['a', 'b'], []]);
  await refused;
  assert.throws(() => client.send('c'), { name: 'ClosedError' });
  assert.throws(() => client.notify('c'), { name: 'ClosedError' });
  await assert.rejects(client.request('c'), { name: 'ClosedError' });
  await assert.rejects(client.sendAcknowledged('c'), { name: 'ClosedError' });
  assert.equal(node.handshakes.length, 1);
});

test('a refused handshake is tried again, and its queue is kept within its bounds', async () => {
  const node = await startNode({ refuse: () => (node.handshakes.length < 4 ? 503 : undefined) });
  const { client, heard } = connect(node, { queueMessages: 2 });
  client.send('a');
  client.send('b');
  assert.throws(() => client.send('c'), { name: 'QueueFullError' });
  await assert.rejects(client.sendAcknowledged('c'), { name: 'QueueFullError' });
  await assert.rejects(client.request('c'), { name: 'QueueFullError' });
  await until(() => heard.length === 2);
  assert.deepEqual([heard, node.handshakes.length], [['a', 'b'], 4]);
});

test('a token goes in a header where the class can send one', async () => {
  const node = await startNode();
  const { client } = connect(node, { token: async () => 'a.b.c', tokenIn: 'header' });
  await next(client, 'open');
  assert.equal(node.handshakes[0].headers.authorization, 'Bearer a.b.c');
});

test('a plain connection needs no jackfield.v1', async () => {
  const node = await startNode({ plain: true });
  const { client, heard } = connect(node, { reliable: false });
  const open = await next(client, 'open');
  assert.deepEqual([open.clientId, open.resumed, client.protocol], [undefined, false, '']);
  client.send('{"type":"ping"}');
  await until(() => heard.length === 1);
  node.cut();
  await next(client, 'reconnecting');
  client.send('waits');
  await until(() => heard.length === 2);
  assert.deepEqual(heard, ['{"type":"ping"}', 'waits']);

  // With the page's own subprotocol, the server's choice is visible.
  const { client: chooses } = connect(node, { reliable: false, protocols: ['app.v2', 'app.v1'] });
  await next(chooses, 'open');
  assert.equal(chooses.protocol, 'app.v2');
});

test('what was sent before a close arrives', async () => {
  const arrived = [];
  const node = await startNode({ onMessage: (_, data) => arrived.push(data) });
  const { client } = connect(node);
  await next(client, 'open');
  const numbers = Array.from({ length: 500 }, (_, number) => `${number}`);
  for (const number of numbers) client.send(number);
  client.close();
  const { code, unsent } = await next(client, 'close');
  assert.deepEqual([code, unsent], [1000, []]);
  await until(() => node.closed.length === 1);
  assert.deepEqual([node.closed, arrived], [[1000], numbers]);
});
