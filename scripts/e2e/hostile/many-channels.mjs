// Anonymous clients that want 100,000 channels, and others that open and leave
// ever new ones.
import { forever, port } from '../lib/hostile.mjs';
import { connect, event, first, push } from '../lib/raw.mjs';

let next = 0;
const name = () => `cheap.${next++}.${'x'.repeat(150)}`;

forever(10, async (i) => {
  const { socket } = await connect(port, 20 + i);
  for (let n = 0; n < 10_000; n += 50) {
    if (!await push(socket, Buffer.concat(Array.from({ length: 50 }, () => event('pusher:subscribe', { channel: name() }))))) return;
  }
  await first(socket, 'close'); // what it got it keeps
});

forever(10, async (i) => {
  const { socket } = await connect(port, 40 + i);
  for (;;) {
    const channel = name();
    if (!await push(socket, Buffer.concat([event('pusher:subscribe', { channel }), event('pusher:unsubscribe', { channel })]))) return;
  }
});
