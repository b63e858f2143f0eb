// The table of operations: a name, its arguments, and what carries it out.

import * as node from 'jackfield-sdk';
import { toText } from 'jackfield-sdk';
import type { Result } from 'jackfield-sdk';
import type { Arguments } from './arguments.js';
import * as misbehave from './misbehave.js';
import { print } from './stdio.js';
import { Request } from './request.js';

interface Operation {
  /** Its arguments, for error messages: `?` marks those that may be left out. */
  takes: string;
  /** Reads the arguments; what it returns is done if they are right. */
  read(given: Arguments): () => Result<unknown, string>;
}

const MAX_U32 = 2 ** 32 - 1;
const MAX = Number.MAX_SAFE_INTEGER;

export const operations: ReadonlyMap<string, Operation> = new Map([
  op('send-to-all', 'text or binary, exclude?', (given) => [given.message(), given.exclude()], node.sendToAll),
  op('send-to-client', 'client?, text or binary', (given) => [given.client(), given.message()], node.sendToClient),
  op('reply', 'text or binary', (given) => [given.message()], node.reply),
  op('send-to-uid', 'uid or uids, text or binary', (given) => [given.names('uid'), given.message()], node.sendToUid),
  op('send-to-group', 'group or groups, text or binary, exclude?', (given) => [given.names('group'), given.message(), given.exclude()], node.sendToGroup),
  op('bind-uid', 'client?, uid', (given) => [given.client(), given.text('uid')], node.bindUid),
  op('unbind-uid', 'client?, uid?', (given) => [given.client(), given.optionalText('uid')], (client, uid) => node.unbindUid(client, uid!)),
  op('is-uid-online', 'uid', (given) => [given.text('uid')], node.isUidOnline),
  op('get-uid-by-client-id', 'client?', (given) => [given.client()], node.getUidByClientId),
  op('get-client-ids-by-uid', 'uid, cursor?, limit?', (given) => [given.text('uid'), given.part()], node.getClientIdsByUid),
  op('get-all-uids', 'cursor?, limit?', (given) => [given.part()], node.getAllUids),
  op('join-group', 'client?, group', (given) => [given.client(), given.text('group')], node.joinGroup),
  op('leave-group', 'client?, group', (given) => [given.client(), given.text('group')], node.leaveGroup),
  op('ungroup', 'group', (given) => [given.text('group')], node.ungroup),
  op('get-client-count-by-group', 'group', (given) => [given.text('group')], node.getClientCountByGroup),
  op('get-client-ids-by-group', 'group, cursor?, limit?', (given) => [given.text('group'), given.part()], node.getClientIdsByGroup),
  op('get-uids-by-group', 'group, cursor?, limit?', (given) => [given.text('group'), given.part()], node.getUidsByGroup),
  op('get-uid-count-by-group', 'group', (given) => [given.text('group')], node.getUidCountByGroup),
  op('get-all-groups', 'cursor?, limit?', (given) => [given.part()], node.getAllGroups),
  op('is-online', 'client?', (given) => [given.client()], node.isOnline),
  op('get-all-client-count', 'nothing', () => [], node.getAllClientCount),
  op('close-client', 'client?, code?, reason?, text? or binary?', (given) => [given.client(), ...given.close()], node.closeClient),
  op('close-uid', 'uid, code?, reason?, text? or binary?', (given) => [given.text('uid'), ...given.close()], node.closeUid),
  op('close-group', 'group, code?, reason?, text? or binary?', (given) => [given.text('group'), ...given.close()], node.closeGroup),
  op('get-info', 'client?', (given) => [given.client()], node.getInfo),
  op('set-info', 'client?, info', (given) => [given.client(), given.info()], node.setInfo),
  op('update-info', 'client?, info', (given) => [given.client(), given.changes()], node.updateInfo),
  op('call', 'plugin, method, payload?', (given) => [given.text('plugin'), given.text('method'), given.optionalText('payload') ?? ''], call),
  op('set-timer', 'name, after_ms, every_ms?, scope?', (given) => [
    given.text('name'),
    given.number('after_ms', MAX),
    { everyMs: given.optionalNumber('every_ms', MAX), scope: given.scope() },
  ], node.setTimer),
  op('cancel-timer', 'name, scope?', (given) => [given.text('name'), { scope: given.scope() }], node.cancelTimer),
  op('identify', 'nothing', () => [], () => done(node.identify())),
  op('generation', 'nothing', () => [], () => done(node.identify())),
  op('log', 'level?, text', (given) => [given.level(), given.text('text')], (level, text) => done(node.log(level, text))),
  op('print', 'text', (given) => [given.text('text')], (text) => done(print(text))),
  op('sleep', 'ms?, log?', (given) => [given.number('ms', MAX_U32, 1000), given.optionalText('log')], sleep),
  op('repeat', 'times, request', (given) => [given.number('times', MAX_U32), given.request(), given.caller], repeat),
  op('panic', 'message?', (given) => [given.optionalText('message') ?? 'asked to panic'], misbehave.panic),
  op('unreachable', 'nothing', () => [], misbehave.unreachable),
  op('spin', 'ms?', (given) => [given.optionalNumber('ms', MAX)], (ms) => done(misbehave.spin(ms))),
  op('spin-host', 'nothing', (given) => [given.caller], misbehave.spinHost),
  op('overflow-stack', 'nothing', () => [], () => done(misbehave.overflowStack())),
  op('eat-memory', 'bytes?', (given) => [given.optionalNumber('bytes', MAX)], (bytes) => done(misbehave.eatMemory(bytes))),
  op('grow-memory', 'bytes', (given) => [given.number('bytes', MAX)], (bytes) => done(misbehave.growMemory(bytes))),
  op('exit', 'code?', (given) => [given.number('code', 255, 1)], misbehave.exit),
]);

function op<const A extends readonly unknown[]>(
  name: string,
  takes: string,
  read: (given: Arguments) => A,
  run: (...args: A) => Result<unknown, string>,
): [string, Operation] {
  return [name, {
    takes,
    read(given) {
      const args = read(given);
      return () => run(...args);
    },
  }];
}

const done = <T>(value: T): Result<T, string> => ({ ok: true, value });

function call(plugin: string, method: string, payload: string): Result<string, string> {
  const answer = node.call(plugin, method, payload);
  return answer.ok ? done(toText(answer.value)) : answer;
}

function sleep(ms: number, text: string | undefined): Result<void, string> {
  if (text !== undefined) node.log('info', text);
  return done(node.sleep(ms));
}

/** The same request many times within one event; the answer is the last one's. */
function repeat(times: number, request: Record<string, unknown>, caller: string): Result<unknown, string> {
  let answer: Result<unknown, string> = done(null);
  for (let time = 0; time < times && answer.ok; time++) answer = Request.fromObject(request).run(caller);
  return answer;
}
