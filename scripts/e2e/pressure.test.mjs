// When the process uses more memory than its mark, new clients are told to come back
// later, and those that are there notice nothing. A client's own load is the pressure:
// what waits for it while it does not read.
import assert from 'node:assert/strict';
import test from 'node:test';
import { backend, client, connected, subscribed } from './lib/clients.mjs';
import { Server, freePort } from './lib/server.mjs';
import { Recorder } from './lib/wait.mjs';

const MiB = 1 << 20;

// metric reads one of a server's.
async function metric(port, name) {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const line = text.split('\n').find((one) => one.startsWith(`${name} `));
  assert.ok(line, `${name} is missing in\n${text}`);
  return Number(line.slice(name.length + 1));
}

test('above memory_mark clients are told 4100, come back below it, and nobody else suffers', async (t) => {
  const base = await freePort();
  const plain = await Server.start(t, { alone: true, args: ['--metrics-listen', `127.0.0.1:${base}`] });
  const idle = await metric(base, 'reecho_memory_used_bytes');
  await plain.stop();

  // The retained events are in memory until the ring that has them is given up.
  const metrics = await freePort();
  const server = await Server.start(t, {
    alone: true,
    args: ['--metrics-listen', `127.0.0.1:${metrics}`, '--memory-mark', String(Math.round(idle + 96 * MiB)), '--replay-memory', '512MiB', '--linger', '1s', '--linger-memory', '512MiB', '--retention-events', '100000', '--log-level', 'info'],
    apps: [{ id: '77', key: 'demo-key-01', secret: 'demo-secret-01', limits: { replay_bytes: '512MiB', replay_events: 100000, event_data_bytes: '1MiB', request_bytes: '4MiB' } }],
  });
  const used = () => metric(metrics, 'reecho_memory_used_bytes');
  const pressed = () => metric(metrics, 'reecho_memory_pressure');
  assert.equal(await pressed(), 0);
  const alice = client(t, server);
  const room = await subscribed(alice, 'match.1');
  const reader = client(t, server);
  await subscribed(reader, 'bulk');
  const api = backend(server);

  // What comes to a followed channel is kept in memory for those who come back to it.
  const data = 'x'.repeat(512 << 10);
  let published = 0;
  for (; published < 1000 && await pressed() === 0; published++) await api.trigger('bulk', 'blob', data);
  assert.ok(published < 1000, `${published} events made it ${await used()} bytes`);
  t.diagnostic(`above the mark with ${Math.round(await used() / MiB)} MiB, ${Math.round(idle / MiB)} MiB when idle, after ${published} events`);

  const bob = client(t, server);
  const errors = new Recorder('error');
  bob.connection.bind('error', errors.push);
  await errors.until((all) => all.some(({ data, error }) => (data ?? error?.data)?.code === 4100));
  assert.notEqual(bob.connection.state, 'connected');

  // Those who are there go on, and so do publishes and health checks.
  const heard = new Promise((resolve) => { room.bind('goal', resolve); });
  assert.equal((await api.trigger('match.1', 'goal', { home: 1 })).status, 200);
  assert.deepEqual(await heard, { home: 1 });
  assert.equal(alice.connection.state, 'connected');
  assert.equal((await fetch(`http://127.0.0.1:${server.port}/ready`)).status, 200);
  const stream = await fetch(`http://127.0.0.1:${server.port}/app/demo-key-01/events?channel=match.1`);
  assert.equal(stream.status, 503);
  assert.ok(Number(stream.headers.get('retry-after')) > 0);
  assert.match(await stream.text(), /memory_mark/);

  // The channel without subscribers is given up, with all that was kept of it.
  reader.disconnect();
  await connected(bob);
  assert.equal(await pressed(), 0);
  const lines = server.log.filter((line) => line.includes('memory is'));
  assert.equal(lines.length, 2, lines.join('\n'));
  assert.match(lines[0], /above its mark.*used=\d+ memory_mark=\d+ allowed=\d+/);
  assert.match(lines[1], /below its mark again/);
});
