// What an operator does with a cluster: looks at it, brings the events of a server that
// was alone into it, adds, removes and replaces nodes, and saves what is left of it.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, open, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { withReplay } from '../../replay/client/replay.mjs';
import { backend, client, subscribed } from './lib/clients.mjs';
import { Mesh, nodeOptions, steadyPort } from './lib/mesh.mjs';
import { app, Server } from './lib/server.mjs';
import { pause, Recorder, within } from './lib/wait.mjs';
import { numbers } from './replay/checker.mjs';
import { Proxy } from './replay/proxy.mjs';

// commandTest is a test that tells what the nodes said when it fails.
function commandTest(name, run) {
  test(name, async (t) => {
    try {
      await run(t);
    } catch (error) {
      for (const line of Mesh.last?.log.slice(-60) ?? []) t.diagnostic(line);
      throw error;
    }
  });
}

const dataDir = (node) => node.options.dataDir ?? path.join(node.dir, 'data');

// run runs reecho cluster beside a node; its folder is all that it is told.
function run(node, ...args) {
  const child = spawn(process.env.REECHO_E2E_BINARY, ['cluster', ...args], {
    env: { PATH: process.env.PATH, REECHO_DATA_DIR: dataDir(node) }, stdio: ['ignore', 'pipe', 'pipe'],
  });
  const command = { child, out: '', err: '' };
  child.stdout.on('data', (text) => { command.out += text; });
  child.stderr.on('data', (text) => { command.err += text; });
  command.ended = within(once(child, 'close'), `cluster ${args.join(' ')}`, 100_000).then(([status]) => status).catch((error) => {
    child.kill('SIGKILL');
    throw new Error(`${error.message}; it said:\n${command.out}${command.err}`);
  });
  return command;
}

// types runs a command on a terminal, and types a line into it.
async function types(node, line, ...args) {
  const script = 'import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))';
  const child = spawn('python3', ['-c', script, process.env.REECHO_E2E_BINARY, 'cluster', ...args], {
    env: { PATH: process.env.PATH, REECHO_DATA_DIR: dataDir(node) }, stdio: ['pipe', 'pipe', 'inherit'],
  });
  let shown = '';
  child.stdout.on('data', (text) => {
    shown += text;
    if (child.stdin.writable && /Type the name of the cluster, test, to do it: $/.test(shown)) child.stdin.write(line);
  });
  const [status] = await within(once(child, 'close'), `cluster ${args.join(' ')} on a terminal`, 100_000);
  return { status, shown };
}

// does runs a command that has to work, and returns its JSON.
async function does(node, ...args) {
  const command = run(node, ...args, '--json');
  assert.equal(await command.ended, 0, `${args.join(' ')}: ${command.out}${command.err}`);
  return JSON.parse(command.out);
}

// refuses runs a command that has to be refused, for a reason.
async function refuses(node, reason, ...args) {
  const command = run(node, ...args, '--json');
  assert.equal(await command.ended, 1, `${args.join(' ')}: ${command.out}${command.err}`);
  const answer = JSON.parse(command.out);
  assert.match(answer.error, reason);
  return answer;
}

// says waits until a command has told something of how it gets on.
async function says(command, text) {
  await within((async () => { while (!text.test(command.err)) await pause(20); })(), `a command to say ${text}`, 120_000).catch((error) => {
    throw new Error(`${error.message}; it said:\n${command.err}`);
  });
}

async function status(node) {
  const command = run(node, 'status', '--json');
  const code = await command.ended;
  const answer = JSON.parse(command.out);
  assert.equal(code, answer.healthy ? 0 : 1, command.out);
  return answer;
}

// healthy waits until a node says that all is well.
async function healthy(node) {
  let last;
  await within((async () => { do last = await status(node); while (!last.healthy); })(), 'the cluster to be healthy', 120_000).catch((error) => {
    throw new Error(`${error.message}: ${JSON.stringify(last.problems)}`);
  });
  return last;
}

