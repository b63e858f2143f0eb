// The contract's functions. Their types and descriptions are in index.d.ts.

import * as calls from 'jackfield:plugin/calls@0.1.0';
import * as clients from 'jackfield:plugin/clients@0.1.0';
import * as closing from 'jackfield:plugin/close@0.1.0';
import * as groups from 'jackfield:plugin/groups@0.1.0';
import * as infos from 'jackfield:plugin/infos@0.1.0';
import * as runtime from 'jackfield:plugin/runtime@0.1.0';
import * as sends from 'jackfield:plugin/send@0.1.0';
import * as timers from 'jackfield:plugin/timers@0.1.0';
import * as uids from 'jackfield:plugin/uids@0.1.0';
import * as settings from 'wasi:config/store@0.2.0-rc.1';
import { subscribeDuration } from 'wasi:clocks/monotonic-clock@0.2.0';
import { bytes, entries, message, names, oneOf, optionalText, options, text, whole } from './arguments.js';
import { needNode } from './event.js';
import { parseJson } from './json.js';
import { MAX_U32, u64 } from './numbers.js';
import { ask, done, JackfieldError } from './result.js';
import { decode } from './utf8.js';

export { definePlugin } from './plugin.js';
export { JackfieldError, parseJson };
import { Refusal } from './plugin.js';

// Sends

export function sendToAll(content, exclude = []) {
  const sent = message('sendToAll: message', content);
  const excluded = names('sendToAll: exclude', exclude);
  return ask('sendToAll', () => reach(sends.sendToAll(sent, excluded)));
}

export function sendToClient(client, content) {
  const id = text('sendToClient: client', client);
  const sent = message('sendToClient: message', content);
  return ask('sendToClient', () => sends.sendToClient(id, sent));
}

export function reply(content) {
  const sent = message('reply: message', content);
  return ask('reply', () => sends.reply(sent));
}

export function sendToUid(to, content) {
  const receivers = names('sendToUid: uids', to);
  const sent = message('sendToUid: message', content);
  return ask('sendToUid', () => reach(sends.sendToUid(receivers, sent)));
}

export function sendToGroup(to, content, exclude = []) {
  const receivers = names('sendToGroup: groups', to);
  const sent = message('sendToGroup: message', content);
  const excluded = names('sendToGroup: exclude', exclude);
  return ask('sendToGroup', () => reach(sends.sendToGroup(receivers, sent, excluded)));
}

// Uids

export function bindUid(client, uid) {
  const [id, bound] = [text('bindUid: client', client), text('bindUid: uid', uid)];
  return ask('bindUid', () => uids.bindUid(id, bound));
}

export function unbindUid(client, uid) {
  const [id, only] = [text('unbindUid: client', client), optionalText('unbindUid: uid', uid)];
  return ask('unbindUid', () => uids.unbindUid(id, only));
}

export function isUidOnline(uid) {
  const asked = text('isUidOnline: uid', uid);
  return ask('isUidOnline', () => uids.isUidOnline(asked));
}

export function getUidByClientId(client) {
  const id = text('getUidByClientId: client', client);
  return ask('getUidByClientId', () => uids.getUidByClientId(id) ?? undefined);
}

export function getClientIdsByUid(uid, part) {
  const of = text('getClientIdsByUid: uid', uid);
  return pageOf('getClientIdsByUid', part, (...page) => uids.getClientIdsByUid(of, ...page));
}

export const getAllUids = (part) => pageOf('getAllUids', part, uids.getAllUids);

// Groups

export function joinGroup(client, group) {
  const [id, joined] = [text('joinGroup: client', client), text('joinGroup: group', group)];
  return ask('joinGroup', () => groups.joinGroup(id, joined));
}

export function leaveGroup(client, group) {
  const [id, left] = [text('leaveGroup: client', client), text('leaveGroup: group', group)];
  return ask('leaveGroup', () => groups.leaveGroup(id, left));
}

export function ungroup(group) {
  const dissolved = text('ungroup: group', group);
  return ask('ungroup', () => count(groups.ungroup(dissolved)));
}

export function getClientCountByGroup(group) {
  const of = text('getClientCountByGroup: group', group);
  return ask('getClientCountByGroup', () => count(groups.getClientCountByGroup(of)));
}

export function getClientIdsByGroup(group, part) {
  const of = text('getClientIdsByGroup: group', group);
  return pageOf('getClientIdsByGroup', part, (...page) => groups.getClientIdsByGroup(of, ...page));
}

export function getUidsByGroup(group, part) {
  const of = text('getUidsByGroup: group', group);
  return pageOf('getUidsByGroup', part, (...page) => groups.getUidsByGroup(of, ...page));
}

export function getUidCountByGroup(group) {
  const of = text('getUidCountByGroup: group', group);
  return ask('getUidCountByGroup', () => count(groups.getUidCountByGroup(of)));
}

export const getAllGroups = (part) => pageOf('getAllGroups', part, groups.getAllGroups);

// Clients

export function isOnline(client) {
  const id = text('isOnline: client', client);
  return ask('isOnline', () => clients.isOnline(id));
}

