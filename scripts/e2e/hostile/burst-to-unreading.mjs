// Bursts of events to clients that do not read, on a channel that honest clients
// are on too: those must not be taken for slow.
import { backend } from '../lib/clients.mjs';
import { forever, port } from '../lib/hostile.mjs';
import { connect, event, first, push } from '../lib/raw.mjs';

const hub = backend({ port });
const data = 'x'.repeat(9_000);
const batch = Array.from({ length: 10 }, () => ({ channel: 'match.1', name: 'large', data }));

let there = 0;

forever(50, async (i) => {
  const { socket } = await connect(port, 280 + i);
  socket.pause();
  await push(socket, event('pusher:subscribe', { channel: 'match.1' }));
  there++;
  await first(socket, 'close');
  there--;
});

// 100 events at once, and again, but not so soon that who was away for a moment
// missed two bursts: that is more than one replay may hold.
forever(1, async () => {
  while (there < 50) await new Promise((resolve) => { setTimeout(resolve, 20); });
  await Promise.all(Array.from({ length: 10 }, () => hub.triggerBatch(batch)));
  await new Promise((resolve) => { setTimeout(resolve, 5000); });
});
