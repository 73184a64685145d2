// Metrics of a cluster of three with real clients on each transport: what each node
// tells, and what the sum over them is.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import test from 'node:test';
import { EventSource } from 'eventsource';
import { backend, client, connected, subscribed } from './lib/clients.mjs';
import { Mesh } from './lib/mesh.mjs';
import { Receiver } from './lib/receiver.mjs';
import { app, freePort } from './lib/server.mjs';
import { once, pause, within } from './lib/wait.mjs';

// A sample as the text format has it.
const SAMPLE = /^([a-z_]+(?:\{[a-z_]+="(?:[^"\\]|\\.)*"(?:,[a-z_]+="(?:[^"\\]|\\.)*")*\})?) (\S+)$/;

// scrape reads a node's samples, by what stands before the value.
async function scrape({ metrics }) {
  const answer = await fetch(`http://127.0.0.1:${metrics}/metrics`);
  assert.equal(answer.status, 200);
  const all = {};
  for (const line of (await answer.text()).split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const [, name, value] = line.match(SAMPLE) ?? assert.fail(`no sample: ${line}`);
    assert.ok(!(name in all), `${name} is there twice`);
    all[name] = Number(value);
    assert.ok(!Number.isNaN(all[name]), line);
  }
  return all;
}

// sums waits until the sums over nodes are as wanted, a number or a test of it.
async function sums(nodes, want) {
  let missing;
  await within((async () => {
    for (;; await pause(50)) {
      const all = await Promise.all(nodes.map(scrape));
      missing = Object.entries(want).flatMap(([name, wanted]) => {
        const sum = all.reduce((total, one) => total + (one[name] ?? NaN), 0);
        return (wanted instanceof Function ? wanted(sum) : sum === wanted) ? [] : [`${name} is ${sum}, want ${wanted}`];
      });
      if (missing.length === 0) return;
    }
  })(), 'metrics', 30_000).catch((error) => { throw new Error(`${error.message}:\n${missing?.join('\n')}`); });
}

test('three nodes tell what all of them do, on every transport', async (t) => {
  const receiver = await Receiver.start(t);
  const ports = [await freePort(), await freePort(), await freePort()];
  const mesh = await Mesh.start(t, {
    apps: [{ ...app, webhooks: [{ url: receiver.url, events: ['channel_occupied'], allow_private: true }] }],
    ownOf: (i) => ({ args: ['--metrics-listen', `127.0.0.1:${ports[i]}`] }),
  });
  const nodes = mesh.nodes.map((node, i) => Object.assign(node, { metrics: ports[i] }));
  const [one, two, three] = nodes;

  const session = { wsPath: `/session/${randomUUID()}` };
  const alice = client(t, one, { user: { id: 'alice' } });
  const bob = client(t, two, { user: { id: 'bob' }, enabledTransports: ['xhr_streaming'] });
  const carol = client(t, mesh.front, session);
  for (const each of [alice, bob, carol]) await subscribed(each, 'match.1');
  await subscribed(alice, 'presence-room');
  await subscribed(bob, 'presence-room');
  const source = new EventSource(`http://127.0.0.1:${three.port}/app/${app.key}/events?channel=match.1`);
  t.after(() => source.close());
  await new Promise((resolve) => { source.onopen = resolve; });
  const label = (name, more) => `${name}{app="77",${more}}`;
  await sums(nodes, { [label('reecho_subscriptions', 'kind="public"')]: 4 });

  const heard = [alice, bob, carol].map((each) => once(each.channel('match.1'), 'goal'));
  assert.equal((await backend(one).trigger('match.1', 'goal', { home: 1 })).status, 200);
  await Promise.all(heard);
  await receiver.got.until(() => receiver.events.some(({ channel }) => channel === 'match.1'));

  await sums(nodes, {
    [label('reecho_connections', 'transport="websocket"')]: 2,
    [label('reecho_connections', 'transport="xhr"')]: 1,
    [label('reecho_connections', 'transport="event_stream"')]: 1,
    [label('reecho_subscriptions', 'kind="presence"')]: 2,
    'reecho_presence_members{app="77"}': 2,
    [label('reecho_published_events_total', 'source="api"')]: 1,
    reecho_sessions: 1,
    reecho_ready: 3,
    reecho_cluster_peers: 6,
    reecho_cluster_isolated_seconds: 0,
    reecho_cluster_routes: (n) => n >= 6,
    reecho_cluster_clock_skew_seconds: (n) => n >= 0 && n < 1,
    reecho_publish_duration_seconds_count: 1,
    'reecho_api_requests_total{route="events",status="200"}': 1,
  });
  const all = await Promise.all(nodes.map(scrape));
  const streams = Object.keys(all[0]).filter((name) => name.startsWith('reecho_stream_messages{'));
  await sums(nodes, { reecho_streams_led: streams.length });
  const webhooks = all.reduce((total, samples) => total + Object.entries(samples)
    .filter(([name]) => name.startsWith('reecho_webhook_events_total{') && name.endsWith('outcome="delivered"}'))
    .reduce((sum, [, value]) => sum + value, 0), 0);
  assert.equal(webhooks, receiver.events.length);

  // The node of carol's session dies: she gets what she missed from another.
  const hers = all.findIndex((samples) => samples.reecho_sessions === 1);
  const left = nodes.filter((_, i) => i !== hers);
  const missed = once(carol.channel('match.1'), 'while-away');
  await nodes[hers].stop('SIGKILL');
  await within((async () => {
    for (;; await pause(100)) if (await backend(left[0]).trigger('match.1', 'while-away', {}).then(() => true, () => false)) return;
  })(), 'an event to be stored', 60_000);
  await missed;
  await connected(carol);
  await sums(left, { reecho_cluster_peers: 2, 'reecho_replays_total{outcome="complete"}': (n) => n >= 1, reecho_sessions: 1, reecho_ready: 2 });
});
