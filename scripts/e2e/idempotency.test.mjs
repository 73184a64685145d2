// A publish with a key happens once, however often, and wherever, it is tried.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, createHmac, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { test } from 'node:test';
import { backend } from './lib/clients.mjs';
import { example } from './lib/docs.mjs';
import { Mesh } from './lib/mesh.mjs';
import { firstSeed } from './lib/seed.mjs';
import { app, NODES, Server } from './lib/server.mjs';
import { random } from './replay/random.mjs';

// call is a signed call without a library; body is an object or a text.
async function call(server, path, body, headers = {}) {
  const text = JSON.stringify(body);
  const query = new URLSearchParams({
    auth_key: app.key, auth_timestamp: Math.floor(Date.now() / 1000), auth_version: '1.0', body_md5: createHash('md5').update(text).digest('hex'),
  });
  query.set('auth_signature', createHmac('sha256', app.secret).update(`POST\n/apps/${app.id}${path}\n${query}`).digest('hex'));
  const response = await fetch(`http://127.0.0.1:${server.port}/apps/${app.id}${path}?${query}`, { method: 'POST', body: text, headers });
  return { status: response.status, text: await response.text() };
}

// persist tries a publish with a key until it is answered, at any of some servers.
async function persist(servers, body, key, first = 0) {
  for (let n = first; ; n++) {
    try {
      const { status, text } = await call(servers[n % servers.length], '/events', body, { 'X-Idempotency-Key': key });
      if (status === 200) return text;
      assert.equal(status, 503, text);
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
    }
    await pause(20);
  }
}

// logOf is the data of all events that are retained of a channel, in order.
async function logOf(server, channel) {
  const data = [];
  for (let after; ;) {
    const page = await (await backend(server).get({ path: `/channels/${channel}/events`, params: { limit: 100, ...(after && { after }) } })).json();
    data.push(...page.events.map((event) => event.data));
    after = page.events.at(-1)?.position;
    if (!page.more) return data;
  }
}

test('a key with the official library, in the body, and over HTTP, in a header', async (t) => {
  const server = await Server.start(t);
  const hub = backend(server);
  const key = randomUUID();
  const params = { idempotency_key: key, info: 'subscription_count,position' };
  const answers = [];
  for (let n = 0; n < 3; n++) answers.push(await (await hub.trigger(['match.1', 'match.2'], 'score', { home: 1 }, params)).json());
  assert.match(answers[0].channels['match.1'].position, /-\d+$/);
  assert.deepEqual(answers, Array(3).fill(answers[0]));
  await assert.rejects(hub.trigger(['match.1', 'match.2'], 'score', { home: 2 }, params), ({ status, body }) => {
    assert.match(body, /used for something else/);
    return status === 409;
  });
  for (let n = 0; n < 3; n++) {
    const { status, text } = await call(server, '/batch_events', { batch: [{ name: 'score', data: 'a', channel: 'match.1' }, { name: 'score', data: 'b', channel: 'match.2' }] }, { 'X-Idempotency-Key': 'batch' });
    assert.deepEqual([status, text], [200, '{}']);
  }
  assert.deepEqual(await logOf(server, 'match.1'), ['{"home":1}', 'a']);
  assert.deepEqual(await logOf(server, 'match.2'), ['{"home":1}', 'b']);
});

test('a window, and what there is for keys, as they are set', async (t) => {
  const server = await Server.start(t, { args: ['--idempotency-window', '1s', '--idempotency-bytes', '1MiB'] });
  const [large, key] = [{ name: 'score', data: 'a', channels: Array.from({ length: 100 }, (_, n) => `${'x'.repeat(180)}.${n}`), info: 'position' }, { 'X-Idempotency-Key': 'first' }];
  assert.equal((await call(server, '/events', large, key)).status, 200);
  let refused;
  for (let n = 0; !refused; n++) {
    const { status, text } = await call(server, '/events', large, { 'X-Idempotency-Key': String(n) });
    if (status !== 200) refused = [status, text.trim()];
  }
  assert.deepEqual(refused, [503, 'There is no room for another idempotency key (idempotency_bytes), try again']);
  // Without a key all is as always; with one it is when there is room again.
  assert.equal((await call(server, '/events', large)).status, 200);
  await persist([server], large, 'later');
  // When the window is over a key is new.
  let status = 409;
  for (; status === 409 || status === 503; await pause(20)) ({ status } = await call(server, '/events', { ...large, data: 'b' }, key));
  assert.equal(status, 200);
});

// Servers of a round: those that are tried, and one that is killed.
async function scene(t) {
  if (NODES === 1) {
    const server = await Server.start(t);
    return { servers: [server], kill: (server) => server.stop('SIGKILL'), back: (server) => server.run() };
  }
  const mesh = await Mesh.start(t);
  return { servers: mesh.nodes, kill: (server) => server.stop('SIGKILL'), back: async (server) => { await server.run(); await mesh.ready(mesh.nodes.indexOf(server)); } };
}

const ROUNDS = Number(process.env.REECHO_E2E_ROUNDS ?? (NODES === 1 ? 25 : 20));

test(`kill -9 in the middle of publishes to many channels, ${ROUNDS} rounds: what is tried again is stored once`, async (t) => {
  const seed = firstSeed('E2E');
  t.diagnostic(`REECHO_E2E_SEED=${seed}`);
  const draw = random(seed);
  const { servers, kill, back } = await scene(t);
  const channels = Array.from({ length: 24 }, (_, n) => `match.${n}`);
  const sent = [];
  const answers = new Map();
  for (let round = 0; round < ROUNDS; round++) {
    const victim = draw.below(servers.length);
    const publishes = Array.from({ length: 12 }, (_, n) => {
      const to = channels.filter(() => draw.chance(0.5));
      return { key: `${round}.${n}`, body: { name: 'score', data: `${round}.${n}`, channels: to.length ? to : [channels[0]], info: 'position' } };
    });
    sent.push(...publishes);
    // All begin at the one that is killed, when a random few have been answered.
    const killed = pause(draw.below(12)).then(() => kill(servers[victim]));
    const done = Promise.all(publishes.map(async ({ key, body }) => answers.set(key, await persist(servers, body, key, victim))));
    await killed;
    if (NODES === 1) await back(servers[victim]);
    await done;
    if (NODES > 1) await back(servers[victim]);
  }
  // A try long after that changes nothing, and is answered the same, by every server.
  for (const server of servers) {
    for (const { key, body } of sent) assert.equal(await persist([server], body, key), answers.get(key));
  }
  for (const channel of channels) {
    const want = sent.filter(({ body }) => body.channels.includes(channel)).map(({ key }) => key).sort();
    assert.deepEqual((await logOf(servers[0], channel)).sort(), want, channel);
  }
});

test('a queued job of Laravel that is tried again, as documented', async (t) => {
  const server = await Server.start(t);
  const php = spawn('php', [new URL('laravel/retried.php', import.meta.url).pathname, server.port, app.id, app.key, app.secret], { stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [php.stdout, php.stderr]) stream.on('data', (chunk) => { said += chunk; });
  php.stdin.end(await example('replay/README.md', 'php', 'class RetriedPusher'));
  const [status] = await once(php, 'exit');
  assert.deepEqual([status, said], [0, '']);
  for (const channel of ['match.1', 'match.2', 'match.3']) {
    assert.deepEqual(await logOf(server, channel), ['{"job":"job-1"}', '{"job":"job-2"}', '{"job":null}', '{"job":null}']);
  }
});
