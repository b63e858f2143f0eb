// A node that speaks jackfield.v1, and does to its connections what a test says.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { WebSocketServer } from 'ws';

/** One client as the node knows it: it outlives its connections. */
class Session {
  id = randomUUID().replaceAll('-', '');
  token = `${this.id}.${randomUUID()}`;
  /** How many messages of the client were handled. */
  received = 0;
  /** Messages for the client that it has not acknowledged, and the number of the last one that it has. */
  kept = [];
  acknowledged = 0;
  /** Each ack of the client. */
  acks = [];
  socket;

  constructor(node) {
    this.node = node;
  }

  /** Sends a message to the client, or keeps it until the client is back. */
  send(data) {
    const frame = typeof data === 'string' ? `m${data}` : data;
    if (this.node.resume) this.kept.push(frame);
    this.socket?.send(frame);
  }

  acknowledge(received) {
    this.kept.splice(0, received - this.acknowledged);
    this.acknowledged = received;
  }

  /** Breaks its connection without a close frame. What has arrived and is not handled is lost. */
  cut() {
    const { socket } = this;
    this.socket = undefined;
    socket?.terminate();
  }

  ack() {
    this.socket?.send(JSON.stringify({ type: 'ack', received: this.received }));
  }
}

export class MockNode {
  sessions = new Map();
  /** Requests of the handshakes, in order. */
  handshakes = [];
  /** Sockets that are open, in order. */
  sockets = [];
  /** What becomes of the next connections: a function for each, which returns true if it has dealt with the socket. */
  scripts = [];
  /** Codes with which clients closed their sockets. */
  closed = [];
  resume = true;
  acks = true;
  plain = false;
  onConnect = () => {};
  onMessage = (session, data) => session.send(data);

  static async start(options = {}) {
    const node = Object.assign(new MockNode(), options);
    node.server = new WebSocketServer({
      port: 0,
      host: '127.0.0.1',
      handleProtocols: (offered) =>
        node.plain || !offered.has('jackfield.v1')
          ? [...offered].find((name) => !name.startsWith('jackfield.') && !name.startsWith('bearer.')) ?? false
          : 'jackfield.v1',
      verifyClient: (info, answer) => {
        node.handshakes.push(info.req);
        const status = node.refuse?.(info.req);
        answer(!status, status);
      },
    });
    node.server.on('connection', (socket, request) => node.#connected(socket, request));
    await once(node.server, 'listening');
    node.url = `ws://127.0.0.1:${node.server.address().port}/console`;
    return node;
  }

  #connected(socket, request) {
    socket.on('error', () => {});
    this.sockets.push(socket);
    socket.on('close', (code) => {
      this.closed.push(code);
      this.sockets = this.sockets.filter((other) => other !== socket);
    });
    if (this.scripts.shift()?.(socket, request)) return;
    if (socket.protocol !== 'jackfield.v1') return this.#plain(socket);
    const offered = request.headers['sec-websocket-protocol'].split(/, ?/);
    const [, token, count] = /^jackfield\.resume\.(.*)\.(\d+)$/.exec(offered.at(-1)) ?? [];
    const before = this.sessions.get(token);
    const session = before ?? new Session(this);
    this.sessions.set(session.token, session);
    session.cut();
    session.socket = socket;
    if (before) session.acknowledge(Number(count));
    socket.on('message', (data, isBinary) => session.socket === socket && this.#frame(session, data, isBinary));
    socket.on('close', (code) => {
      if (session.socket !== socket) return;
      session.socket = undefined;
      if (![1006, 1012, 4900].includes(code)) this.sessions.delete(session.token);
    });
    const resume = this.resume ? { token: session.token, window_ms: 30_000 } : undefined;
    const wanted = new URL(request.url, 'ws://n').searchParams.get('subprotocol');
    const subprotocol = offered.find((name) => name === wanted || name.startsWith('app.'));
    const { id: client, received } = session;
    socket.send(JSON.stringify({ type: 'welcome', client, resumed: !!before, received, subprotocol, resume, new: 1 }));
    if (!before) this.onConnect(session);
    else for (const frame of session.kept) socket.send(frame);
  }

  #plain(socket) {
    const session = { send: (data) => socket.send(data) };
    this.onConnect(session);
    socket.on('message', (data, isBinary) => this.onMessage(session, isBinary ? data : data.toString()));
  }

  #frame(session, data, isBinary) {
    const text = isBinary ? 'm' : data.toString();
    if (text.startsWith('m')) {
      const socket = session.socket;
      if (this.beforeMessage?.(session) === 'lose') return;
      session.received += 1;
      this.onMessage(session, isBinary ? data : text.slice(1));
      if (this.acks && session.socket === socket) session.ack();
      return;
    }
    const control = JSON.parse(text);
    if (control.type === 'ping') this.onPing ? this.onPing(session) : session.socket.send('{"type":"pong"}');
    if (control.type === 'ack') {
      session.acks.push(control.received);
      session.acknowledge(control.received);
    }
  }

  /** The only session there is. */
  get session() {
    return [...this.sessions.values()].at(-1);
  }

  /** Breaks every connection without a close frame. */
  cut() {
    for (const socket of this.sockets) socket.terminate();
  }

  /** From now on nothing arrives on these connections, and nothing leaves. They stay open. */
  halfOpen() {
    for (const socket of this.sockets) {
      socket._socket.pause();
      socket.send = () => {};
    }
  }

  /** Closes every connection. */
  closeAll(code, reason) {
    for (const socket of this.sockets) socket.close(code, reason);
  }

  /** Forgets all clients, as a node does when their window is over. */
  forget() {
    for (const session of this.sessions.values()) session.socket = undefined;
    this.sessions.clear();
  }

  async stop() {
    for (const socket of this.server.clients) socket.terminate();
    this.server.close();
    await once(this.server, 'close');
  }
}
