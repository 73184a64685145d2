// Several real servers that are one: they find each other, and clients and backends
// can use any of them.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { withReplay } from '../../replay/client/replay.mjs';
import { backend, client, connected, subscribed } from './lib/clients.mjs';
import { isReady, Mesh, nodeOptions, steadyPort } from './lib/mesh.mjs';
import { dataOf, history, publish, record, refuses, says, travels } from './lib/scores.mjs';
import { app, Server } from './lib/server.mjs';
import { pause, Recorder, within } from './lib/wait.mjs';
import { numbers } from './replay/checker.mjs';
import { mounts, unshare } from './replay/disk.mjs';
import { EventSource } from './replay/eventsource.mjs';
import { Proxy } from './replay/proxy.mjs';

// meshTest is a test that tells what the nodes said when it fails.
function meshTest(name, ...rest) {
  const run = rest.pop();
  test(name, ...rest, async (t) => {
    try {
      await run(t);
    } catch (error) {
      for (const line of Mesh.last?.log.slice(-60) ?? []) t.diagnostic(line);
      throw error;
    }
  });
}

for (const [how, order, ms] of [['at once', [0, 1, 2], 0], ['one after the other', [2, 0, 1], 1500], ['the third late', [1, 2, 0], 4000]]) {
  meshTest(`three nodes form a cluster: started ${how}`, async (t) => {
    const mesh = await Mesh.prepare(t);
    for (const i of order) {
      await mesh.nodes[i].launch();
      await pause(ms);
    }
    await mesh.run();
    await publish(mesh.nodes[0], 'match.1', 1, 1);
    for (const node of mesh.nodes) assert.deepEqual(dataOf(await history(node, 'match.1')), [1]);
  });
}

meshTest('five nodes form a cluster', async (t) => {
  const mesh = await Mesh.start(t, { size: 5 });
  await publish(mesh.nodes[4], 'match.1', 1, 1);
  for (const node of mesh.nodes) assert.deepEqual(dataOf(await history(node, 'match.1')), [1]);
});

meshTest('a node that is told only of the others says that it has to be told of all', async (t) => {
  const mesh = await Mesh.prepare(t, { peersOf: (i, ports) => ports.toSpliced(i, 1) });
  const [first] = mesh.nodes;
  await first.launch();
  await says(first, /2 peers are named and it has 3 servers/);
});

