// Nodes without storage: three that keep the events, and two that keep nothing and are
// leaves of those. Together they are one server.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { client, subscribed } from './lib/clients.mjs';
import { Load } from './lib/load.mjs';
import { isReady, Mesh, SECRET, steadyPort } from './lib/mesh.mjs';
import { hooked, Receiver } from './lib/receiver.mjs';
import { publish, record, refuses, says } from './lib/scores.mjs';
import { Server } from './lib/server.mjs';
import { pause, Recorder, within } from './lib/wait.mjs';
import { areOne, WHOLE_APPS } from './lib/whole.mjs';
import { Wire } from './replay/wire.mjs';

const SETTINGS = ['--retention-events', '100000'];

// Cluster is a mesh with nodes without storage.
class Cluster {
  static async start(t, { edges = 2, ...options } = {}) {
    const cluster = new Cluster();
    cluster.leafPorts = [await steadyPort(), await steadyPort(), await steadyPort()];
    cluster.mesh = await Mesh.prepare(t, { apps: WHOLE_APPS, args: SETTINGS, ...options });
    cluster.mesh.nodes.forEach((node, i) => node.options.args.push('--cluster-leaf-listen', `127.0.0.1:${cluster.leafPorts[i]}`));
    cluster.edges = [];
    // t.passed is false until the test has ended.
    t.after(() => { if (!t.passed) for (const line of [...cluster.mesh.log, ...cluster.edges.flatMap(({ name, log }) => log.map((text) => `${name}: ${text}`))].slice(-80)) t.diagnostic(line); });
    for (let i = 0; i < edges; i++) cluster.edges.push(await cluster.edge(t, `e${i + 1}`, options));
    // In any order: those without storage wait for those with.
    await Promise.all(cluster.edges.map((edge) => edge.launch()));
    await cluster.mesh.run();
    await cluster.ready();
    return cluster;
  }

  // edge makes a node without storage that does not run yet. hubs are the indexes of
  // the nodes that it may connect to.
  async edge(t, name, { apps = WHOLE_APPS, hubs = [0, 1, 2], secret = SECRET, cluster = 'test', args = SETTINGS } = {}) {
    const edge = await Server.prepare(t, {
      apps, port: await steadyPort(), env: { REECHO_CLUSTER_SECRET: secret },
      args: ['--node-name', name, '--storage=false', '--cluster-name', cluster, '--cluster-peers', hubs.map((i) => `127.0.0.1:${this.leafPorts[i]}`).join(','), ...args],
    });
    return Object.assign(edge, { name });
  }

  get nodes() { return [...this.mesh.nodes, ...this.edges]; }

  async ready(nodes = this.nodes) {
    await within(Promise.all(nodes.map(({ started }) => started)), 'all to start', 60_000);
    await within((async () => { for (const node of nodes) while (!await isReady(node)) await pause(50); })(), 'all to be ready', 60_000);
  }
}

test('nodes with and without storage are one', async (t) => {
  const cluster = await Cluster.start(t);
  const [a, , c] = cluster.mesh.nodes;
  await areOne(t, [cluster.edges[0], a, cluster.edges[1], c]);
  // Two that know of each other only by those with storage.
  await areOne(t, cluster.edges);
  for (const edge of cluster.edges) assert.deepEqual(await readdir(edge.dir), ['reecho.yaml'], 'it keeps nothing');
  for (const edge of cluster.edges) assert.deepEqual(await edge.stop(), [0, null]);
});

test('kill -9 and stops of each node, with and without storage, under load', async (t) => {
  const cluster = await Cluster.start(t);
  const load = await Load.start(t, cluster.nodes, 'private-load');
  await load.more();
  // Each node without storage loses the one that it is connected to at least once.
  for (const [signal, nodes] of [['SIGKILL', cluster.nodes], ['SIGTERM', cluster.nodes]]) {
    for (const node of nodes) {
      await node.stop(signal);
      await load.more();
      await node.run();
      await cluster.ready();
      await load.more(50);
    }
  }
  await load.end();
  await areOne(t, [...cluster.edges, cluster.mesh.nodes[0]]);
});

test('a node without storage that has lost those with sends its clients away, and is whole again', async (t) => {
  const cluster = await Cluster.start(t, { edges: 0 });
  const [first, second] = cluster.mesh.nodes;
  const edge = await cluster.edge(t, 'e1', { hubs: [0], args: [...SETTINGS, '--cluster-isolation', '5s'] });
  await edge.run();
  await cluster.ready([edge]);
  const codes = new Recorder('code');
  const pusher = client(t, edge);
  pusher.connection.bind('error', (e) => codes.push(e.data?.code ?? e.error?.data?.code));
  const { scores } = record(await subscribed(pusher, 'match.1'));
  await publish(second, 'match.1', 1, 1);
  await scores.count(1);
  await first.stop('SIGKILL');
  await within((async () => { while (await isReady(edge)) await pause(50); })(), 'the node not to be ready');
  await within((async () => { for (;;) { try { return await publish(second, 'match.1', 2, 2); } catch { await pause(100); } } })(), 'a publish', 60_000);
  await codes.until((items) => items.includes(4200));
  await assert.rejects(publish(edge, 'match.1', 3, 3), /status code 503/);
  await first.run();
  await cluster.ready([...cluster.mesh.nodes, edge]);
  await publish(edge, 'match.1', 4, 4);
  await areOne(t, [edge, second]);
});

