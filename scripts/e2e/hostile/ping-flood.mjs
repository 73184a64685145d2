// Connections that ask without an end and never read an answer: pings of the
// protocol and of WebSocket, pongs, subscriptions that fail, and what is no message.
import { forever, port } from '../lib/hostile.mjs';
import { connect, event, frame, push } from '../lib/raw.mjs';

const floods = [
  event('pusher:ping', {}), frame(9, 'x'.repeat(100)), frame(10, ''), event('pusher:subscribe', { channel: '*' }), frame(1, '{'), frame(2, 'x'),
  event('client-x', { some: 'data' }), event('pusher:signin', { auth: 'x', user_data: '{}' }),
].map((one) => Buffer.concat(Array.from({ length: 200 }, () => one)));

forever(2 * floods.length, async (i) => {
  const { socket } = await connect(port, 60 + i);
  socket.pause();
  while (await push(socket, floods[i % floods.length]));
});
