// Ever new users who come and go on twenty connections, in a room that others
// are in.
import { forever, port } from '../lib/hostile.mjs';
import { connect, event, push, sign } from '../lib/raw.mjs';

const channel = 'presence-lobby';
let users = 0;

forever(20, async () => {
  const { socket, socketId } = await connect(port, 9);
  const visit = () => {
    const channelData = JSON.stringify({ user_id: `guest-${users++}` });
    const auth = sign(`${socketId}:${channel}:${channelData}`);
    return [event('pusher:subscribe', { channel, auth, channel_data: channelData }), event('pusher:unsubscribe', { channel })];
  };
  while (await push(socket, Buffer.concat(Array.from({ length: 20 }, visit).flat())));
});