// missed waits until a node is missed, and nothing else is wrong.
async function missed(node, name) {
  await within((async () => {
    for (;;) {
      const { nodes, problems } = await status(node);
      if (!nodes.find((each) => each.name === name).alive && problems.every((text) => text.includes(name))) return;
    }
  })(), `${name} to be missed`, 60_000);
}

// retried does what a cluster refuses while it elects a leader, until it works.
async function retried(what, work) {
  await within((async () => { for (;;) { try { return await work(); } catch { await pause(100); } } })(), what, 120_000);
}

async function publish(node, channel, from, to) {
  for (const n of numbers(from, to)) await backend(node).trigger(channel, 'score', { n });
}

async function history(node, channel) {
  const answer = await backend(node).get({ path: `/channels/${channel}/events`, params: { limit: 1000 } });
  return (await answer.json()).events;
}

// same waits until all nodes have exactly these numbers, at the same positions.
async function same(nodes, channel, want) {
  const [first, ...others] = await Promise.all(nodes.map((node) => history(node, channel)));
  assert.deepEqual(first.map(({ data }) => JSON.parse(data).n), want);
  for (const other of others) assert.deepEqual(other, first);
}

// newNode prepares a node that a cluster may get.
async function newNode(t, mesh, name, options = {}) {
  const listen = await steadyPort();
  mesh.clusterPorts.push(listen);
  const dir = path.join(mesh.dir, `${name}-${listen}`);
  await mkdir(dir, { recursive: true });
  const node = await Server.prepare(t, nodeOptions({ name, listen, peers: mesh.clusterPorts, dir, port: await steadyPort(), ...options }));
  mesh.nodes.push(Object.assign(node, { name }));
  return node;
}

function record(channel) {
  const scores = new Recorder('score');
  const outcomes = new Recorder('outcome');
  channel.bind('score', ({ n }) => scores.push(n));
  for (const event of ['reecho:resumed', 'reecho:gap']) channel.bind(event, (data) => outcomes.push({ event, ...data }));
  return { scores, outcomes };
}

commandTest('status: of a whole cluster, without one node, without two', async (t) => {
  const mesh = await Mesh.start(t);
  const [first, second, third] = mesh.nodes;
  await publish(first, 'match.1', 1, 20);
  const all = await healthy(second);
  assert.deepEqual([all.cluster, all.copies, all.problems], ['test', 3, []]);
  assert.deepEqual(all.nodes.map(({ name, member, alive, ready }) => [name, member, alive, ready]), ['n1', 'n2', 'n3'].map((name) => [name, true, true, true]));
  assert.ok(all.nodes.some(({ name }) => name === all.leader));
  assert.deepEqual(all.streams.map(({ name }) => name), ['EVENTS-0', 'EVENTS-1', 'EVENTS-2', 'EVENTS-3', 'EVENTS-4', 'EVENTS-5', 'EVENTS-6', 'EVENTS-7', 'STORE-receipts', 'STORE-session-ids', 'STORE-sessions', 'STORE-terminations']);
  for (const { name, replicas, copies, leader, events } of all.streams) {
    assert.deepEqual([replicas, copies.map(({ node, alive, current }) => [node, alive, current])], [3, ['n1', 'n2', 'n3'].map((node) => [node, true, true])], name);
    assert.ok(leader && (!name.startsWith('EVENTS') || events > 0), name);
  }
  assert.equal(all.nodes.reduce((sum, { leads }) => sum + leads, 0), all.streams.length);
  const shown = run(first, 'status');
  assert.equal(await shown.ended, 0);
  assert.match(shown.out, /^Cluster test is healthy: each event is on 3 nodes, n\d leads it\.\n[^]*\nn2 +ready [^]*\nEVENTS-0 +n\d +3 of 3 /);

  // What lets a command in is for the node's user alone, and goes when it ends.
  const access = path.join(dataDir(third), 'access.json');
  assert.equal((await stat(access)).mode & 0o777, 0o600);
  await third.stop();
  assert.ok(!(await readdir(dataDir(third))).includes('access.json'));
  await refuses(third, /folder of node n3 of cluster test, which does not run/, 'status');
  const two = await within((async () => { for (;;) { const s = await status(first); if (!s.nodes[2].alive) return s; } })(), 'one node to be missed', 60_000);
  assert.deepEqual(two.healthy, false);
  assert.match(two.problems.join('\n'), /node n3 does not answer: start it, or if it is gone for good: reecho cluster replace n3/);
  await second.stop('SIGKILL');
  await refuses(second, /node n2 was killed, or does not answer/, 'status');
  const one = await within((async () => { for (;;) { const s = await status(first); if (s.leader === '') return s; } })(), 'the majority to be missed', 60_000);
  assert.match(one.problems[0], /there is no majority: n1 of 3 answers/);
  const text = run(first, 'status');
  assert.equal(await text.ended, 1);
  assert.match(text.out, /NOT healthy:\n {2}- there is no majority/);
  // The other two alone, who wait for each other, can be asked too.
  await mesh.run();
  await healthy(third);
});

