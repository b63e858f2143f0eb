// What a WebDriver test calls in the page: `start`, `report` and `client`. The page also shows how it goes.
import { Jackfield } from '../dist/index.js';
import { NumberedSession } from './numbered-session.js';

let client;
let session;
const show = (id, text) => (document.getElementById(id).textContent = text);

/** Connects, and sends numbered messages. `url` may be a path; `options` are those of the client. */
window.start = ({ url, messages = 0, everyMs = 0, options = {} }) => {
  client?.close();
  client = new Jackfield(url, options);
  session = new NumberedSession(client, { messages, everyMs });
  client.addEventListener('open', ({ resumed }) => show('state', resumed ? 'resumed' : 'open'));
  client.addEventListener('reconnecting', ({ code, reason }) => show('state', `reconnecting: ${code} ${reason}`));
  client.addEventListener('close', ({ code, reason }) => show('state', `closed: ${code} ${reason}`));
};

/** What has become of the messages so far: numbers, and whether all of them are back. */
window.report = () => session.report();

/** The client, for what else a test wants of it. */
window.client = () => client;

setInterval(() => session && show('report', JSON.stringify(session.report(), null, 1)), 50);
show('state', 'ready');
