// Clients that ask for all there is of cold channels, again and again, and are
// gone.
import { forever, port } from '../lib/hostile.mjs';
import { connect, event, push } from '../lib/raw.mjs';

const channels = Array.from({ length: 20 }, (_, i) => `cold.${i}`);
const asks = Buffer.concat(channels.map((channel) => event('pusher:subscribe', { channel, replay: { last: 1000 } })));
const leaves = Buffer.concat(channels.map((channel) => event('pusher:unsubscribe', { channel })));

forever(10, async (i) => {
  const { socket } = await connect(port, 180 + i);
  await push(socket, asks);
  await new Promise((resolve) => { setTimeout(resolve, 50); });
  socket.destroy();
});

forever(5, async (i) => {
  const { socket } = await connect(port, 190 + i);
  for (let n = 0; n < 100 && await push(socket, Buffer.concat([asks, leaves])); n++);
  socket.destroy();
});
