// What tsc has to accept, and what it has to refuse.
import { Jackfield, type JackfieldOptions, type SocketConstructor } from '../dist/index.js';

// A client stands where a WebSocket is expected, and its class where a class of WebSockets is.
export const socket: WebSocket = new Jackfield('wss://example.com/lobby');
export const sockets: SocketConstructor = Jackfield;
export const fromPage: JackfieldOptions = { WebSocket };
new sockets('wss://example.com/lobby', ['chat.v2']).send(new Uint8Array(1));

export const client = new Jackfield(new URL('wss://example.com/lobby'), { token: async () => 'a.b.c' });
client.onopen = ({ resumed, clientId, unacknowledged }) => [resumed, clientId?.length, unacknowledged.length];
client.onclose = ({ code, reason, unsent }) => [code.toFixed(), reason.trim(), unsent.length];
client.onmessage = ({ data }) => data;
client.onerror = null;
client.addEventListener('reconnecting', ({ delayMs, attempt }) => delayMs + attempt, { once: true });
client.addEventListener('notification', { handleEvent: ({ method }) => method.trim() });
client.addEventListener('my own', (event) => event.type);
export const answer: Promise<unknown> = client.request('people', { room: 'tea' }, { timeoutMs: 5000 });

// @ts-expect-error: JSON-RPC has no such parameters
void client.request('people', 5);
// @ts-expect-error: there is no such option
void new Jackfield('wss://example.com/lobby', { tokens: 'a.b.c' });
// @ts-expect-error: the event has no such part
client.addEventListener('open', ({ code }) => code);
