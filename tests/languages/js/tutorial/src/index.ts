// One room: everybody hears everybody, by name, until a backend closes it.

import {
  callError,
  closeGroup,
  definePlugin,
  getUidByClientId,
  parseJson,
  refuse,
  sendToClient,
  sendToGroup,
  setTimer,
  unknownMethod,
} from 'jackfield-sdk';
import { openBucket } from 'jackfield-sdk/keyvalue';

const visits = openBucket('default');

export default definePlugin({
  onConnect(client, { query }) {
    const name = query.get('name');
    if (!name) return refuse(400, 'say ?name=');
    const visit = visits.increment(name);
    if (!visit.ok) return refuse(503, visit.error.message);
    sendToClient(client, `welcome, ${name}: visit ${visit.value}`);
    return { uid: name, groups: ['lobby'] };
  },

  onMessage(client, message) {
    if (typeof message !== 'string') return; // a binary message
    const name = getUidByClientId(client);
    if (name.ok) sendToGroup('lobby', `${name.value}: ${message}`, client);
  },

  onClose(client, { uid }) {
    sendToGroup('lobby', `${uid} has left`);
  },

  onCall(caller, method, payload) {
    if (method !== 'close') return unknownMethod(method);
    const seconds = parseJson(payload);
    if (!seconds.ok) return seconds.error;
    if (typeof seconds.value !== 'number') return callError('invalid-argument', 'say how many seconds');
    const timer = setTimer('close', seconds.value * 1000, { scope: 'cluster' });
    if (!timer.ok) return timer.error;
    const told = sendToGroup('lobby', `the lobby closes in ${seconds.value} s`);
    return told.ok ? `${told.value.clients}` : told.error;
  },

  onTimer() {
    closeGroup('lobby', 4000, 'the lobby is closed');
  },
});
