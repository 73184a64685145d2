// One user who comes and goes on five connections, in a room that others are in.
import { forever, port } from '../lib/hostile.mjs';
import { connect, event, push, sign } from '../lib/raw.mjs';

const channel = 'presence-lobby';
const channelData = JSON.stringify({ user_id: 'mallory', user_info: { name: 'Mallory' } });

forever(5, async () => {
  const { socket, socketId } = await connect(port, 9);
  const auth = sign(`${socketId}:${channel}:${channelData}`);
  const pair = Buffer.concat([
    event('pusher:subscribe', { channel, auth, channel_data: channelData }), event('pusher:unsubscribe', { channel }),
  ]);
  const loop = Buffer.concat(Array.from({ length: 100 }, () => pair));
  while (await push(socket, loop));
});
