// A session of numbered messages with the plugin `console`, which sends each number back and then answers. It runs in
// Node.js and in pages, and says of each message whether it was lost, came twice, or came too early.

export class NumberedSession {
  #client;
  #messages;
  #sent = 0;
  /** How often each number came back, and how often its request was answered. */
  #back = [];
  #answers = [];
  #last = 0;
  #disordered = 0;
  #opens = [];
  #reconnects = [];
  #closed;

  /** Sends the numbers from 1 to `messages`, one every `everyMs` milliseconds. */
  constructor(client, { messages, everyMs = 0 }) {
    this.#client = client;
    this.#messages = messages;
    client.addEventListener('open', ({ resumed, clientId }) => this.#opens.push({ resumed, clientId }));
    client.addEventListener('reconnecting', ({ code, reason }) => this.#reconnects.push(`${code} ${reason}`.trim()));
    client.addEventListener('close', ({ code, reason }) => (this.#closed = `${code} ${reason}`.trim()));
    client.addEventListener('message', ({ data }) => this.#hear(data));
    const timer = setInterval(() => {
      if (this.#sent === messages || client.readyState >= client.CLOSING) return clearInterval(timer);
      const id = this.#sent + 1;
      try {
        client.send(JSON.stringify({ id, do: 'reply', text: `${id}` }));
        this.#sent = id;
      } catch (error) {
        if (error.name !== 'QueueFullError') throw error;
      }
    }, everyMs);
  }

  #hear(data) {
    const value = JSON.parse(data);
    if (typeof value === 'number') {
      this.#back[value] = (this.#back[value] ?? 0) + 1;
      if (value !== this.#last + 1) this.#disordered += 1;
      this.#last = value;
    } else if (value.id) {
      this.#answers[value.id] = (this.#answers[value.id] ?? 0) + 1;
    }
  }

  /** What has become of the messages so far. */
  report() {
    const numbers = Array.from({ length: this.#sent }, (_, index) => index + 1);
    const count = (holds) => numbers.filter(holds).length;
    const received = count((number) => this.#back[number]);
    const answered = count((number) => this.#answers[number]);
    return {
      done: this.#sent === this.#messages && received === this.#sent && answered === this.#sent,
      sent: this.#sent,
      received,
      answered,
      lost: this.#sent - Math.min(received, answered),
      doubled: count((number) => this.#back[number] > 1 || this.#answers[number] > 1),
      disordered: this.#disordered,
      unacknowledged: this.#client.unacknowledged,
      reconnects: this.#reconnects.length,
      resumed: this.#opens.filter(({ resumed }) => resumed).length,
      sessions: new Set(this.#opens.map(({ clientId }) => clientId)).size,
      reasons: [...new Set(this.#reconnects)],
      closed: this.#closed ?? null,
    };
  }
}
