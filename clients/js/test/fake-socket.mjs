// A class of WebSockets without a network: a test plays the node.
export function fakeSockets() {
  return class FakeSocket {
    static made = [];
    readyState = 0;
    bufferedAmount = 0;
    protocol = '';
    extensions = '';
    sent = [];

    constructor(url, protocols, options) {
      Object.assign(this, { url, protocols, options });
      FakeSocket.made.push(this);
    }

    static get last() {
      return FakeSocket.made.at(-1);
    }

    open(protocol = '') {
      this.readyState = 1;
      this.protocol = protocol;
      this.onopen?.({});
    }

    /** Opens as a node does that speaks jackfield.v1. */
    welcome(more = {}) {
      this.open('jackfield.v1');
      this.control({ type: 'welcome', client: 'c1', resumed: false, received: 0, resume: { token: 'c1.x' }, ...more });
    }

    control(message) {
      this.frame(JSON.stringify(message));
    }

    frame(data) {
      this.onmessage?.({ data });
    }

    end(code, reason = '') {
      this.readyState = 3;
      this.onclose?.({ code, reason, wasClean: code !== 1006 });
    }

    send(data) {
      this.sent.push(data);
    }

    close(code, reason) {
      this.closedWith = [code, reason];
      this.readyState = 2;
    }
  };
}
