// Event streams that ask for much, or claim to have been everywhere, and do not
// read.
import { forever, port } from '../lib/hostile.mjs';
import { dial, push } from '../lib/raw.mjs';
import { app } from '../lib/server.mjs';

const claims = `2~${Math.floor(Date.now() / 1000).toString(36)}${Array.from({ length: 6000 }, (_, i) => `~E-${i.toString(36)}-1`).join('')}`;
const channels = Array.from({ length: 20 }, (_, i) => `channel=cold.${i}`).join('&');

forever(40, async (i) => {
  const socket = await dial(port, 160 + i);
  socket.pause();
  const header = i % 4 === 1 ? `Last-Event-ID: ${claims.slice(0, 20_000)}\r\n` : '';
  const query = i % 4 === 3 ? `&lastEventId=${claims.slice(0, 12_000)}` : '';
  await push(socket, `GET /app/${app.key}/events?${channels}&last=1000${query} HTTP/1.1\r\nHost: x\r\n${header}\r\n`);
  await new Promise((resolve) => { setTimeout(resolve, 1000); });
  socket.destroy();
});