// Travelling clients: each behind a proxy of its own that is aimed at a node.
async function travel(t, server, options = {}) {
  const proxy = await Proxy.start(t, server.port);
  const pusher = client(t, proxy, options);
  const got = record(await subscribed(pusher, 'match.1'));
  const leave = () => {
    proxy.hold();
    for (const link of proxy.links) link.reset();
  };
  const arrive = (node) => {
    proxy.target = node.port;
    proxy.release();
  };
  return { ...got, leave, arrive };
}

commandTest('from one server to three: positions and sessions go on, nothing is missing', async (t) => {
  const mesh = await Mesh.prepare(t);
  const lone = await Server.prepare(t, { dir: path.join(mesh.dir, 'lone'), alone: true });
  await mkdir(lone.dir);
  await lone.run();
  const file = path.join(mesh.dir, 'events.tar');
  await refuses(lone, /a server runs on .*: stop it first/, 'export', file);
  await publish(lone, 'match.1', 1, 10);
  await publish(lone, 'match.2', 1, 30);
  const travellers = [];
  for (const options of [{ plugin: withReplay }, { plugin: withReplay }, { plugin: withReplay }]) travellers.push(await travel(t, lone, options));
  for (let i = 0; i < 3; i++) travellers.push(await travel(t, lone, { wsPath: `/session/${randomUUID()}` }));
  await publish(lone, 'match.1', 11, 20);
  for (const { scores } of travellers) await scores.count(10);
  await pause(2500); // sessions are asked now and then what has arrived
  for (const one of travellers) one.leave();
  await publish(lone, 'match.1', 21, 40);
  const before = await history(lone, 'match.1');
  assert.deepEqual(await lone.stop(), [0, null]);

  // The nodes run, with nothing in them.
  await mesh.run();
  const [first, second, third] = mesh.nodes;
  const manifest = await does(lone, 'export', file);
  assert.deepEqual([manifest.partitions, manifest.streams.length, manifest.cluster], [8, 12, undefined]);
  await refuses(lone, /is there already/, 'export', file);
  assert.equal((await stat(file)).mode & 0o777, 0o600);

  // What is damaged is refused before anything is changed, and so is a slip.
  const untouched = async () => {
    const s = await healthy(first);
    for (const { name, last } of s.streams) if (name.startsWith('EVENTS')) assert.ok(last > 0, name);
  };
  const damaged = path.join(mesh.dir, 'damaged.tar');
  const bytes = await readFile(file);
  for (const [harm, reason] of [[(f) => truncate(f, bytes.length / 2), /cut off|is missing/], [async (f) => {
    const handle = await open(f, 'r+');
    await handle.write(Buffer.from([bytes[bytes.length >> 1] ^ 1]), 0, 1, bytes.length >> 1);
    await handle.close();
  }, /not as it was exported|cut off|missing|read/]]) {
    const copy = await open(damaged, 'w');
    await copy.writeFile(bytes);
    await copy.close();
    await harm(damaged);
    await refuses(first, reason, 'import', damaged, '--confirm', 'test');
  }
  await refuses(first, /has to be confirmed: --confirm test/, 'import', file);
  await refuses(first, /--confirm says "other"/, 'import', file, '--confirm', 'other');
  await untouched();

  const slip = await types(second, 'live\n', 'import', file);
  assert.equal(slip.status, 1, slip.shown);
  assert.match(slip.shown, /Cluster test gets the 70 events of a server that was alone[^]*not the name of the cluster/);
  await untouched();

  // One that is broken off goes on when it is given again.
  const broken = run(first, 'import', file, '--confirm', 'test');
  await says(broken, /importing stream EVENTS-2/);
  broken.child.kill('SIGKILL');
  await broken.ended;
  const done = await types(second, 'test\n', 'import', file);
  assert.equal(done.status, 0, done.shown);
  assert.match(done.shown, /\[#+\.*\] +\d+ % [^]*Done: 12 streams with 70 events are in the cluster/);
  await healthy(third);
  // The run, which a position names too, is another one: that of the cluster.
  const placed = (events) => events.map(({ position, ...event }) => ({ ...event, epoch: position.slice(0, 10), sequence: position.split('-').at(-1) }));
  for (const node of mesh.nodes) assert.deepEqual(placed(await history(node, 'match.1')), placed(before), node.name);
  await same(mesh.nodes, 'match.2', numbers(1, 30));
  // Each comes back to another node.
  for (const [i, one] of travellers.entries()) {
    one.arrive(mesh.nodes[i % 3]);
    const [outcome] = await one.outcomes.count(1);
    assert.equal(outcome.event, 'reecho:resumed', `client ${i}: ${JSON.stringify(outcome)}`);
    assert.equal(outcome.complete, true, `client ${i}: ${JSON.stringify(outcome)}`);
    await one.scores.until((items) => items.includes(40), `40 at client ${i}`);
  }
  await publish(first, 'match.1', 41, 45);
  for (const [i, { scores }] of travellers.entries()) {
    await scores.until((items) => items.includes(45), `45 at client ${i}`);
    assert.deepEqual(scores.items, numbers(11, 45), `client ${i}`);
  }
  await same(mesh.nodes, 'match.1', numbers(1, 45));
  await refuses(first, /the archive is in the cluster already/, 'import', file, '--confirm', 'test');
  // And after a restart of all.
  await mesh.stop();
  await mesh.run();
  await same(mesh.nodes, 'match.1', numbers(1, 45));
});

commandTest('a node is replaced: under its name, under another, and one is removed', async (t) => {
  const mesh = await Mesh.start(t);
  const [first, second, third] = mesh.nodes;
  await publish(first, 'match.1', 1, 30);
  await healthy(first);
  // Nothing is done to a node that runs, nor to one that there is not.
  for (const command of [['remove', 'n3'], ['replace', 'n3', 'n4']]) await refuses(first, /node n3 runs: stop it first/, ...command, '--confirm', 'test');
  await refuses(first, /node n3 is there and well/, 'replace', 'n3');
  await refuses(first, /there is no node n9/, 'remove', 'n9', '--confirm', 'test');
  await refuses(first, /3 or on 5 nodes, not on 4/, 'scale', '4');
  await refuses(first, /3 nodes are there \(n1, n2, n3\), for 5 copies/, 'scale', '5');
  await refuses(first, /the cluster has a majority/, 'rescue', '--confirm', 'test');

  // The same name, and an empty folder. Publishes go on.
  await third.stop('SIGKILL');
  await missed(first, 'n3');
  await refuses(first, /3 copies and 2 nodes would be left/, 'remove', 'n3', '--confirm', 'test');
  await refuses(first, /the cluster has to be healthy first:\n {2}- node n3 does not answer/, 'add', 'n4');
  await refuses(first, /the cluster has to be healthy first:\n {2}- node n3 does not answer/, 'replace', 'n9', 'n4').catch(() => refuses(first, /there is no node n9/, 'replace', 'n9', 'n4'));
  const renewed = run(first, 'replace', 'n3', '--json');
  await says(renewed, /node n3 has to be started now, with an empty data folder/);
  await refuses(second, /another command changes the cluster: replace n3, on node n1/, 'add', 'n4');
  await rm(dataDir(third), { recursive: true });
  await retried('a publish without a node', () => publish(first, 'match.1', 31, 31));
  await third.run();
  assert.equal(await renewed.ended, 0, renewed.err);
  assert.match(JSON.parse(renewed.out).done, /node n3 is back and has all/);
  await same(mesh.nodes, 'match.1', numbers(1, 31));

  // Another name.
  await second.stop('SIGKILL');
  await missed(first, 'n2');
  const fourth = await newNode(t, mesh, 'n4');
  const replaced = run(first, 'replace', 'n2', 'n4', '--confirm', 'test', '--json');
  await says(replaced, /node n4 has to be started now/);
  await fourth.run();
  assert.equal(await replaced.ended, 0, replaced.err);
  const { done, status: after } = JSON.parse(replaced.out);
  assert.match(done, /node n4 is in the place of node n2/);
  assert.deepEqual(after.nodes.map(({ name }) => name), ['n1', 'n3', 'n4']);
  for (const { name, copies } of after.streams) assert.deepEqual(copies.map(({ node }) => node), ['n1', 'n3', 'n4'], name);
  const left = [first, third, fourth];
  await publish(fourth, 'match.1', 32, 40);
  await same(left, 'match.1', numbers(1, 40));

  // A fourth one, which is not needed: it goes again.
  const fifth = await newNode(t, mesh, 'n5');
  const added = run(fourth, 'add', 'n5', '--json');
  await says(added, /node n5 has to be started now/);
  await fifth.run();
  assert.equal(await added.ended, 0, added.err);
  await healthy(fifth);
  await third.stop();
  await missed(first, 'n3');
  await does(fifth, 'remove', 'n3', '--confirm', 'test');
  const four = await healthy(first);
  for (const { name, copies } of four.streams) assert.deepEqual(copies.map(({ node }) => node), ['n1', 'n4', 'n5'], name);
  await publish(fifth, 'match.1', 41, 45);
  await same([first, fourth, fifth], 'match.1', numbers(1, 45));
});

commandTest('three become five, and three again', async (t) => {
  const mesh = await Mesh.start(t);
  const [first] = mesh.nodes;
  await publish(first, 'match.1', 1, 30);
  await healthy(first);
  for (const name of ['n4', 'n5']) {
    const node = await newNode(t, mesh, name);
    await node.run();
    const { next } = await does(first, 'add', name);
    assert.equal(next.some((text) => /scale 5/.test(text)), name === 'n5');
  }
  const five = await does(mesh.nodes[4], 'scale', '5');
  for (const { name, copies } of five.status.streams) assert.equal(copies.length, 5, name);
  await publish(mesh.nodes[3], 'match.1', 31, 40);
  await same(mesh.nodes, 'match.1', numbers(1, 40));
  // What is stored counts, not what a node's file says; what is new takes the same.
  const rule = [{ ...app, retention: [{ channels: 'short.*', age: '1m' }] }];
  for (const node of mesh.nodes) {
    await node.stop();
    node.options.apps = rule;
    await node.run();
  }
  const still = await healthy(first);
  assert.equal(still.streams.length, 20);
  for (const { name, copies } of still.streams) assert.equal(copies.length, 5, name);
  await same(mesh.nodes, 'match.1', numbers(1, 40));
  // Two may be lost at once now.
  await Promise.all([mesh.nodes[1], mesh.nodes[2]].map((node) => node.stop('SIGKILL')));
  await retried('a publish without two', () => publish(first, 'match.1', 41, 41));
  await mesh.run();
  await healthy(first);
  await refuses(first, /has to be confirmed/, 'scale', '3');
  const three = await does(first, 'scale', '3', '--confirm', 'test');
  for (const { name, copies } of three.status.streams) assert.equal(copies.length, 3, name);
  for (const name of ['n5', 'n4']) {
    await mesh.nodes.find((node) => node.name === name).stop();
    await missed(first, name);
    await does(first, 'remove', name, '--confirm', 'test');
  }
  const end = await healthy(first);
  assert.deepEqual(end.nodes.map(({ name }) => name), ['n1', 'n2', 'n3']);
  for (const { name, copies } of end.streams) assert.deepEqual(copies.map(({ node }) => node), ['n1', 'n2', 'n3'], name);
  await same(mesh.nodes.slice(0, 3), 'match.1', numbers(1, 41));
});

// routeTLS makes what nodes speak TLS with each other by, in a folder.
async function routeTLS(dir) {
  const openssl = (...args) => execFileSync('openssl', args, { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] });
  await writeFile(path.join(dir, 'ext'), 'subjectAltName=IP:127.0.0.1\n');
  openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=reecho test CA');
  openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'node.key', '-out', 'node.csr', '-subj', '/CN=node');
  openssl('x509', '-req', '-in', 'node.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-set_serial', '7', '-days', '2', '-extfile', 'ext', '-out', 'node.pem');
  return ['--cluster-tls-cert', 'node.pem', '--cluster-tls-key', 'node.key', '--cluster-tls-ca', 'ca.pem'].map((arg) => (arg.startsWith('-') ? arg : path.join(dir, arg)));
}

