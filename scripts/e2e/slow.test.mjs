// Bursts to pusher-js, at once and behind a slow link: nobody who reads is too
// slow. SLOW_READERS=1000 SLOW_EVENTS=100 is the long version, of 7 minutes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backend, client, connected, subscribed } from './lib/clients.mjs';
import { Server } from './lib/server.mjs';
import { Recorder, within } from './lib/wait.mjs';
import { Proxy } from './replay/proxy.mjs';

const LINK = 20e6 / 8; // 20 Mbit/s
const SIZE = 10_000;
const readers = Number(process.env.SLOW_READERS ?? 300);
const events = Number(process.env.SLOW_EVENTS ?? 30);

// burst publishes n numbered events as fast as they are taken.
async function burst(server, n) {
  const hub = backend(server);
  const padding = 'x'.repeat(SIZE);
  for (let i = 0; i < n; i += 10) {
    await hub.triggerBatch(Array.from({ length: Math.min(10, n - i) }, (_, j) => ({ channel: 'chat', name: 'x', data: `${i + j} ${padding}` })));
  }
}

test('a burst reaches pusher-js whole', async (t) => {
  const server = await Server.start(t);
  const pusher = client(t, server);
  const channel = await subscribed(pusher, 'chat');
  const got = new Recorder('event');
  const states = new Recorder('state');
  channel.bind('x', (data) => got.push(parseInt(data, 10)));
  pusher.connection.bind('state_change', states.push);
  await burst(server, 300);
  assert.deepEqual(await got.count(300), Array.from({ length: 300 }, (_, i) => i));
  assert.deepEqual(states.items, []);
});

test(`a burst to ${readers} behind a slow link loses nobody`, async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, server.port, LINK);
  const left = new Recorder('connection lost');
  const counts = new Array(readers).fill(0);
  let whole = 0;
  const all = new Recorder('reader with everything');
  for (let at = 0; at < readers; at += 50) {
    await Promise.all(Array.from({ length: Math.min(50, readers - at) }, async (_, j) => {
      const pusher = client(t, { port: proxy.port });
      await connected(pusher);
      const channel = await subscribed(pusher, 'chat');
      channel.bind('x', (data) => {
        assert.equal(parseInt(data, 10), counts[at + j]++);
        if (counts[at + j] === events) all.push(++whole);
      });
      pusher.connection.bind('state_change', ({ current }) => left.push(current));
    }));
  }
  await burst(server, events);
  const seconds = readers * events * SIZE / LINK;
  await done(all, left, (2 * seconds + 60) * 1000);
  assert.equal(left.items.length, 0, `after ${whole} had everything: ${left.items.slice(0, 5)}\n${server.log.slice(-5).join('\n')}`);
  assert.equal(whole, readers);
});

// done waits until all have everything or one was lost.
function done(all, left, patience) {
  return within(new Promise((resolve) => {
    const check = () => {
      if (all.items.length === readers || left.items.length > 0) resolve();
    };
    all.waiting.add(check);
    left.waiting.add(check);
    check();
  }), 'everybody to have everything', patience);
}
