// Event streams and subscriptions with auth strings that were made for something
// else: a WebSocket's socket id, one that nobody issued, another channel. None
// may be opened.
import { forever, port } from '../lib/hostile.mjs';
import { connect, event, first, push, sign } from '../lib/raw.mjs';
import { app } from '../lib/server.mjs';

const base = `http://127.0.0.1:${port}/app/${app.key}/events`;
const channel = 'private-chat.1';

async function mustRefuse(socketId, auth) {
  const query = new URLSearchParams({ socket_id: socketId, channel, last: 10, [`auth[${channel}]`]: auth });
  const answer = await fetch(`${base}?${query}`, { signal: AbortSignal.timeout(10_000) });
  if (answer.status !== 401) throw new Error(`a stream for ${socketId} was answered ${answer.status}`);
  await answer.text();
}

forever(4, async (i) => {
  const { socket, socketId } = await connect(port, 400 + i);
  await mustRefuse(socketId, sign(`${socketId}:${channel}`));
  const { socket_id: issued } = await (await fetch(`${base}/socket_id`)).json();
  const [number, second] = issued.split('.');
  const forged = `${number}.${(BigInt(second) + 1n)}`;
  await mustRefuse(forged, sign(`${forged}:${channel}`));
  await mustRefuse('1.1', sign(`1.1:${channel}`));
  await mustRefuse(issued, sign(`${issued}:private-chat.2`));
  await mustRefuse(issued, sign(`${socketId}:${channel}`));
  // A stream's id opens no channel of a WebSocket either.
  await push(socket, event('pusher:subscribe', { channel, auth: sign(`${issued}:${channel}`) }));
  const answer = String(await first(socket, 'data', 'close'));
  if (answer.includes('subscription_succeeded')) throw new Error(`${channel} was opened with the signature for a stream`);
  socket.destroy();
});
