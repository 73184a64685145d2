// Frames that are too large, never end, or are none.
import { randomBytes } from 'node:crypto';
import { forever, port } from '../lib/hostile.mjs';
import { connect, dial, event, first, frame, push } from '../lib/raw.mjs';

const endless = Buffer.from([0x81, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
const deep = '['.repeat(50_000);
const garbage = [
  () => endless, // announces 2^48 bytes
  () => frame(1, 'x'.repeat(300_000)),
  () => frame(1, 'x'.repeat(60_000), false), // a fragment, again and again
  () => frame(0, 'x'.repeat(100)), // continues nothing
  () => frame(1, Buffer.from([0xff, 0xfe, 0xc0])),
  () => frame(1, `{"event":"x","data":${deep}`),
  () => frame(9, 'x'.repeat(200)), // a ping may have 125 bytes
  () => randomBytes(50_000),
  () => Buffer.from('81050000', 'hex'), // without a mask
  () => event('pusher:subscribe', { channel: 'x'.repeat(90_000) }),
  () => event('x'.repeat(90_000), {}),
];

forever(2 * garbage.length, async (i) => {
  const { socket } = await connect(port, 80 + i);
  for (let n = 0; n < 200 && await push(socket, garbage[i % garbage.length]()); n++);
  socket.destroy();
});

forever(5, async (i) => {
  const socket = await dial(port, 110 + i);
  await push(socket, randomBytes(20_000));
  await Promise.race([first(socket, 'close'), new Promise((resolve) => { setTimeout(resolve, 100); })]);
  socket.destroy();
});
