import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, encode, encodeAck, PING, resumeProtocol } from '../dist/protocol.js';

test('messages go there and back', () => {
  for (const text of ['', 'm', '{"type":"welcome"}', 'grüße 🫖', '\0']) {
    assert.equal(encode(text), `m${text}`);
    assert.deepEqual(decode(encode(text)), { message: text });
  }
  const bytes = new ArrayBuffer(3);
  assert.equal(encode(bytes), bytes);
  assert.deepEqual(decode(bytes), { message: bytes });
});

test('control messages are read, and what is unknown of them is ignored', () => {
  const welcome = { type: 'welcome', client: 'c', resumed: true, received: 3, resume: { token: 't', window_ms: 5 }, x: 1 };
  assert.deepEqual(decode(JSON.stringify(welcome)), { control: welcome });
  assert.deepEqual(decode('{"type":"ack","received":7,"x":1}'), { control: { type: 'ack', received: 7 } });
  assert.deepEqual(decode('{"type":"pong"}'), { control: { type: 'pong' } });
  assert.deepEqual(decode('{"type":"tea"}'), { control: { type: 'unknown' } });
  assert.deepEqual(decode('{}'), { control: { type: 'unknown' } });
});

test('what is no frame of jackfield.v1 is refused', () => {
  const wrong = [
    '', 'x', ' m', '[1]', '{', '{"type":"ack"}', '{"type":"ack","received":-1}', '{"type":"ack","received":1.5}',
    '{"type":"ack","received":"1"}', '{"type":"welcome"}',
    '{"type":"welcome","client":1,"resumed":false,"received":0}',
    '{"type":"welcome","client":"c","resumed":false,"received":0,"resume":{}}',
    '{"type":"welcome","client":"c","resumed":false,"received":0,"resume":null}',
    '{"type":"welcome","client":"c","resumed":false,"received":0,"subprotocol":1}',
  ];
  for (const frame of wrong) assert.throws(() => decode(frame), { name: 'ProtocolError' }, frame);
});

test('what the client says is as the protocol has it', () => {
  assert.equal(encodeAck(12), '{"type":"ack","received":12}');
  assert.equal(PING, '{"type":"ping"}');
  assert.equal(resumeProtocol('0e.4f1c', 17), 'jackfield.resume.0e.4f1c.17');
});