// As a headless service of Kubernetes has it: all are one name, whose addresses come and
// change. Each process has a file of names in the place of the system's.
meshTest('peers that are one name are found by its addresses, as these come and change', { skip: !mounts && 'no file can be mounted' }, async (t) => {
  const dir = await mkdtemp(path.join(tmpdir(), 'reecho-e2e-names-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const names = path.join(dir, 'hosts');
  const name = (...hosts) => writeFile(names, hosts.map((host) => `127.0.0.${host} nodes.reecho.test\n`).join(''));
  const port = await steadyPort();
  const at = (host) => ['--cluster-listen', `127.0.0.${host}:${port}`, '--cluster-peers', `nodes.reecho.test:${port}`];
  const through = [...unshare, 'sh', '-c', 'mount --bind "$0" /etc/hosts && exec "$@"', names];
  await name(1);
  const mesh = await Mesh.prepare(t, { ownOf: (i) => ({ through, args: at(i + 1) }) });
  const [first, , third] = mesh.nodes;
  await Promise.all(mesh.nodes.map((node) => node.launch()));
  for (const node of mesh.nodes) await says(node, /waiting for the addresses of the cluster.* found=\[127\.0\.0\.1:\d+\] needed=3/);
  for (const node of mesh.nodes) assert.ok(node.running && !node.ready && !await isReady(node));
  await name(1, 2, 3);
  await mesh.run();
  await publish(first, 'match.1', 1, 1);
  assert.deepEqual(await third.stop(), [0, null]);
  await publish(first, 'match.1', 2, 2);
  // It is another container now, with the same folder.
  await name(1, 2, 4);
  third.options.args.push(...at(4));
  await mesh.run();
  await publish(third, 'match.1', 3, 3);
  for (const node of mesh.nodes) assert.deepEqual(dataOf(await history(node, 'match.1')), [1, 2, 3]);
});

meshTest('a node that is alone says what it waits for, and is not ready until it comes', async (t) => {
  const mesh = await Mesh.prepare(t);
  const [first, second] = mesh.nodes;
  await first.launch();
  await says(first, /waiting for a majority of the cluster/);
  assert.ok(first.running && !first.ready && !await isReady(first));
  for (const path of ['/ready', '/apps/1/channels']) {
    const answer = await fetch(`http://127.0.0.1:${first.port}${path}`, { signal: AbortSignal.timeout(5000) });
    assert.deepEqual([answer.status, answer.headers.get('retry-after')], [503, '1'], path);
    assert.match(await answer.text(), /majority/);
  }
  // The events have three places: two nodes do not form a cluster.
  await second.launch();
  await says(first, /n2/);
  await pause(3000);
  for (const node of [first, second]) assert.ok(node.running && !node.ready && !await isReady(node));
  await mesh.run();
});

for (const [what, options, line] of [
  ['another secret', { secret: 'another-secret-of-a-cluster' }, /cluster_secret/],
  ['another cluster name', { cluster: 'other' }, /cluster_name/],
]) {
  meshTest(`a node with ${what} is not let in, and all say why`, async (t) => {
    const mesh = await Mesh.prepare(t);
    const right = mesh.nodes[2];
    const wrong = await Server.prepare(t, nodeOptions({ name: 'n3', listen: mesh.clusterPorts[2], peers: mesh.clusterPorts, ...options }));
    await Promise.all([...mesh.nodes.slice(0, 2), wrong].map((node) => node.launch()));
    await Promise.all([mesh.nodes[0], mesh.nodes[1], wrong].map((node) => says(node, line)));
    for (const node of [...mesh.nodes.slice(0, 2), wrong]) assert.ok(node.running && !node.ready && !await isReady(node));
    await wrong.stop();
    await right.launch();
    await mesh.run();
  });
}

meshTest('a second node of one name is not let in, and disturbs nobody', async (t) => {
  const mesh = await Mesh.start(t);
  let n = 0;
  // Each time it may be first with another node.
  for (let turn = 0; turn < 5; turn++) {
    const second = await Server.prepare(t, nodeOptions({ name: 'n1', listen: await steadyPort(), peers: mesh.clusterPorts }));
    await second.launch();
    await says(second, /node_name/);
    for (let i = 0; i < 10; i++) {
      n++;
      await publish(mesh.nodes[n % 3], 'match.1', n, n);
      for (const node of mesh.nodes) assert.deepEqual(dataOf(await history(node, 'match.1')), numbers(1, n), node.name);
      for (const node of mesh.nodes) assert.ok(await isReady(node), `${node.name} is not ready`);
      await pause(100);
    }
    assert.ok(!second.ready, 'the second became ready');
    await second.destroy();
  }
});

meshTest('folders of others are refused', async (t) => {
  const dir = await mkdtemp(path.join(tmpdir(), 'reecho-e2e-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const lone = await Server.prepare(t, { dir, dataDir: path.join(dir, 'lone') });
  await lone.run();
  await publish(lone, 'match.1', 1, 1);
  await lone.stop();
  const mesh = await Mesh.start(t);
  const [first] = mesh.nodes;
  await mesh.stop();
  const options = { dir, listen: await steadyPort(), peers: mesh.clusterPorts };
  const start = (more) => Server.prepare(t, nodeOptions({ ...options, ...more }));
  await refuses(await start({ name: 'n1', dataDir: path.join(dir, 'lone') }), /has the events of a server that was alone/);
  await refuses(await start({ name: 'n2', dataDir: path.join(first.dir, 'data') }), /belongs to node n1 of cluster test/);
  await refuses(await start({ name: 'n1', cluster: 'other', dataDir: path.join(first.dir, 'data') }), /belongs to node n1 of cluster test/);
  await refuses(await Server.prepare(t, { dir, dataDir: path.join(first.dir, 'data') }), /belongs to node n1 of cluster test/);
  // They are what they were.
  await lone.run();
  assert.deepEqual(dataOf(await history(lone, 'match.1')), [1]);
  await mesh.run();
});

meshTest('restarts: of each, of all, kill -9 of each, of all', async (t) => {
  const mesh = await Mesh.start(t);
  let n = 0;
  const all = async () => {
    for (const node of mesh.nodes) {
      await publish(node, 'match.1', n + 1, n + 1);
      n++;
    }
    for (const node of mesh.nodes) assert.deepEqual(dataOf(await history(node, 'match.1')), numbers(1, n), node.name);
  };
  await all();
  for (const signal of ['SIGTERM', 'SIGKILL']) {
    for (const [i, node] of mesh.nodes.entries()) {
      const end = await node.stop(signal);
      if (signal === 'SIGTERM') assert.deepEqual(end, [0, null], node.log.slice(-10).join('\n'));
      // The others go on.
      const others = mesh.nodes.filter((other) => other !== node);
      for (const other of others) {
        await within((async () => { for (;;) { try { return await publish(other, 'match.1', ++n, n); } catch { n--; await pause(100); } } })(), 'a publish', 60_000);
      }
      await node.run();
      await mesh.ready(i);
    }
    await all();
    const end = await mesh.stop(signal);
    if (signal === 'SIGTERM') assert.deepEqual(end, [0, null], mesh.log.slice(-10).join('\n'));
    await mesh.run();
    await all();
  }
});

meshTest('an event that is published on any node reaches clients on all, but not who it is not for', async (t) => {
  const mesh = await Mesh.start(t);
  const people = await Promise.all(mesh.nodes.map(async (node) => {
    const pusher = client(t, node, { user: { id: node.name } });
    await connected(pusher);
    const channels = {};
    for (const name of ['match.1', 'private-chat', 'presence-room', 'private-encrypted-chat']) channels[name] = record(await subscribed(pusher, name));
    return { node, pusher, channels };
  }));
  let n = 0;
  const expected = people.map(() => []);
  for (const name of Object.keys(people[0].channels)) {
    for (const { node } of people) {
      n++;
      await publish(node, name, n, n);
      for (const list of expected) list.push(n);
      if (name === 'private-encrypted-chat') continue;
      for (const [i, other] of people.entries()) {
        n++;
        await publish(node, name, n, n, { socket_id: other.pusher.connection.socket_id });
        for (const [j, list] of expected.entries()) if (j !== i) list.push(n);
      }
      // Behind those that are not for somebody.
      n++;
      await publish(node, name, n, n);
      for (const list of expected) list.push(n);
    }
    for (const [i, { channels }] of people.entries()) {
      const got = await channels[name].scores.until((items) => items.includes(n) && items, `${n} on ${name}`);
      assert.deepEqual(got, expected[i].splice(0), `${people[i].node.name}, ${name}`);
    }
  }
  // Right after the first subscription, on another node.
  for (let i = 0; i < 60; i++) {
    const { pusher } = people[i % 3];
    const { scores } = record(await subscribed(pusher, `new.${i}`));
    await publish(mesh.nodes[(i + 1) % 3], `new.${i}`, i, i);
    assert.deepEqual(await scores.count(1), [i]);
    if (i % 2) pusher.unsubscribe(`new.${i}`);
  }
});

meshTest('a batch, and an event for several channels, on any node', async (t) => {
  const mesh = await Mesh.start(t);
  const names = Array.from({ length: 10 }, (_, i) => `match.${i}`);
  const got = await Promise.all(mesh.nodes.map(async (node) => {
    const pusher = client(t, node);
    return Promise.all(names.map(async (name) => record(await subscribed(pusher, name)).scores));
  }));
  for (const [i, node] of mesh.nodes.entries()) {
    await backend(node).triggerBatch(names.map((channel) => ({ channel, name: 'score', data: { n: 2 * i } })));
    await backend(node).trigger(names, 'score', { n: 2 * i + 1 });
  }
  for (const scores of got.flat()) assert.deepEqual(await scores.count(6), numbers(0, 5));
});

meshTest('whispers reach clients on all nodes', async (t) => {
  const mesh = await Mesh.start(t);
  const people = await Promise.all(mesh.nodes.map(async (node) => {
    const channel = await subscribed(client(t, node), 'private-chat');
    const heard = new Recorder('whisper');
    channel.bind('client-w', ({ from }) => heard.push(from));
    return { channel, heard };
  }));
  for (const [i, { channel }] of people.entries()) {
    assert.ok(channel.trigger('client-w', { from: i }));
    for (const [j, { heard }] of people.entries()) if (i !== j) await heard.until((items) => items.includes(i), `the whisper of ${i} at ${j}`);
  }
  for (const [i, { heard }] of people.entries()) assert.deepEqual([...heard.items].sort(), [0, 1, 2].filter((j) => j !== i));
});

meshTest('cache channels: the newest event, or a miss, on any node', async (t) => {
  const mesh = await Mesh.start(t);
  for (const [i, node] of mesh.nodes.entries()) {
    const name = `cache-match.${i}`;
    const missed = new Recorder('miss');
    const first = client(t, mesh.nodes[(i + 1) % 3]).subscribe(name);
    first.bind('pusher:cache_miss', () => missed.push(true));
    await missed.count(1);
    await publish(node, name, 1, 2);
    for (const other of mesh.nodes) {
      const { scores } = record(client(t, other).subscribe(name));
      assert.deepEqual(await scores.count(1), [2]);
    }
  }
});

meshTest('users: an event for a user reaches their connections on all nodes', async (t) => {
  const mesh = await Mesh.start(t);
  const got = await Promise.all(mesh.nodes.map(async (node) => {
    const pusher = client(t, node, { userData: { id: 'ada' } });
    pusher.signin();
    const events = new Recorder('event for the user');
    pusher.user.bind('mail', ({ n }) => events.push(n));
    await pusher.user.signinDonePromise;
    // The channel of the user is subscribed to behind the sign-in.
    await within((async () => { while (!pusher.user.serverToUserChannel?.subscribed) await pause(5); })(), 'the channel of the user');
    return events;
  }));
  for (const [i, node] of mesh.nodes.entries()) await backend(node).sendToUser('ada', 'mail', { n: i });
  for (const events of got) assert.deepEqual(await events.count(3), [0, 1, 2]);
});

for (const [kind, options] of [['plugin', { plugin: withReplay }], ['session', {}]]) {
  meshTest(`${kind}: what was missed, on another node than before`, async (t) => {
    const mesh = await Mesh.start(t);
    const { proxy, move } = await travels(t, mesh.nodes);
    const pusher = client(t, proxy, { ...options, ...(kind === 'session' ? { wsPath: `/session/${randomUUID()}` } : {}) });
    const channels = [];
    for (const name of ['private-chat', 'match.1', 'match.2']) channels.push([name, record(await subscribed(pusher, name))]);
    let n = 0;
    const next = async () => {
      for (const [name] of channels) {
        n++;
        for (const node of mesh.nodes) await publish(node, name, n, n);
      }
    };
    for (let turn = 1; turn <= 9; turn++) {
      await next();
      await move(turn % 3, next);
      await next();
      for (const [, { scores, outcomes }] of channels) {
        await outcomes.count(turn);
        assert.equal(outcomes.items.at(-1).event, 'reecho:resumed');
        await scores.until((items) => items.filter((each) => each > n - 3).length >= 3, `${n} in turn ${turn}`);
      }
    }
    for (const [i, [name, { scores }]] of channels.entries()) {
      const want = numbers(1, n).filter((each) => (each - 1) % 3 === i).flatMap((each) => [each, each, each]);
      // What a session has not confirmed may come again.
      const got = kind === 'session' ? [...new Set(scores.items)].flatMap((each) => [each, each, each]) : scores.items;
      assert.deepEqual(got, want, name);
    }
  });
}

meshTest('event stream: goes on at its place on another node', async (t) => {
  const mesh = await Mesh.start(t);
  const { proxy, move } = await travels(t, mesh.nodes);
  const source = new EventSource(`http://127.0.0.1:${proxy.port}/app/${app.key}/events?channel=match.1&channel=match.2`);
  t.after(() => source.close());
  const got = new Recorder('event');
  source.onmessage = ({ data }) => {
    const { event, channel, data: text } = JSON.parse(data);
    got.push(event === 'score' ? [channel, JSON.parse(text).n] : [channel, event]);
  };
  await within((async () => { while (!source.lastEventId) await pause(5); })(), 'a cursor');
  let n = 0;
  const next = async () => {
    n++;
    for (const channel of ['match.1', 'match.2']) await publish(mesh.nodes[n % 3], channel, n, n);
  };
  const scores = (channel) => got.items.filter(([name, of]) => name === channel && typeof of === 'number').map(([, each]) => each);
  for (let turn = 1; turn <= 9; turn++) {
    await next();
    await move(turn % 3, next);
    await next();
    await got.until(() => ['match.1', 'match.2'].every((channel) => scores(channel).includes(n)), `${n} in turn ${turn}`);
  }
  for (const channel of ['match.1', 'match.2']) assert.deepEqual(scores(channel), numbers(1, n));
  assert.deepEqual(got.items.filter(([, event]) => event === 'reecho:gap'), []);
});

meshTest('history on any node: the same events at the same positions, right after a publish', async (t) => {
  const mesh = await Mesh.start(t);
  for (let n = 1; n <= 60; n++) {
    await publish(mesh.nodes[n % 3], 'match.1', n, n);
    assert.deepEqual(dataOf(await history(mesh.nodes[(n + 1) % 3], 'match.1')), numbers(1, n), `after ${n}`);
  }
  const [first, ...others] = await Promise.all(mesh.nodes.map((node) => history(node, 'match.1')));
  for (const other of others) assert.deepEqual(other, first);
  for (const node of mesh.nodes) {
    assert.deepEqual(dataOf(await history(node, 'match.1', { after: first[19].position, limit: 5 })), numbers(21, 25));
    assert.deepEqual(dataOf(await history(node, 'match.1', { before: first[19].position, limit: 5, order: 'desc' })), [19, 18, 17, 16, 15]);
  }
});

meshTest('history for who joins, on any node', async (t) => {
  const mesh = await Mesh.start(t);
  for (let n = 1; n <= 30; n++) {
    await publish(mesh.nodes[n % 3], 'match.1', n, n);
    const { scores } = record(withReplay(client(t, mesh.nodes[(n + 1) % 3]), { last: 3 }).subscribe('match.1'));
    assert.deepEqual(await scores.count(Math.min(n, 3)), numbers(Math.max(1, n - 2), n));
  }
});

meshTest('presence: members on all nodes, seen from all', async (t) => {
  const mesh = await Mesh.start(t);
  const people = [];
  for (const [i, node] of mesh.nodes.entries()) {
    const pusher = client(t, node, { user: { id: `user-${i}`, info: { name: `name ${i}` } } });
    const channel = await subscribed(pusher, 'presence-room');
    people.push({ pusher, channel });
    for (const { channel: { members } } of people) {
      await within((async () => { while (members.count !== i + 1) await pause(20); })(), `${i + 1} members, not ${Object.keys(members.members)}`);
    }
  }
  for (const node of mesh.nodes) {
    const { users } = await (await backend(node).get({ path: '/channels/presence-room/users' })).json();
    assert.deepEqual(users.map(({ id }) => id).sort(), ['user-0', 'user-1', 'user-2']);
  }
  people[1].pusher.disconnect();
  for (const { channel: { members } } of [people[0], people[2]]) {
    await within((async () => { while (members.count !== 2) await pause(20); })(), 'one member to leave');
    assert.ok(!members.get('user-1'));
  }
});

meshTest('occupancy and subscription counts are those of all nodes', async (t) => {
  const mesh = await Mesh.start(t, { apps: [{ ...app, subscription_counts: true }] });
  const channels = [];
  for (const node of mesh.nodes) channels.push(await subscribed(client(t, node), 'match.1'));
  for (const channel of channels) await within((async () => { while (channel.subscriptionCount !== 3) await pause(20); })(), `a count of 3, not ${channel.subscriptionCount}`);
  for (const node of mesh.nodes) {
    const answer = await (await backend(node).get({ path: '/channels/match.1', params: { info: 'subscription_count' } })).json();
    assert.deepEqual(answer, { occupied: true, subscription_count: 3 });
    const all = await (await backend(node).get({ path: '/channels' })).json();
    assert.deepEqual(Object.keys(all.channels), ['match.1']);
  }
});

meshTest('the connections of a user are closed on all nodes', async (t) => {
  const mesh = await Mesh.start(t);
  const closed = [];
  for (const node of mesh.nodes) {
    const pusher = client(t, node, { userData: { id: 'ada' } });
    pusher.signin();
    await pusher.user.signinDonePromise;
    const errors = new Recorder('error');
    pusher.connection.bind('error', (e) => errors.push(e.data?.code ?? e.error?.data?.code));
    closed.push(errors);
  }
  await backend(mesh.nodes[0]).terminateUserConnections('ada');
  for (const errors of closed) assert.ok((await errors.count(1)).includes(4009));
});

meshTest('a session whose old connection is half open goes on elsewhere, and that one ruins nothing', async (t) => {
  const mesh = await Mesh.start(t, { args: ['--session-ack-interval', '200ms'] });
  const proxy = await Proxy.start(t, mesh.nodes[0].port);
  const pusher = client(t, proxy, { wsPath: `/session/${randomUUID()}`, activityTimeout: 1000, pongTimeout: 1000 });
  const names = ['private-chat'];
  const records = [record(await subscribed(pusher, names[0]))];
  let n = 0;
  const next = async () => {
    n++;
    for (const [i, name] of names.entries()) await publish(mesh.nodes[(n + i) % 3], name, n, n);
  };
  const all = () => Promise.all(records.map(({ scores }) => scores.until((items) => items.includes(n), `${n}`)));
  await next();
  await all();
  for (let turn = 1; turn <= 6; turn++) {
    // The node hears nothing more of the client, not even an end.
    const old = [...proxy.links];
    for (const link of old) link.stall();
    await next();
    proxy.target = mesh.nodes[turn % 3].port;
    await all();
    // A further channel, of which the old connection knows nothing.
    names.push(`private-chat.${turn}`);
    records.push(record(await subscribed(pusher, names.at(-1))));
    await next();
    await all();
    // Now the old connection ends.
    for (const link of old) link.reset();
    await next();
    await all();
  }
  for (const [i, { scores, outcomes }] of records.entries()) {
    assert.deepEqual([...new Set(scores.items)], numbers(i === 0 ? 1 : 3 * i, n), names[i]);
    assert.deepEqual(outcomes.items.map(({ event }) => event), Array.from({ length: i === 0 ? 6 : 6 - i }, () => 'reecho:resumed'), names[i]);
  }
});
