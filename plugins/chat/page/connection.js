// A WebSocket that comes back.
//
// There is at most one socket at a time. When it is lost, the next try comes after a wait that
// doubles up to a bound and is drawn at random: when a node restarts, its clients do not all
// come back at the same moment. A connection has to last for a while before the waits start
// over, so a server that lets us in and throws us out is not hammered either.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const OPEN_TIMEOUT_MS = 10_000;
const LASTED_MS = 10_000;
// We came in again elsewhere. Coming back would throw that one out, which would come back, …
const CAME_BACK_ELSEWHERE = 4001;

export class Connection {
  #url;
  #on;
  #socket = null;
  #timer = 0;
  #tries = 0;
  #openedAt = 0;

  // `on` has `opened()`, `heard(event)`, `waiting()` and `replaced()`.
  constructor(url, on) {
    this.#url = url;
    this.#on = on;
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
  }

  open() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lost(), OPEN_TIMEOUT_MS);
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    const current = (handle) => (event) => this.#socket === socket && handle(event);
    socket.onopen = current(() => this.#opened());
    socket.onmessage = current((event) => this.#on.heard(JSON.parse(event.data)));
    socket.onclose = current((event) => this.#closed(event.code));
  }

  // Says whether the request went on its way.
  send(request) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(JSON.stringify(request));
    return true;
  }

  // Ends a wait for the next try.
  hurry() {
    if (this.#socket === null && this.#timer !== 0) this.open();
  }

  // Gives up a connection that does not answer any more.
  abandon() {
    if (this.#socket !== null) this.#lost();
  }

  #opened() {
    clearTimeout(this.#timer);
    this.#openedAt = performance.now();
    this.#on.opened();
  }

  #closed(code) {
    if (code !== CAME_BACK_ELSEWHERE) return this.#lost();
    this.#forget();
    this.#on.replaced();
  }

  #lost() {
    if (this.#openedAt !== 0 && performance.now() - this.#openedAt > LASTED_MS) this.#tries = 0;
    this.#forget();
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#tries);
    this.#tries += 1;
    this.#timer = setTimeout(() => this.open(), longest * (0.5 + Math.random() / 2));
    this.#on.waiting();
  }

  #forget() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    this.#timer = 0;
    this.#openedAt = 0;
    socket?.close();
  }
}
