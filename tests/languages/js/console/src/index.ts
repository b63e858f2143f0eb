// The whole contract over JSON, as plugins/console in Rust: its README says what is asked and answered.

import { definePlugin, identify, leaveGroup, log, refuse, sendToClient, sendToGroup } from 'jackfield-sdk';
import type { Handshake } from 'jackfield-sdk';
import { json, Request, verdict } from './request.js';
import { answerCall } from './methods.js';

const WATCH_CLOSE = 'watch-close';
const TIMERS = 'timers';

export default definePlugin({
  onConnect(client, handshake) {
    const { query } = handshake;
    for (const text of query.getAll('say')) tell(client, text);
    for (const text of query.getAll('do')) {
      const request = Request.namedOrWhole(text);
      const answer = request.run(client);
      if (!answer.ok) return refuse(400, String(answer.error));
      if (request.id !== null) tell(client, request.answer(answer));
    }
    const status = query.get('refuse');
    if (status !== null) return refusal(status, query);
    const shown = query.get('handshake') === '1' ? { handshake: show(handshake) } : {};
    const { generation } = identify();
    tell(client, json({ event: 'connected', client, generation, ...shown }));
    return {
      uid: query.get('uid') ?? undefined,
      subprotocol: query.get('subprotocol') ?? undefined,
      groups: query.getAll('group'),
      info: Object.fromEntries([...query].flatMap(([name, value]) => (name.startsWith('info.') ? [[name.slice(5), value]] : []))),
    };
  },

  onMessage(client, message) {
    const request = Request.fromMessage(message);
    tell(client, request.answer(request.run(client)));
  },

  onClose(client, { code, reason, by, uid, groups, info }) {
    groupHears(WATCH_CLOSE, json({ event: 'closed', client, code, reason, by, uid, groups, info }));
    const group = info['on-close-leave'];
    if (group !== undefined) groupHears(WATCH_CLOSE, json({ event: 'on-close-leave', ...verdict(leaveGroup(client, group)) }));
    const text = info['on-close'];
    if (text !== undefined) groupHears(WATCH_CLOSE, json({ event: 'on-close', ...answerOf(text, client) }));
  },

  onCall: answerCall,

  onTimer(name) {
    const { generation, node } = identify();
    groupHears(TIMERS, json({ event: 'timer', name, generation, node }));
    // A timer is no client's: a request that means one has to name it.
    if (name.startsWith('do:')) groupHears(TIMERS, json({ event: 'on-timer', name, ...answerOf(name.slice(3), '') }));
  },
});

function answerOf(text: string, client: string): object {
  const request = Request.namedOrWhole(text);
  return { id: request.id, ...verdict(request.run(client)) };
}

function refusal(status: string, query: URLSearchParams) {
  if (!/^\d{1,5}$/.test(status)) return refuse(400, `refuse=${status}: give an HTTP status, as refuse=403`);
  return refuse(Number(status), (query.get('reason') ?? '').repeat(Number(query.get('times') ?? 1)));
}

const show = ({ path, query, headers, remoteAddress, subprotocols, uid }: Handshake) => ({
  path,
  query: [...query],
  headers: [...headers],
  remote_address: remoteAddress,
  subprotocols,
  uid,
});

/** A client that has left cannot be told anything, and that is no news. */
function tell(client: string, text: string): void {
  const sent = sendToClient(client, text);
  if (!sent.ok && sent.error.code !== 'not-found' && sent.error.code !== 'closed') {
    log('warn', `no answer went to ${client}: ${sent.error}`);
  }
}

function groupHears(group: string, text: string): void {
  const sent = sendToGroup(group, text);
  if (!sent.ok) log('warn', `the group ${group} was not told: ${sent.error}`);
}
