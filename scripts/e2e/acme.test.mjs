// Certificates of a real ACME authority, which validates the names: by TLS-ALPN-01 and by
// HTTP-01, on one server and on the servers of a cluster.
import assert from 'node:assert/strict';
import dns from 'node:dns';
import path from 'node:path';
import { test } from 'node:test';
import { trustCA } from './lib/ca.mjs';
import { isReady, Mesh, SECRET, steadyPort } from './lib/mesh.mjs';
import { Nats } from './lib/nats.mjs';
import { certified, Pebble, portsOf, shown } from './lib/pebble.mjs';
import { app, Server } from './lib/server.mjs';
import { once, pause, Recorder, within } from './lib/wait.mjs';

const NAME = 'ws.reecho.test';

// All names of the test are this machine's, for clients as for Pebble.
const { lookup } = dns;
dns.lookup = (host, options, callback) => lookup(host.endsWith('.reecho.test') ? '127.0.0.1' : host, options, callback);
trustCA();
const { backend, client, subscribed } = await import('./lib/clients.mjs');

// debrief shows what servers and the authority said if the test fails.
function debrief(t, pebble, ...servers) {
  t.after(() => {
    if (t.passed) return;
    for (const server of servers) for (const line of (server.log ?? []).slice(-40)) t.diagnostic(`${server.name ?? 'server'}: ${line}`);
    for (const line of pebble.log.slice(-40)) t.diagnostic(`pebble: ${line}`);
  });
}

const said = (server, pattern) => server.log.filter((line) => pattern.test(line)).length;
const heard = (server, pattern) => within((async () => { while (!said(server, pattern)) await pause(50); })(), `${pattern} of ${server.name}`, 60_000);

// talks has stock pusher-js speak with a server over wss, by its name.
async function talks(t, server, pebble) {
  trustCA(pebble.root);
  const pusher = client(t, server, { wsHost: NAME, forceTLS: true });
  const got = new Recorder('event');
  (await subscribed(pusher, 'room')).bind('said', got.push);
  await backend(server).trigger('room', 'said', { text: 'hello' });
  assert.deepEqual(await got.count(1), [{ text: 'hello' }]);
  pusher.disconnect();
}

test('TLS-ALPN-01 on the one port: an order, wss, and a restart without another', async (t) => {
  const pebble = await Pebble.prepare(t);
  const server = await Server.start(t, { alone: true, args: pebble.args(NAME, 'Other.Reecho.Test.') });
  debrief(t, pebble, server);
  pebble.tlsPorts = () => [server.port];
  // Before there is one: TLS fails, with a word of it, and all else works.
  await heard(server, /there is no TLS certificate yet: TLS handshakes fail/);
  await heard(server, /has not issued a TLS certificate.*look whether acme_directory is right/);
  await assert.rejects(shown(server.port, NAME), /alert internal error/);
  assert.ok(await isReady(server));
  // Down until now. It is tried again by itself.
  await pebble.run();
  const first = await certified(server.port, NAME, pebble.root);
  assert.deepEqual(first.names.split(', ').sort(), ['DNS:other.reecho.test', 'DNS:ws.reecho.test']);
  assert.equal(pebble.orders, 1);
  assert.ok(pebble.tlsGate.count >= 2, 'each name is validated, on the port of the server');
  await talks(t, server, pebble);
  // Whatever name is asked for, as with a certificate from a file.
  assert.equal((await shown(server.port, 'unknown.example.com')).serial, first.serial);
  await server.stop();
  await server.run();
  assert.deepEqual(await certified(server.port, NAME, pebble.root), first);
  // Killed, and while the authority is away.
  await pebble.stop();
  await server.stop('SIGKILL');
  await server.run();
  assert.deepEqual(await certified(server.port, NAME, pebble.root), first);
  server.child.kill('SIGHUP');
  await heard(server, /looking for a new TLS certificate, if one is due/);
  assert.equal(pebble.orders, 1);
  for (const line of server.log) assert.doesNotMatch(line, /PRIVATE|unexpected/);
  assert.deepEqual(await server.stop(), [0, null]);
});

test('HTTP-01 on a port of its own, which does nothing else', async (t) => {
  const pebble = await Pebble.start(t);
  const port = await steadyPort();
  const server = await Server.start(t, { alone: true, args: [...pebble.args(NAME), '--acme-http-listen', `127.0.0.1:${port}`] });
  debrief(t, pebble, server);
  pebble.httpPorts = () => [port];
  await certified(server.port, NAME, pebble.root);
  assert.equal(pebble.orders, 1);
  assert.ok(pebble.httpGate.count >= 1);
  assert.equal(pebble.tlsGate.count, 0);
  await talks(t, server, pebble);
  for (const where of ['/', '/health', `/app/${app.key}`, '/.well-known/acme-challenge/', '/.well-known/acme-challenge/unknown']) {
    assert.equal((await fetch(`http://127.0.0.1:${port}${where}`)).status, 404, where);
  }
});

