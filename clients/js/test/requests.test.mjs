// Requests over JSON-RPC 2.0 to a mock of a plugin.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { WebSocket } from 'ws';
import { Jackfield } from '../dist/index.js';
import { MockNode } from './mock-node.mjs';
import { next, until } from './waiting.mjs';

const ends = [];
after(async () => {
  for (const end of ends) await end();
});

/** A plugin that answers `add`, and keeps what else it is asked. */
async function start(options = {}, nodeOptions = {}) {
  const asked = [];
  const node = await MockNode.start({
    onMessage(session, text) {
      const { id, method, params } = JSON.parse(text);
      const answer = (more) => session.send(JSON.stringify({ jsonrpc: '2.0', id, ...more }));
      if (method === 'add') answer({ result: params.reduce((sum, number) => sum + number) });
      else if (method === 'nothing') answer({ result: null });
      else if (method === 'fail') answer({ error: { code: -32000, message: 'no tea', data: { left: 0 } } });
      else asked.push({ text, id, answer });
    },
    ...nodeOptions,
  });
  const client = new Jackfield(node.url, { WebSocket, firstDelayMs: 5, ...options });
  ends.unshift(() => node.stop(), () => client.close());
  const heard = [];
  client.addEventListener('message', ({ data }) => heard.push(data));
  return { node, client, asked, heard };
}

test('answers find their requests, in any order', async () => {
  const { client, asked, heard } = await start();
  assert.equal(await client.request('add', [1, 2]), 3);
  assert.equal(await client.request('nothing'), null);
  const [one, two] = [client.request('one'), client.request('two', { a: 1 })];
  await until(() => asked.length === 2);
  assert.deepEqual(JSON.parse(asked[1].text), { jsonrpc: '2.0', method: 'two', params: { a: 1 }, id: asked[1].id });
  asked[1].answer({ result: 'second' });
  asked[0].answer({ result: 'first' });
  assert.deepEqual(await Promise.all([one, two]), ['first', 'second']);
  assert.deepEqual(heard, []);
});

test('an error of the plugin is one of the page', async () => {
  const { client } = await start();
  const refused = { name: 'RequestError', code: -32000, message: 'no tea', data: { left: 0 } };
  await assert.rejects(client.request('fail'), refused);
});

test('a request is given up after its time or by its signal, and not sent if it was not', async () => {
  const { node, client, asked } = await start();
  await next(client, 'open');
  const late = client.request('late', [], { timeoutMs: 1 });
  await assert.rejects(late, { name: 'TimeoutError', message: 'late was not answered within 1 ms' });
  await assert.rejects(client.request('never', [], { signal: AbortSignal.abort(new Error('left')) }), /left/);
  const page = new AbortController();
  const open = client.request('open', [], { signal: page.signal, timeoutMs: Infinity });
  await until(() => asked.length === 2);
  page.abort(new Error('closed'));
  await assert.rejects(open, /closed/);
  node.cut();
  await next(client, 'reconnecting');
  await assert.rejects(client.request('unsent', [], { timeoutMs: 0 }), { name: 'TimeoutError' });
  assert.equal(await client.request('add', [4, 5]), 9);
  assert.deepEqual(asked.map(({ text }) => JSON.parse(text).method), ['late', 'open']);
});

test('requests of a session that goes on stay open; those of one that is lost do not', async () => {
  const { node, client, asked } = await start();
  const goesOn = client.request('goes on');
  await until(() => asked.length === 1);
  node.cut();
  asked[0].answer({ result: 'kept' });
  assert.equal(await goesOn, 'kept');

  const lost = client.request('lost');
  const rejected = assert.rejects(lost, { name: 'SessionLostError' });
  await until(() => asked.length === 2);
  node.forget();
  node.cut();
  await next(client, 'reconnecting');
  const waits = client.request('add', [1]);
  await rejected;
  assert.equal(await waits, 1);
});

test('on a plain connection, requests that were sent end with it', async () => {
  const { node, client, asked } = await start({ reliable: false }, { plain: true });
  const rejected = assert.rejects(client.request('lost'), { name: 'SessionLostError' });
  await until(() => asked.length === 1);
  node.cut();
  await rejected;
  assert.equal(await client.request('add', [1, 1]), 2);
});

test('notifications go both ways, and every other text is a message', async () => {
  const { node, client, asked, heard } = await start();
  client.notify('typing', { room: 'tea' });
  client.notify('away');
  await until(() => asked.length === 2);
  assert.deepEqual(asked.map(({ text }) => JSON.parse(text)), [
    { jsonrpc: '2.0', method: 'typing', params: { room: 'tea' } },
    { jsonrpc: '2.0', method: 'away' },
  ]);
  const others = [
    '{"jsonrpc":"2.0","id":999,"result":1}',
    '{"jsonrpc":"2.0","id":"a","result":1}',
    '{"jsonrpc":"2.0","id":1,"method":"ask"}',
    '{"jsonrpc":"2.0","id":1,"error":{"code":"x"}}',
    '{"jsonrpc":"2.0","id":1,"error":null}',
    '{"jsonrpc":"1.0","method":"old"}',
    '{"jsonrpc":"2.0"}',
    '{"jsonrpc"',
    '[{"jsonrpc":"2.0","method":"batch"}]',
    'tea',
  ];
  for (const text of others) node.session.send(text);
  node.session.send('{"jsonrpc":"2.0","method":"said","params":["hello"]}');
  const { method, params } = await next(client, 'notification');
  assert.deepEqual([method, params], ['said', ['hello']]);
  assert.deepEqual(heard, others);
});

test('without jsonRpc every text is a message', async () => {
  const { node, client, heard } = await start({ jsonRpc: false });
  await next(client, 'open');
  node.session.send('{"jsonrpc":"2.0","method":"said"}');
  await until(() => heard.length === 1);
  await assert.rejects(client.request('add'), TypeError);
  assert.throws(() => client.notify('add'), TypeError);
});
