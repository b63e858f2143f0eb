// What an author defines, and what the contract wants exported.

import { bytes, entries, names, optionalText, options, text, wrong } from './arguments.js';
import { event, show } from './event.js';
import { HeaderList } from './header-list.js';
import { JackfieldError } from './result.js';

const HANDLERS = ['onConnect', 'onMessage', 'onClose', 'onStart', 'onStop', 'onCall', 'onTimer'];

export class Refusal {
  constructor(status, reason) {
    this.status = status;
    this.reason = reason;
  }
}

export function definePlugin(plugin) {
  options('definePlugin: plugin', plugin, HANDLERS);
  for (const [name, handler] of Object.entries(plugin)) {
    if (typeof handler !== 'function') throw wrong(`definePlugin: ${name}`, 'a function', handler);
  }
  return plugin;
}

/** The exports of the contract. What the author has left out accepts everybody and does nothing. */
export function exportsOf(plugin) {
  definePlugin(plugin);
  return {
    handler: {
      onConnect: event('onConnect', (client, handshake) => plugin.onConnect?.(client, arrival(handshake)), admission),
      onMessage: event('onMessage', (client, message) => plugin.onMessage?.(client, message.val)),
      onClose: event('onClose', (client, departure) => plugin.onClose?.(client, left(departure))),
    },
    lifecycle: {
      onStart: event('onStart', () => plugin.onStart?.(), undefined, refuseStart),
      onStop: event('onStop', () => plugin.onStop?.()),
    },
    callHandler: {
      onCall: event('onCall', ({ tag, val }, method, payload) => {
        if (!plugin.onCall) return new JackfieldError('unknown-method', 'it answers no calls');
        return plugin.onCall({ from: tag, name: val }, method, payload);
      }, answer),
    },
    timerHandler: {
      onTimer: event('onTimer', (name) => plugin.onTimer?.(name)),
    },
  };
}

/** The node refuses the generation, and logs the text. */
function refuseStart(name, error) {
  throw Object.assign(new Error(name), { payload: show(error).toWellFormed() });
}

const arrival = ({ path, query, headers, remoteAddress, subprotocols, uid }) => ({
  path,
  query: new URLSearchParams(query),
  headers: new HeaderList(headers),
  remoteAddress,
  subprotocols,
  uid: uid ?? undefined,
});

const left = ({ code, reason, by, uid, groups, info }) => ({
  code,
  reason,
  by,
  uid: uid ?? undefined,
  groups,
  info: Object.fromEntries(info),
});

function admission(value) {
  if (value instanceof Refusal) return { error: { status: value.status, reason: value.reason } };
  const { uid, groups = [], info = {}, subprotocol } = options('onConnect: the answer', value ?? {}, ['uid', 'groups', 'info', 'subprotocol']);
  return {
    ok: {
      uid: optionalText('onConnect: uid', uid),
      groups: names('onConnect: groups', groups),
      info: entries('onConnect: info', info, text),
      subprotocol: optionalText('onConnect: subprotocol', subprotocol),
    },
  };
}

const CALL_ERRORS = ['unknown-method', 'invalid-argument', 'not-found', 'denied', 'limit-exceeded', 'overloaded', 'unavailable', 'failed'];

function answer(value) {
  if (!(value instanceof JackfieldError)) return { ok: bytes('onCall: the answer', value ?? '') };
  // Of an error that another function gave, a caller may not know the code.
  const code = CALL_ERRORS.includes(value.code) ? value.code : 'failed';
  return { error: { code, message: value.message.toWellFormed() } };
}
