// Connections that subscribe and unsubscribe in a loop, to a channel that others
// are on and are told the subscription_count of.
import { forever, port } from '../lib/hostile.mjs';
import { connect, event, push } from '../lib/raw.mjs';

const pair = Buffer.concat([event('pusher:subscribe', { channel: 'match.1' }), event('pusher:unsubscribe', { channel: 'match.1' })]);
const loop = Buffer.concat(Array.from({ length: 50 }, () => pair));

forever(10, async (i) => {
  const { socket } = await connect(port, i);
  while (await push(socket, loop));
});
