// One room: everybody hears everybody, by name.

import { definePlugin, getUidByClientId, refuse, sendToGroup } from 'jackfield-sdk';

export default definePlugin({
  onConnect(client, { query }) {
    const name = query.get('name');
    if (!name) return refuse(400, 'say ?name=');
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
});