test('a node without storage leaves one with storage that is cut off', async (t) => {
  const wires = [];
  const nowhere = await steadyPort();
  const cluster = await Cluster.start(t, {
    // Nodes tell each other of nodes, and would go round the wires: nobody is there.
    edges: 0, args: [...SETTINGS, '--cluster-advertise', `127.0.0.1:${nowhere}`],
    peersOf: (i, ports) => Promise.all(ports.map(async (port, j) => {
      if (i === j) return port;
      wires.push(await Wire.start(t, port, [i, j]));
      return wires.at(-1).port;
    })),
  });
  const edge = await cluster.edge(t, 'e1', { hubs: [0, 1] });
  await edge.run();
  await cluster.ready([edge]);
  const pusher = client(t, edge);
  const { scores } = record(await subscribed(pusher, 'match.1'));
  const errors = new Recorder('error');
  pusher.connection.bind('error', errors.push);
  // At the latest when the first of them has been cut off it has the second.
  for (const hub of [0, 1]) {
    const ends = wires.filter((wire) => wire.ends.includes(hub));
    for (const wire of ends) wire.sever('silence');
    await cluster.mesh.notReady(hub);
    await within((async () => { for (;;) { try { return await publish(edge, 'match.1', hub, hub); } catch { await pause(100); } } })(), 'a publish', 60_000);
    await cluster.ready([edge]);
    await scores.until((items) => items.includes(hub));
    for (const wire of ends) wire.heal();
    await cluster.ready();
  }
  assert.deepEqual(errors.items, [], 'its clients stay');
});

test('what will not do is said', async (t) => {
  const cluster = await Cluster.start(t, { edges: 0 });
  for (const [options, text] of [
    [{ secret: 'another-secret-of-a-cluster' }, /the servers with storage refuse this one: cluster_secret and cluster_name/],
    [{ cluster: 'other' }, /the servers with storage refuse this one: cluster_secret and cluster_name/],
  ]) {
    const edge = await cluster.edge(t, 'e1', options);
    await edge.launch();
    await says(edge, text);
    assert.ok(!edge.ready);
    await edge.destroy();
  }
  await refuses(await cluster.edge(t, 'e1', { args: [...SETTINGS, '--partitions', '7'] }), /the data has 8 partitions, 7 are configured/);
  await refuses(await cluster.edge(t, 'e1', { args: ['--retention-events', '7'] }), /the servers with storage keep events for .* set the same on all/);
  // Of what they learn from each other all say it.
  const edge = await cluster.edge(t, 'e1', { apps: [...WHOLE_APPS, { id: '78', key: 'another-key', secret: 'another-secret' }] });
  await edge.run();
  await says(edge, /app 78/);
  await within((async () => { while (await isReady(edge)) await pause(50); })(), 'the node not to be ready');
});

test('TLS between nodes with and without storage', async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'reecho-e2e-edges-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const openssl = (...args) => execFileSync('openssl', args, { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] });
  writeFileSync(path.join(dir, 'ext'), 'subjectAltName=IP:127.0.0.1\n');
  for (const ca of ['ca', 'other']) openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', `${ca}.key`, '-out', `${ca}.pem`, '-days', '2', '-subj', `/CN=${ca}`);
  const files = (name, ca) => {
    openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    openssl('x509', '-req', '-in', `${name}.csr`, '-CA', `${ca}.pem`, '-CAkey', `${ca}.key`, '-set_serial', '7', '-days', '2', '-extfile', 'ext', '-out', `${name}.pem`);
    return ['--cluster-tls-cert', path.join(dir, `${name}.pem`), '--cluster-tls-key', path.join(dir, `${name}.key`), '--cluster-tls-ca', path.join(dir, 'ca.pem')];
  };
  const cluster = await Cluster.start(t, { edges: 1, args: [...SETTINGS, ...files('node', 'ca')] });
  await publish(cluster.edges[0], 'match.1', 1, 1);
  for (const [name, args] of [['another authority', files('stranger', 'other')], ['no TLS', []]]) {
    const edge = await cluster.edge(t, 'e2', { args: [...SETTINGS, ...args] });
    await edge.launch();
    await says(edge, /cluster_tls_/);
    await Promise.any(cluster.mesh.nodes.map((node) => says(node, /a server without storage cannot be reached with TLS/)));
    assert.ok(!edge.ready, name);
    await edge.destroy();
  }
});

test('what happens at nodes without storage is told by webhooks, once', async (t) => {
  const receiver = await Receiver.start(t);
  const args = [...SETTINGS, '--webhook-grace', '500ms'];
  const cluster = await Cluster.start(t, { apps: [hooked({ url: receiver.url, events: ['channel_occupied', 'channel_vacated', 'member_added', 'member_removed', 'client_event', 'cache_miss'] })], args });
  const pushers = cluster.nodes.map((node) => client(t, node, { user: { id: 'ada' } }));
  const rooms = await Promise.all(pushers.map((pusher) => subscribed(pusher, 'presence-room')));
  await Promise.all(pushers.map((pusher) => subscribed(pusher, 'cache-a')));
  rooms.at(-1).trigger('client-x', 1);
  const names = ['channel_occupied presence-room', 'member_added presence-room ada', 'client_event presence-room ada client-x', 'channel_occupied cache-a', 'cache_miss cache-a'];
  await receiver.names(names, { anyOrder: true });
  // A node that delivers may be one of them: it dies, and another does.
  const [first, second] = cluster.edges;
  await first.stop('SIGKILL');
  for (const pusher of pushers) pusher.disconnect();
  names.push('member_removed presence-room ada', 'channel_vacated presence-room', 'channel_vacated cache-a');
  await receiver.names(names, { anyOrder: true });
  await subscribed(client(t, second), 'last');
  await receiver.names([...names, 'channel_occupied last'], { anyOrder: true });
});