export const getAllClientCount = () => ask('getAllClientCount', () => count(clients.getAllClientCount()));

export function closeClient(client, ...how) {
  const [id, ...end] = [text('closeClient: client', client), ...closeArguments('closeClient', ...how)];
  return ask('closeClient', () => closing.closeClient(id, ...end));
}

export function closeUid(uid, ...how) {
  const [of, ...end] = [text('closeUid: uid', uid), ...closeArguments('closeUid', ...how)];
  return ask('closeUid', () => count(closing.closeUid(of, ...end)));
}

export function closeGroup(group, ...how) {
  const [of, ...end] = [text('closeGroup: group', group), ...closeArguments('closeGroup', ...how)];
  return ask('closeGroup', () => count(closing.closeGroup(of, ...end)));
}

function closeArguments(what, code = 1000, reason = '', lastMessage = undefined) {
  return [
    whole(`${what}: code`, code, 0xffff),
    text(`${what}: reason`, reason),
    lastMessage === undefined ? undefined : message(`${what}: lastMessage`, lastMessage),
  ];
}

// Info

export function getInfo(client) {
  const id = text('getInfo: client', client);
  return ask('getInfo', () => Object.fromEntries(infos.getInfo(id)));
}

export function setInfo(client, info) {
  const [id, all] = [text('setInfo: client', client), entries('setInfo: info', info, text)];
  return ask('setInfo', () => infos.setInfo(id, all));
}

export function updateInfo(client, changes) {
  const [id, changed] = [text('updateInfo: client', client), entries('updateInfo: changes', changes, optionalText)];
  return ask('updateInfo', () => Object.fromEntries(infos.updateInfo(id, changed)));
}

// Calls

export function call(plugin, method, payload = '') {
  const [callee, name] = [text('call: plugin', plugin), text('call: method', method)];
  const sent = bytes('call: payload', payload);
  return ask('call', () => calls.call(callee, name, sent));
}

// Timers

const SCOPES = ['node', 'cluster'];

export function setTimer(name, afterMs, given = {}) {
  const { everyMs, scope = 'node' } = options('setTimer: options', given, ['everyMs', 'scope']);
  const set = [
    text('setTimer: name', name),
    u64(whole('setTimer: afterMs', afterMs, Number.MAX_SAFE_INTEGER)),
    everyMs === undefined ? undefined : u64(whole('setTimer: everyMs', everyMs, Number.MAX_SAFE_INTEGER)),
    oneOf('setTimer: scope', scope, SCOPES),
  ];
  return ask('setTimer', () => timers.setTimer(...set));
}

export function cancelTimer(name, given = {}) {
  const { scope = 'node' } = options('cancelTimer: options', given, ['scope']);
  const [ended, where] = [text('cancelTimer: name', name), oneOf('cancelTimer: scope', scope, SCOPES)];
  return ask('cancelTimer', () => timers.cancelTimer(ended, where));
}

// The plugin itself

export function identify() {
  needNode('identify');
  const { plugin, generation, node } = runtime.identify();
  return { plugin, generation: Number(generation), node };
}

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error'];

export function log(level, line) {
  const [at, logged] = [oneOf('log: level', level, LEVELS), text('log: message', line)];
  needNode('log');
  runtime.log(at, logged);
}

export function sleep(ms) {
  const nanoseconds = whole('sleep: ms', ms, 2 ** 31) * 1e6;
  needNode('sleep');
  using pollable = subscribeDuration(u64(nanoseconds));
  pollable.block();
}

export const config = {
  get(name) {
    const asked = text('config.get: name', name);
    needNode('config.get');
    return settings.get(asked) ?? undefined;
  },
  all() {
    needNode('config.all');
    return Object.fromEntries(settings.getAll());
  },
};

// Values

export const refuse = (status, reason = '') =>
  new Refusal(whole('refuse: status', status, 0xffff), text('refuse: reason', reason));

export const callError = (code, why) => new JackfieldError(text('callError: code', code), text('callError: message', why));

export const unknownMethod = (method) => callError('unknown-method', `there is no method ${JSON.stringify(method)}`);

export const toText = (content) => (typeof content === 'string' ? content : decode(content));

export function allPages(page) {
  const items = [];
  let cursor;
  do {
    const part = page(cursor);
    if (!part.ok) return part;
    items.push(...part.value.items);
    cursor = part.value.next;
  } while (cursor !== undefined);
  return done(items);
}

// What comes back

const reach = ({ clients, dropped, missing }) => ({ clients: Number(clients), dropped: Number(dropped), missing });

const count = ({ value, missing }) => ({ value: Number(value), missing });

function pageOf(what, part = {}, list) {
  const { cursor, limit = 1000 } = options(`${what}: part`, part, ['cursor', 'limit']);
  const page = [optionalText(`${what}: cursor`, cursor), whole(`${what}: limit`, limit, MAX_U32)];
  return ask(what, () => {
    const { items, next, missing } = list(...page);
    return { items, next: next ?? undefined, missing };
  });
}
