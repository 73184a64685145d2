// Connections that come and go as fast as they can: good ones, sessions, users
// that somebody watches, and what is refused.
import { forever, port } from '../lib/hostile.mjs';
import { connect, event, PATH, push, sign } from '../lib/raw.mjs';

let next = 0;
const userData = JSON.stringify({ id: 'mallory' });

forever(8, async (i) => {
  const { socket, socketId } = await connect(port, 240 + i);
  await push(socket, event('pusher:signin', { auth: sign(`${socketId}::user::${userData}`), user_data: userData }));
  socket.destroy();
});
forever(4, async (i) => {
  const { socket } = await connect(port, 250 + i, `/session/made-up-session-${next++}-0123456789${PATH}`);
  await push(socket, event('pusher:subscribe', { channel: 'match.1' }));
  socket.destroy();
});
forever(4, async (i) => {
  const { socket } = await connect(port, 260 + i, '/app/unknown?protocol=7');
  socket.destroy();
});
