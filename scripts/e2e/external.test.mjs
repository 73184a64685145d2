// Servers that keep everything in a NATS of others, which runs by itself: the oldest
// version that is let in and the newest.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { example } from './lib/docs.mjs';
import { Load } from './lib/load.mjs';
import { isReady, steadyPort } from './lib/mesh.mjs';
import { Nats, NEWEST, OLDEST } from './lib/nats.mjs';
import { publish, refuses, says } from './lib/scores.mjs';
import { Server } from './lib/server.mjs';
import { pause, within } from './lib/wait.mjs';
import { areOne, WHOLE_APPS } from './lib/whole.mjs';

const documented = await example('edge/node/CLUSTER.md', 'conf', 'permissions');
const PASSWORD = 'a-password-of-nats';

// asDocumented is the configuration that the documentation shows.
const asDocumented = (nats) => documented.replace('/var/lib/nats', path.join(nats.dir, 'data'));

const startDocumented = (t, version, conf = asDocumented) => Nats.start(t, conf, { version, env: { NATS_PASSWORD: PASSWORD } });

const withUser = (url, user = 'reecho', password = PASSWORD) => url.replace('nats://', `nats://${user}:${password}@`);

const plain = (more = '') => (nats) => `jetstream { store_dir: "${path.join(nats.dir, 'data')}" }\nmax_payload: 8MB\n${more}`;


// prepare makes a node that does not run yet.
async function prepare(t, url, name = 'n1', args = []) {
  const node = await Server.prepare(t, {
    apps: WHOLE_APPS, port: await steadyPort(), env: { REECHO_NATS_URL: url },
    args: ['--node-name', name, '--retention-events', '100000', ...args],
  });
  return Object.assign(node, { name });
}

async function start(t, url, names = ['n1', 'n2'], args = []) {
  const nodes = await Promise.all(names.map((name) => prepare(t, url, name, args)));
  t.after(() => { if (!t.passed) for (const { name, log } of nodes) for (const line of log.slice(-30)) t.diagnostic(`${name}: ${line}`); });
  await Promise.all(nodes.map((node) => node.run()));
  await ready(nodes);
  return nodes;
}

async function ready(nodes) {
  await within((async () => { for (const node of nodes) while (!await isReady(node)) await pause(50); })(), 'all to be ready', 60_000);
}

for (const version of [OLDEST, NEWEST]) {
  test(`NATS ${version}: two nodes are one, and their user may do no more than is documented`, async (t) => {
    const nats = await startDocumented(t, version);
    const nodes = await start(t, withUser(nats.url));
    await areOne(t, nodes);
    for (const line of [...nats.log, ...nodes.flatMap(({ log }) => log)]) assert.doesNotMatch(line, /[Pp]ermission/);
  });

  test(`NATS ${version}: kill -9 of it, of nodes, and of both, under load`, async (t) => {
    const nats = await startDocumented(t, version);
    const nodes = await start(t, withUser(nats.url));
    const load = await Load.start(t, nodes, 'private-load');
    await load.more();
    for (const what of ['nats', 'node', 'nats', 'node', 'both']) {
      const down = { nats: [nats], node: [nodes[load.answered.length % 2]], both: [nats, nodes[0]] }[what];
      await Promise.all(down.map((process) => process.stop('SIGKILL')));
      if (what === 'node') await load.more(50); // the other goes on
      await pause(500);
      await Promise.all(down.map((process) => process.run()));
      await ready(nodes);
      await load.more();
    }
    await load.end();
  });

  test(`NATS ${version}: each permission that is left out is named at the start`, async (t) => {
    const listed = [...documented.matchAll(/(publish|subscribe): \[(.*?)\]/gs)].flatMap(([, verb, list]) => [...list.matchAll(/"(.*?)"/g)].map(([quoted, subjects]) => ({ verb, quoted, subjects })));
    assert.ok(listed.length > 15);
    for (const { verb, quoted, subjects } of listed) {
      const without = (nats) => asDocumented(nats).replace(new RegExp(`(${verb}: \\[.*?)${quoted.replace(/[$.*]/g, '\\$&')},?`, 's'), '$1');
      const nats = await startDocumented(t, version, without);
      await refuses(await prepare(t, withUser(nats.url)), new RegExp(`its user may not ${verb} ${subjects.replace(/[$.*]/g, '\\$&')}: add these permissions`));
      await nats.destroy();
    }
  });
}

