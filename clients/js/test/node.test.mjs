// The client and a real node. JACKFIELD_URL is the address of its plugin `console`, such as
// ws://127.0.0.1:8080/console, whose manifest has `[resume]`.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { WebSocket } from 'ws';
import { Jackfield } from '../dist/index.js';
import { CuttingProxy } from './cutting-proxy.mjs';
import { NumberedSession } from './numbered-session.js';
import { next, until } from './waiting.mjs';

const { JACKFIELD_URL } = process.env;
const skip = JACKFIELD_URL ? false : 'JACKFIELD_URL is not set: no node was tested';
if (skip) console.log(`SKIPPED: ${skip}`);

const ends = [];
after(async () => {
  for (const end of ends) await end();
});

function connect(query = '', options = {}, url = JACKFIELD_URL) {
  const client = new Jackfield(url + query, { WebSocket, firstDelayMs: 5, longestDelayMs: 50, ...options });
  client.binaryType = 'arraybuffer';
  ends.unshift(() => client.close());
  const heard = [];
  client.addEventListener('message', ({ data }) => heard.push(data));
  return { client, heard };
}

let lastId = 0;

/** Asks the plugin, and waits for its answer. */
async function ask(client, heard, request) {
  const id = ++lastId;
  client.send(JSON.stringify({ id, ...request }));
  const answer = () => heard.findLast((text) => typeof text === 'string' && text.startsWith(`{"id":${id},`));
  await until(answer, JSON.stringify(request));
  const { ok, error } = JSON.parse(answer());
  assert.equal(error, undefined);
  return ok;
}

test('messages are acknowledged, and arrive as they were sent', { skip }, async () => {
  const { client, heard } = connect();
  const { clientId, resumed } = await next(client, 'open');
  assert.equal(resumed, false);
  await client.sendAcknowledged('{"id":"first","do":"get-all-client-count"}');
  assert.equal(client.unacknowledged, 0);
  await until(() => heard.length >= 2);
  assert.equal(JSON.parse(heard[0]).client, clientId);
  for (const text of ['m', '', '{"type":"welcome"}', '{"type":"ack","received":99}', 'grüße 🫖']) {
    await ask(client, heard, { do: 'reply', text });
    assert.equal(heard.at(-2), text);
  }
  await ask(client, heard, { do: 'reply', binary: 'AQID' });
  assert.deepEqual([...new Uint8Array(heard.at(-2))], [1, 2, 3]);
});

test('the plugin has its own subprotocol', { skip }, async () => {
  const { client } = connect('?subprotocol=chat.v2', { protocols: ['chat.v1', 'chat.v2'] });
  await next(client, 'open');
  assert.equal(client.protocol, 'chat.v2');
});

test('a connection that is cut again and again loses nothing and doubles nothing', { skip }, async () => {
  const proxy = await CuttingProxy.start(JACKFIELD_URL);
  const { client } = connect('', { queueMessages: 200 }, proxy.url);
  ends.unshift(() => proxy.stop());
  const session = new NumberedSession(client, { messages: 2000 });
  for (let cuts = 0; cuts < 30; cuts += 1) {
    // At any point of a turn: some messages are handled, some are under way.
    const enough = (cuts + 1) * 60 - Math.floor(Math.random() * 40);
    await until(() => session.report().received >= enough);
    proxy.cut();
    await next(client, 'open');
  }
  await until(() => session.report().done, 'all messages are back');
  const report = session.report();
  console.log(JSON.stringify(report));
  assert.deepEqual([report.lost, report.doubled, report.disordered, report.sessions], [0, 0, 0, 1]);
  assert.ok(report.resumed >= 30);
});

test('a client that is away has not left, and one that closes has', { skip }, async () => {
  const proxy = await CuttingProxy.start(JACKFIELD_URL);
  const watcher = connect();
  await next(watcher.client, 'open');
  await ask(watcher.client, watcher.heard, { do: 'join-group', group: 'watch-close' });
  const { client } = connect('', {}, proxy.url);
  ends.unshift(() => proxy.stop());
  const { clientId } = await next(client, 'open');
  proxy.cut();
  assert.equal((await next(client, 'open')).resumed, true);
  client.close();
  const closed = () =>
    watcher.heard.map((text) => JSON.parse(text)).filter(({ event, client }) => event === 'closed' && client === clientId);
  await until(() => closed().length > 0);
  assert.deepEqual(closed().map(({ code, by }) => [code, by]), [[1000, 'client']]);
});

test('what the plugin closes with decides whether the client comes back', { skip }, async () => {
  for (const code of [4000, 4001, 4403]) {
    const { client } = connect();
    await next(client, 'open');
    client.send(JSON.stringify({ do: 'close-client', code, reason: 'tea' }));
    const closed = await next(client, 'close');
    assert.deepEqual([closed.code, closed.reason], [code, 'tea']);
  }
  const { client } = connect();
  const { clientId } = await next(client, 'open');
  client.send(JSON.stringify({ do: 'close-client', code: 4503, reason: 'retry-after-ms=1' }));
  const open = await next(client, 'open');
  assert.equal(open.resumed, false);
  assert.notEqual(open.clientId, clientId);
});

test('a refused handshake is tried again', { skip }, async () => {
  const { client } = connect('?refuse=503&reason=tea');
  const { code } = await next(client, 'reconnecting');
  assert.ok([1006, 4503].includes(code), `${code}`);
});

test('a heartbeat keeps a silent connection', { skip }, async () => {
  const { client, heard } = connect('', { heartbeatMs: 5 });
  await next(client, 'open');
  client.addEventListener('reconnecting', ({ code }) => assert.fail(`it was given up: ${code}`));
  // Twenty times as long as the silence, of which the node knows nothing.
  await ask(client, heard, { do: 'join-group', group: 'timers' });
  await ask(client, heard, { do: 'set-timer', name: 'tea', after_ms: 100 });
  await until(() => heard.some((text) => text.includes('"event":"timer"')));
  client.close();
});

test('an answer of JSON-RPC finds its request', { skip }, async () => {
  const { client } = connect();
  const answer = client.request('add', [40, 2]);
  client.send(JSON.stringify({ do: 'reply', text: '{"jsonrpc":"2.0","id":1,"result":42}' }));
  assert.equal(await answer, 42);
});

test('a plain connection speaks to the same plugin', { skip }, async () => {
  const { client, heard } = connect('', { reliable: false });
  await next(client, 'open');
  assert.ok((await ask(client, heard, { do: 'get-all-client-count' })).value >= 1);
});
