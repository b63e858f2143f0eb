// Stands between a client and a node, and cuts their connections.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

export class CuttingProxy {
  #sockets = new Set();
  #server;

  /** `url` is that of the node; `proxy.url` is the same on this proxy. */
  static async start(url) {
    const proxy = new CuttingProxy();
    const { hostname, port } = new URL(url);
    proxy.#server = createServer((socket) => {
      const node = connect(Number(port || 80), hostname);
      for (const [from, to] of [[socket, node], [node, socket]]) {
        proxy.#sockets.add(from);
        from.on('error', () => {});
        from.on('close', () => (proxy.#sockets.delete(from), to.destroy()));
        from.pipe(to);
      }
    });
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    const own = new URL(url);
    own.host = `127.0.0.1:${proxy.#server.address().port}`;
    proxy.url = own.href;
    return proxy;
  }

  /** Breaks each connection, with what is under way in it. */
  cut() {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  async stop() {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
