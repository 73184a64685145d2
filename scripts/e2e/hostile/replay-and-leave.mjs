// Clients that ask for all there is of cold channels and are gone.
import { forever, port } from '../lib/hostile.mjs';
import { connect, event, push } from '../lib/raw.mjs';

const asks = Buffer.concat(Array.from({ length: 20 }, (_, i) => event('pusher:subscribe', { channel: `cold.${i}`, replay: { last: 1000 } })));

forever(10, async (i) => {
  const { socket } = await connect(port, 180 + i);
  await push(socket, asks);
  await new Promise((resolve) => { setTimeout(resolve, 50); });
  socket.destroy();
});
