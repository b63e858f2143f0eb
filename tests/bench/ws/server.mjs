// The package `ws` as a server with one group: what compression costs where each member's message
// is compressed by itself. With the argument `deflate`, it compresses as a node does at level 1.

import { WebSocketServer } from 'ws';

const deflates = process.argv[2] === 'deflate';
const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  perMessageDeflate: deflates && {
    serverNoContextTakeover: true,
    clientNoContextTakeover: true,
    threshold: 100,
    zlibDeflateOptions: { level: 1 },
  },
});
const members = new Set();

server.on('connection', (client, request) => {
  client.on('error', () => client.terminate());
  if (request.url === '/subscribe') {
    members.add(client);
    client.on('close', () => members.delete(client));
    client.send('joined');
  } else if (request.url === '/publish') {
    client.send('welcome');
    client.on('message', (data) => {
      for (const member of members) {
        member.send(data, { binary: false });
      }
    });
  } else {
    client.on('message', (data, binary) => client.send(data, { binary }));
  }
});

server.on('listening', () => {
  const { address, port } = server.address();
  console.log(JSON.stringify({ listening: { clients: `${address}:${port}` } }));
});