test('what cannot be validated is said, with what to do, and is not tried at once again', async (t) => {
  const pebble = await Pebble.start(t);
  const dead = await steadyPort();
  pebble.tlsPorts = () => [dead];
  const server = await Server.start(t, { alone: true, args: pebble.args(NAME) });
  debrief(t, pebble, server);
  await heard(server, /has not issued.*have ws\.reecho\.test validated.*let port 443 there lead to listen/);
  const [line] = server.log.filter((text) => /has not issued/.test(text));
  const wait = Date.parse(/again=(\S+)/.exec(line)[1]) - Date.now();
  assert.ok(wait > 15_000, line);
  // Nor does a restart, but an operator can.
  await server.stop();
  await server.run();
  await heard(server, /there is no TLS certificate yet/);
  pebble.tlsPorts = () => [server.port];
  assert.equal(said(server, /ordering a TLS certificate/), 0);
  server.child.kill('SIGHUP');
  await certified(server.port, NAME, pebble.root);
  assert.equal(pebble.orders, 2);
});

test('settings change: the former certificate serves until there is one for the new names', async (t) => {
  const pebble = await Pebble.start(t);
  const server = await Server.start(t, { alone: true, args: pebble.args(NAME) });
  debrief(t, pebble, server);
  pebble.tlsPorts = () => [server.port];
  const first = await certified(server.port, NAME, pebble.root);
  await server.stop();
  pebble.tlsPorts = () => []; // whoever validates waits
  server.options.args = pebble.args(NAME, 'other.reecho.test');
  await server.run();
  assert.deepEqual(await certified(server.port, NAME, pebble.root), first);
  await heard(server, /the TLS certificate of former settings is in use/);
  pebble.tlsPorts = () => [server.port];
  await certified(server.port, 'other.reecho.test', pebble.root);
  assert.equal(pebble.orders, 2);
  // And back: that one is still there.
  await server.stop();
  server.options.args = pebble.args(NAME);
  await server.run();
  assert.deepEqual(await certified(server.port, NAME, pebble.root), first);
  assert.equal(pebble.orders, 2);
});

test('an authority that wants to know its customers', async (t) => {
  const binding = { id: 'kid-1', key: 'zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W' };
  const pebble = await Pebble.start(t, { binding });
  const server = await Server.start(t, { alone: true, args: pebble.args(NAME) });
  debrief(t, pebble, server);
  pebble.tlsPorts = () => [server.port];
  await heard(server, /has not issued.*set acme_eab_key_id and acme_eab_key/);
  await server.stop();
  server.options.env = { REECHO_ACME_EAB_KEY_ID: binding.id, REECHO_ACME_EAB_KEY: binding.key };
  await server.run();
  server.child.kill('SIGHUP');
  await certified(server.port, NAME, pebble.root);
  for (const line of server.log) assert.doesNotMatch(line, new RegExp(binding.key));
});

test('renewal: the old certificate serves until the new one is there, also while the authority is away', async (t) => {
  const pebble = await Pebble.start(t, { validity: 45 });
  const server = await Server.prepare(t, { alone: true, args: pebble.args(NAME) });
  debrief(t, pebble, server);
  pebble.tlsPorts = () => [server.port];
  await server.run();
  const first = await certified(server.port, NAME, pebble.root);
  const pusher = client(t, server);
  await once(pusher.connection, 'connected');
  // From now on no handshake may fail.
  const serials = new Recorder('serial');
  let watching = true;
  const watch = (async () => { while (watching) { serials.push((await shown(server.port, NAME)).serial); await pause(100); } })();
  await pebble.stop();
  await heard(server, /has not issued.*look whether acme_directory is right.*expires=/);
  assert.equal((await shown(server.port, NAME)).serial, first.serial);
  assert.ok(Date.now() < first.expires, 'it is renewed before it expires');
  await pebble.run();
  const second = await certified(server.port, NAME, pebble.root, { test: ({ serial }) => serial !== first.serial });
  await serials.until((items) => items.includes(second.serial));
  watching = false;
  await watch;
  assert.deepEqual([...new Set(serials.items)], [first.serial, second.serial]);
  assert.equal(pusher.connection.state, 'connected');
  assert.equal(pebble.orders, 2);
});