for (const tls of [false, true]) commandTest(`what is left of three is saved, and becomes three again${tls ? ', with TLS' : ''}`, async (t) => {
  const keys = await mkdtemp(path.join(tmpdir(), 'reecho-e2e-'));
  t.after(() => rm(keys, { recursive: true, force: true }));
  const args = tls ? await routeTLS(keys) : [];
  const mesh = await Mesh.start(t, { args });
  const [first, second, third] = mesh.nodes;
  await publish(first, 'match.1', 1, 50);
  const pusher = withReplay(client(t, first));
  const { scores } = record(await subscribed(pusher, 'match.1'));
  await publish(first, 'match.1', 51, 60);
  await scores.count(10);
  await healthy(first);
  pusher.disconnect();
  await publish(first, 'match.1', 61, 70);
  await Promise.all([second, third].map((node) => node.stop('SIGKILL')));
  await Promise.all([second, third].map((node) => rm(dataDir(node), { recursive: true })));
  await within((async () => { while ((await status(first)).leader !== ''); })(), 'the majority to be missed', 60_000);
  await refuses(first, /has to be confirmed/, 'rescue');
  if (tls) {
    // As an operator would try first.
    await first.stop('SIGKILL');
    await first.launch();
    await within((async () => { for (;;) { const c = run(first, 'status'); await c.ended; if (/no majority/.test(c.out)) return; } })(), 'the node to be asked', 60_000);
  }
  const rescued = await does(first, 'rescue', '--confirm', 'test');
  assert.match(rescued.done, /n1 is all of the cluster/);
  await within(first.started, 'the node to start', 60_000);
  await retried('a publish on one node', () => publish(first, 'match.1', 71, 71));
  await same([first], 'match.1', numbers(1, 71));
  const alone = await status(first);
  assert.deepEqual(alone.problems, ['1 nodes are there and each event is to be on 3: start new ones with empty data folders, and reecho cluster add each']);

  // New ones: an old name is let in again after five minutes only.
  mesh.nodes = [first];
  for (const name of ['n4', 'n5']) {
    const node = await newNode(t, mesh, name, { args });
    await node.run();
    await does(first, 'add', name);
  }
  const whole = await healthy(mesh.nodes[2]);
  for (const { name, copies } of whole.streams) assert.deepEqual(copies.map(({ node }) => node), ['n1', 'n4', 'n5'], name);
  await publish(mesh.nodes[2], 'match.1', 72, 80);
  await same(mesh.nodes, 'match.1', numbers(1, 80));
  // Who was away has missed nothing, and positions are what they were.
  pusher.connect();
  await scores.until((items) => items.includes(80), '80');
  assert.deepEqual(scores.items, numbers(51, 80));
});

