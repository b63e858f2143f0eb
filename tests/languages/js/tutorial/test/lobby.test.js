// Runs against the node of `jackfield dev`, which must be running.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';

const connect = (query) => execFileSync('jackfield', ['connect', query], { input: '', encoding: 'utf8', stdio: 'pipe' });

test('whoever comes is greeted, and counted', () => {
  const visit = () => Number(connect('?name=test').match(/^welcome, test: visit (\d+)$/m)[1]);
  assert.equal(visit() + 1, visit());
});

test('nobody comes in without a name', () => {
  assert.throws(() => connect(''), /say \?name=/);
});
