// Sessions that change as fast as they can, of eight connections, each with as
// many channels as it may have; and ever new sessions that are left at once.
import { randomUUID } from 'node:crypto';
import { forever, port } from '../lib/hostile.mjs';
import { connect, event, PATH, push } from '../lib/raw.mjs';

const many = Array.from({ length: 190 }, (_, i) => event('pusher:subscribe', { channel: `cold.${i % 20}.${i}.${'x'.repeat(150)}` }));
const pair = ['subscribe', 'unsubscribe'].map((what) => event(`pusher:${what}`, { channel: 'match.2' }));
const loop = Buffer.concat(Array.from({ length: 50 }, () => pair).flat());

forever(8, async (i) => {
  const { socket } = await connect(port, 360 + i, `/session/${randomUUID()}${PATH}`);
  await push(socket, Buffer.concat(many));
  while (await push(socket, loop));
});

forever(4, async (i) => {
  const { socket } = await connect(port, 380 + i, `/session/${randomUUID()}${PATH}`);
  await push(socket, Buffer.concat(many));
  socket.destroy();
});