test('what will not do is said at the start', async (t) => {
  const small = await Nats.start(t, (nats) => plain()(nats).replace('8MB', '64KB'));
  await refuses(await prepare(t, small.url), /a message may have 65536 bytes there.*raise its max_payload, or lower event_data_bytes/);
  const documentedOne = await startDocumented(t, NEWEST);
  await refuses(await prepare(t, withUser(documentedOne.url, 'reecho', 'wrong')), /it refuses us, check nats_credentials or the user and password in nats_url/);
  await refuses(await prepare(t, documentedOne.url), /it refuses us/);
  const without = await Nats.start(t, 'max_payload: 8MB');
  await refuses(await prepare(t, without.url), /JetStream is not enabled/);
  const account = await startDocumented(t, NEWEST, (nats) => asDocumented(nats).replace('jetstream: enabled', ''));
  await refuses(await prepare(t, withUser(account.url)), /JetStream is not enabled/);
  const one = await Nats.start(t, plain());
  await refuses(await prepare(t, one.url, 'n1', ['--nats-domain', 'moon']), /it reaches no JetStream of the domain moon, check nats_domain/);
  await refuses(await prepare(t, one.url, 'n1', ['--nats-replicas', '3']), /replicas > 1 not supported/);
  await refuses(await prepare(t, one.url.replace('nats://', 'tls://')), /it speaks no TLS/);
});

test('a NATS that is not there is waited for', async (t) => {
  const nats = await Nats.prepare(t, plain());
  const node = await prepare(t, nats.url);
  await node.launch();
  await says(node, /waiting for the NATS server/);
  await nats.run();
  await node.started;
  await publish(node, 'match.1', 1, 1);
});

test('a permission that is taken away later is logged by its name', async (t) => {
  const nats = await startDocumented(t, NEWEST);
  const [node] = await start(t, withUser(nats.url), ['n1']);
  const file = path.join(nats.dir, 'nats.conf');
  writeFileSync(file, readFileSync(file, 'utf8').replace('"h.>", ', ''));
  nats.child.kill('SIGHUP');
  await says(node, /refuses what its user has to be allowed.*publish h\.>/);
  await within((async () => { while (await isReady(node)) await pause(50); })(), 'the node not to be ready');
});

test('TLS: an authority that is not known is refused, and a known one works', async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'reecho-e2e-nats-tls-'));
  after(() => rmSync(dir, { recursive: true, force: true }));
  const openssl = (...args) => execFileSync('openssl', args, { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] });
  openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=CA of NATS');
  writeFileSync(path.join(dir, 'ext'), 'subjectAltName=IP:127.0.0.1\n');
  for (const name of ['server', 'client']) {
    openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`);
    openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-set_serial', name === 'server' ? '1' : '2', '-days', '2', '-extfile', 'ext', '-out', `${name}.pem`);
  }
  const file = (name) => path.join(dir, name);
  const conf = plain(`tls { cert_file: "${file('server.pem')}", key_file: "${file('server.key')}", ca_file: "${file('ca.pem')}", verify: true }`);
  const nats = await Nats.start(t, conf);
  const url = nats.url.replace('nats://', 'tls://');
  const shown = ['--nats-tls-cert', file('client.pem'), '--nats-tls-key', file('client.key')];
  await refuses(await prepare(t, url, 'n1', shown), /its certificate is not to be trusted, nats_tls_ca names the authority/);
  await refuses(await prepare(t, url, 'n1', ['--nats-tls-ca', file('ca.pem')]), /it refuses our TLS, check nats_tls_cert and nats_tls_key/);
  await refuses(await prepare(t, url, 'n1', [...shown, '--nats-tls-ca', file('ext')]), /read the files for TLS/);
  const [first, second] = await start(t, url, ['n1', 'n2'], [...shown, '--nats-tls-ca', file('ca.pem')]);
  await publish(first, 'match.1', 1, 1);
  await publish(second, 'match.1', 2, 2);
});

test('a domain: of the server itself, and of a hub whose leaf node it is', async (t) => {
  const leafPort = await steadyPort();
  const hub = await Nats.start(t, (nats) => `jetstream { store_dir: "${path.join(nats.dir, 'data')}", domain: hub }\nmax_payload: 8MB\nleafnodes { listen: "127.0.0.1:${leafPort}" }`, { name: 'hub' });
  const leaf = await Nats.start(t, `max_payload: 8MB\nleafnodes { remotes: [ { url: "nats://127.0.0.1:${leafPort}" } ] }`, { name: 'leaf' });
  const [here] = await start(t, hub.url, ['n1'], ['--nats-domain', 'hub']);
  const [there] = await start(t, leaf.url, ['n2'], ['--nats-domain', 'hub']);
  await areOne(t, [here, there]);
});

test('three NATS servers that keep each event three times: kill -9 of each under load', async (t) => {
  const routes = [await steadyPort(), await steadyPort(), await steadyPort()];
  const servers = await Promise.all(routes.map((port, i) => Nats.prepare(t, plain(`cluster { name: others, listen: "127.0.0.1:${port}", routes: [ ${routes.map((peer) => `"nats://127.0.0.1:${peer}"`).join(', ')} ] }`), { name: `s${i + 1}` })));
  await Promise.all(servers.map((nats) => nats.run()));
  const nodes = await start(t, servers.map(({ url }) => url).join(','), ['n1', 'n2'], ['--nats-replicas', '3', '--publish-timeout', '30s']);
  await areOne(t, nodes);
  const load = await Load.start(t, nodes, 'private-load');
  await load.more();
  for (const nats of servers) {
    await nats.stop();
    await load.more();
    await nats.run();
    await load.more();
    await ready(nodes);
  }
  await load.end();
});