test('three servers and one without storage get one certificate with one order', async (t) => {
  const pebble = await Pebble.start(t);
  const leaves = [await steadyPort(), await steadyPort(), await steadyPort()];
  const mesh = await Mesh.prepare(t, { ownOf: (i) => ({ args: ['--cluster-leaf-listen', `127.0.0.1:${leaves[i]}`, ...pebble.args(NAME)] }) });
  const edge = Object.assign(await Server.prepare(t, {
    port: await steadyPort(), env: { REECHO_CLUSTER_SECRET: SECRET }, name: 'e1',
    args: ['--node-name', 'e1', '--storage=false', '--cluster-name', 'test', '--cluster-peers', leaves.map((port) => `127.0.0.1:${port}`).join(','), ...pebble.args(NAME)],
  }), { name: 'e1' });
  const all = [...mesh.nodes, edge];
  debrief(t, pebble, ...all);
  // Any of them may be asked.
  pebble.tlsPorts = () => portsOf(all);
  await edge.launch();
  await mesh.run();
  const found = await Promise.all(all.map(({ port }) => certified(port, NAME, pebble.root)));
  assert.deepEqual(new Set(found.map(({ serial }) => serial)).size, 1);
  assert.equal(pebble.orders, 1);
  assert.equal(all.reduce((n, node) => n + said(node, /ordering a TLS certificate/), 0), 1);
  for (const node of mesh.nodes) await talks(t, node, pebble);
  assert.ok(said(mesh.nodes[0], /acme_domains is set and cluster_tls_cert is not/));

  // One, and then all of them, are started again.
  await mesh.nodes[1].stop('SIGKILL');
  await mesh.nodes[1].run();
  await certified(mesh.nodes[1].port, NAME, pebble.root);
  await mesh.stop();
  await mesh.run();
  for (const { port } of all) assert.equal((await certified(port, NAME, pebble.root)).serial, found[0].serial);
  // The store's last answer goes on in memory without a majority.
  await mesh.nodes[1].stop('SIGKILL');
  await mesh.nodes[2].stop('SIGKILL');
  assert.equal((await shown(mesh.nodes[0].port, NAME, pebble.root)).serial, found[0].serial);
  assert.equal(pebble.orders, 1);
});

test('three servers renew with one order', async (t) => {
  const pebble = await Pebble.start(t, { validity: 60 });
  const mesh = await Mesh.prepare(t, { args: pebble.args(NAME) });
  debrief(t, pebble, ...mesh.nodes);
  pebble.tlsPorts = () => portsOf(mesh.nodes);
  await mesh.run();
  const [first] = await Promise.all(mesh.nodes.map(({ port }) => certified(port, NAME, pebble.root)));
  const second = await Promise.all(mesh.nodes.map(({ port }) => certified(port, NAME, pebble.root, { test: ({ serial }) => serial !== first.serial })));
  assert.equal(new Set(second.map(({ serial }) => serial)).size, 1);
  assert.equal(pebble.orders, 2);
});

test('kill -9 of the server that orders: another one does', async (t) => {
  const pebble = await Pebble.start(t);
  const mesh = await Mesh.prepare(t, { args: pebble.args(NAME) });
  debrief(t, pebble, ...mesh.nodes);
  await mesh.run();
  // The authority asks, and hears nothing.
  const orders = (node) => said(node, /ordering a TLS certificate/) > 0;
  await within((async () => { while (pebble.tlsGate.count === 0) await pause(20); })(), 'a validation', 60_000);
  const at = mesh.nodes.find(orders);
  await at.stop('SIGKILL');
  const left = mesh.nodes.filter((node) => node !== at);
  pebble.tlsPorts = () => portsOf(left);
  const found = await Promise.all(left.map(({ port }) => certified(port, NAME, pebble.root, { patience: 120_000 })));
  assert.equal(new Set(found.map(({ serial }) => serial)).size, 1);
  await at.run();
  assert.equal((await certified(at.port, NAME, pebble.root)).serial, found[0].serial);
  assert.equal(pebble.orders, 2);
});

test('two servers on a NATS of others get one certificate', async (t) => {
  const pebble = await Pebble.start(t);
  const nats = await Nats.start(t, (self) => `jetstream { store_dir: "${path.join(self.dir, 'data')}" }\nmax_payload: 8MB\n`);
  const nodes = await Promise.all(['n1', 'n2'].map(async (name) => Object.assign(await Server.prepare(t, {
    alone: true, port: await steadyPort(), env: { REECHO_NATS_URL: nats.url }, args: ['--node-name', name, ...pebble.args(NAME)],
  }), { name })));
  debrief(t, pebble, ...nodes);
  pebble.tlsPorts = () => portsOf(nodes);
  await Promise.all(nodes.map((node) => node.run()));
  const found = await Promise.all(nodes.map(({ port }) => certified(port, NAME, pebble.root)));
  assert.equal(found[0].serial, found[1].serial);
  assert.equal(pebble.orders, 1);
});