commandTest('a backup of a cluster is put back: what came after it is told of', async (t) => {
  const mesh = await Mesh.start(t);
  const [first, second, third] = mesh.nodes;
  const file = path.join(mesh.dir, 'backup.tar');
  const traveller = (options) => travel(t, first, options);
  const early = await traveller({ plugin: withReplay });
  await publish(first, 'match.1', 1, 20);
  await early.scores.count(20);
  early.leave();
  const late = await traveller({ plugin: withReplay });
  const session = await traveller({ wsPath: `/session/${randomUUID()}` });
  const made = await does(second, 'export', file);
  assert.equal(made.cluster, 'test');
  await publish(first, 'match.1', 21, 40);
  for (const one of [late, session]) await one.scores.count(20);
  await pause(2500); // the session is asked what has arrived
  for (const one of [late, session]) one.leave();
  await mesh.stop();
  for (const node of mesh.nodes) await rm(dataDir(node), { recursive: true });

  // The nodes are to be as they were.
  const [{ options }] = mesh.nodes;
  const restart = async (change) => {
    for (const node of mesh.nodes) Object.assign(node.options, change);
    await mesh.run();
    await healthy(first);
  };
  const { args } = options;
  const ownArgs = mesh.nodes.map((node) => node.options.args);
  for (const node of mesh.nodes) node.options.args = [...node.options.args, '--partitions', '2'];
  await restart({});
  await refuses(third, /the archive has 8 partitions and node n\d has 2: set partitions to 8/, 'import', file, '--confirm', 'test');
  await mesh.stop();
  for (const node of mesh.nodes) await rm(dataDir(node), { recursive: true });
  mesh.nodes.forEach((node, i) => { node.options.args = [...ownArgs[i], '--retention-age', '2h']; });
  await restart({ apps: [{ ...app, retention: [{ channels: 'short.*', age: '1m' }] }] });
  const answer = await refuses(third, /stream EVENTS-0 was kept with retention_age 1h0m0s, the nodes have 2h0m0s/, 'import', file, '--confirm', 'test');
  assert.match(answer.error, /the retention rules of the archive are \[\], those of the nodes \[\{[^]*for a retention rule that the archive does not have/);
  await mesh.stop();
  mesh.nodes.forEach((node, i) => { node.options.args = ownArgs[i]; });
  for (const node of mesh.nodes) await rm(dataDir(node), { recursive: true });
  await restart({ apps: undefined });
  assert.deepEqual(first.options.args, args);
  await publish(first, 'match.9', 1, 1);
  await refuses(third, /the cluster is not empty: stream EVENTS-\d has 1 events/, 'import', file, '--confirm', 'test');
  await mesh.stop();
  for (const node of mesh.nodes) await rm(dataDir(node), { recursive: true });
  await restart({});

  await does(third, 'import', file, '--confirm', 'test');
  await same(mesh.nodes, 'match.1', numbers(1, 20));
  await publish(second, 'match.1', 101, 120);
  for (const [one, node, event] of [[early, second, 'reecho:resumed'], [late, third, 'reecho:gap'], [session, second, 'reecho:gap']]) {
    one.arrive(node);
    const [outcome] = await one.outcomes.count(1);
    assert.equal(outcome.event, event, JSON.stringify(outcome));
  }
  await early.scores.until((items) => items.includes(120), '120');
  assert.deepEqual(early.scores.items, [...numbers(1, 20), ...numbers(101, 120)]);
});
