// Files of variables mean what they mean to Laravel: the Go test that asks the
// phpdotenv of an installed Laravel, which must not be missing here. And an
// application that has its .env needs nothing else.
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import https from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import Echo from 'laravel-echo';
import { backend, client, connected, versions } from './lib/clients.mjs';
import { laravel, post } from './lib/laravel.mjs';
import { dial, handshake, PATH } from './lib/raw.mjs';
import { Receiver } from './lib/receiver.mjs';
import { app, freePort, Server } from './lib/server.mjs';
import { once, Recorder } from './lib/wait.mjs';

const root = path.join(import.meta.dirname, '../..');

test('the reader of .env files against phpdotenv', async (t) => {
  const { stdout } = await promisify(execFile)('go', ['test', '-count=1', '-v', '-run', '^TestLikePHP$', './edge/config/dotenv'], {
    cwd: root, env: { ...process.env, REECHO_TEST_PHPDOTENV: '1' }, maxBuffer: 1 << 24,
  }).catch((error) => { throw new Error(`${error.message}\n${error.stdout}`); });
  t.diagnostic(stdout.match(/REECHO_TEST_SEED=\d+/)?.[0]);
  assert.match(stdout, /--- PASS: TestLikePHP/);
});

// laravelValues are the variables of a file as Laravel's env() has them.
function laravelValues(text) {
  const php = spawnSync('php', [path.join(root, 'edge/config/dotenv/testdata/laravel.php')], {
    input: `${JSON.stringify({ text: Buffer.from(text).toString('base64'), env: {} })}\n`, encoding: 'utf8',
  });
  const { laravel: values } = JSON.parse(php.stdout);
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, typeof value === 'string' ? Buffer.from(value, 'base64').toString() : value]));
}

// withEnvFile starts a server with an .env and no word more.
async function withEnvFile(t, text, env = {}) {
  const dir = await mkdtemp(path.join(tmpdir(), 'reecho-e2e-env-'));
  await writeFile(path.join(dir, '.env'), text);
  const server = await Server.prepare(t, { bare: true, dir, env, args: ['--env-file', '.env'] });
  t.after(() => rm(dir, { recursive: true, force: true })); // once it has ended
  await server.run();
  server.port = Number(server.ready.match(/:(\d+)/)?.[1]);
  return server;
}

const random = (n) => Array.from({ length: n }, () => 'abcdefghijklmnopqrstuvwxyz0123456789'[randomInt(36)]).join('');

// stock is what php artisan reverb:install leaves in a new application's .env.
const stock = (port, id = randomInt(100_000, 1_000_000)) => `APP_NAME=Laravel
APP_ENV=local
APP_URL=http://localhost

BROADCAST_CONNECTION=reverb
CACHE_STORE=database
REDIS_CLIENT=phpredis
REDIS_HOST=127.0.0.1
REDIS_PASSWORD=null
REDIS_PORT=6379

VITE_APP_NAME="\${APP_NAME}"

REVERB_APP_ID=${id}
REVERB_APP_KEY=${random(20)}
REVERB_APP_SECRET=${random(20)}
REVERB_HOST="localhost"
REVERB_PORT=${port}
REVERB_SCHEME=http

VITE_REVERB_APP_KEY="\${REVERB_APP_KEY}"
VITE_REVERB_HOST="\${REVERB_HOST}"
VITE_REVERB_PORT="\${REVERB_PORT}"
VITE_REVERB_SCHEME="\${REVERB_SCHEME}"
`;

// The port of the stock file, unless somebody has it on this machine.
async function stockPort() {
  const probe = net.createServer();
  const free = await new Promise((resolve) => { probe.once('error', () => resolve(false)).listen(8080, '0.0.0.0', () => resolve(true)); });
  await new Promise((resolve) => { probe.close(resolve); });
  return free ? 8080 : freePort();
}

// line is what the server said with a message.
const line = (server, message) => server.log.find((text) => text.includes(message)) ?? '';

test('a stock .env and nothing else: Laravel, Echo, Pulse, /up', async (t) => {
  const text = stock(await stockPort());
  const server = await withEnvFile(t, text);
  const values = laravelValues(text);
  assert.equal(server.port, Number(values.REVERB_PORT));
  assert.match(line(server, 'variables of other servers are used'), new RegExp(`app ${values.REVERB_APP_ID} \\(REVERB_APP_ID, REVERB_APP_KEY, REVERB_APP_SECRET\\); listen=0.0.0.0:${server.port} \\(REVERB_HOST, REVERB_PORT, REVERB_SCHEME\\)`));
  assert.equal(line(server, 'are not used'), '', 'a stock file has nothing that is not used');
  assert.ok(!server.log.join().includes(values.REVERB_APP_SECRET));

  const url = await laravel(t, { LARAVEL_ENV_FILE: path.join(server.dir, '.env') });
  const echo = new Echo({
    broadcaster: 'reverb', key: values.VITE_REVERB_APP_KEY, wsHost: values.VITE_REVERB_HOST, wsPort: values.VITE_REVERB_PORT ?? 80, wssPort: values.VITE_REVERB_PORT ?? 443,
    forceTLS: (values.VITE_REVERB_SCHEME ?? 'https') === 'https', enabledTransports: ['ws', 'wss'], Pusher: versions[8], authEndpoint: `${url}/broadcasting/auth`,
  });
  t.after(() => echo.disconnect());
  const [ready, got, here] = ['subscribed', 'event', 'here'].map((name) => new Recorder(name));
  echo.private('chat.1').subscribed(ready.push).listen('.App\\ScoreChanged', got.push);
  echo.join('lobby').here(here.push);
  await ready.count(1);
  assert.deepEqual(await here.count(1), [[{ name: 'Ada' }]]);
  assert.deepEqual(await post(`${url}/broadcast`, { text: 'hello', channels: ['private-chat.1'] }), { status: 200, body: {} });
  assert.deepEqual((await got.count(1)).map((event) => event.text), ['hello']);

  assert.deepEqual(await (await fetch(`${url}/pulse`)).json(), { reverb_connections: 1 });
  const up = await fetch(`http://localhost:${server.port}/up`);
  assert.deepEqual([up.status, up.headers.get('content-type'), await up.text()], [200, 'application/json', '{"health":"OK"}']);
});

test('the limits, path and address of Reverb', async (t) => {
  const port = await freePort();
  const server = await withEnvFile(t, `${stock(8080, app.id)}
REVERB_APP_KEY=${app.key}
REVERB_APP_SECRET=${app.secret}
REVERB_SERVER_HOST=127.0.0.1
REVERB_SERVER_PORT=${port}
REVERB_SERVER_PATH=ws
REVERB_APP_MAX_CONNECTIONS=2
REVERB_APP_MAX_MESSAGE_SIZE=200
REVERB_APP_ACTIVITY_TIMEOUT=33
REVERB_APP_RATE_LIMITING_ENABLED=true
REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS=5
REVERB_APP_RATE_LIMIT_DECAY_SECONDS=3600
REVERB_ALLOWED_ORIGINS=app.example.com
REVERB_MAX_REQUEST_SIZE=30000
REVERB_SCALING_ENABLED=true
`);
  assert.equal(server.port, port);
  assert.match(line(server, 'are not used'), /REVERB_SCALING_ENABLED, REDIS_HOST, REDIS_PORT \(a cluster needs no Redis/);
  assert.equal((await fetch(`http://127.0.0.1:${port}/ws/up`)).status, 200);
  const open = async () => {
    const pusher = client(t, server, { wsPath: '/ws' });
    const frames = new Recorder('frame');
    const errors = new Recorder('error');
    pusher.connection.bind('message', ({ event }) => frames.push(event));
    pusher.connection.bind('error', ({ data, error }) => errors.push((data ?? error?.data)?.code));
    await connected(pusher);
    return { pusher, frames, errors };
  };
  const [first, second] = [await open(), await open()];
  assert.equal(first.pusher.connection.activityTimeout, 33_000);
  const third = client(t, server, { wsPath: '/ws' });
  const refused = new Recorder('refusal');
  third.connection.bind('error', ({ error }) => refused.push(error?.data?.code));
  assert.deepEqual(await refused.count(1), [4004]);
  third.disconnect();

  for (let i = 0; i < 6; i++) first.pusher.send_event('pusher:ping', {});
  assert.deepEqual(await first.errors.count(1), [4301]);
  assert.equal(first.frames.items.filter((event) => event === 'pusher:pong').length, 5);
  const { socket_id: before } = second.pusher.connection;
  const again = once(second.pusher.connection, 'connected');
  second.pusher.send_event('pusher:ping', 'x'.repeat(200));
  await again;
  assert.notEqual(second.pusher.connection.socket_id, before);
  const stranger = await dial(port);
  t.after(() => stranger.destroy());
  const told = new Recorder('answer');
  stranger.on('data', (data) => told.push(data.toString('latin1')));
  stranger.write(handshake(`/ws${PATH}`).replace('\r\n', '\r\nOrigin: https://evil.example.com\r\n'));
  await told.until((all) => all.join('').includes('Origin not allowed'));

  // Ten kilobytes are the default of an event's data, and Reverb has no such limit.
  const publish = (bytes) => {
    const call = { method: 'POST', path: `/apps/${app.id}/events`, body: JSON.stringify({ name: 'x', channel: 'chat', data: 'x'.repeat(bytes) }) };
    return fetch(`http://127.0.0.1:${port}/ws${call.path}?${backend(server).createSignedQueryString(call)}`, call);
  };
  assert.deepEqual([(await publish(29_000)).status, (await publish(31_000)).status], [200, 413]);
});
test('whoever is above the rate is closed and comes back', async (t) => {
  const server = await withEnvFile(t, `${stock(await freePort(), app.id)}
REVERB_APP_KEY=${app.key}
REVERB_APP_SECRET=${app.secret}
REVERB_APP_RATE_LIMITING_ENABLED=true
REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS=3
REVERB_APP_RATE_LIMIT_TERMINATE=true
`);
  const pusher = client(t, server);
  await connected(pusher);
  const [before, states] = [pusher.connection.socket_id, new Recorder('state')];
  pusher.connection.bind('state_change', ({ current }) => states.push(current));
  for (let i = 0; i < 4; i++) pusher.send_event('client-x', {}, 'private-none');
  await states.until((all) => all.includes('connecting') && all.at(-1) === 'connected');
  assert.notEqual(pusher.connection.socket_id, before);
});

test('soketi, a hosting platform, and what is wrong', async (t) => {
  const [port, other, metrics] = [await freePort(), await freePort(), await freePort()];
  const receiver = await Receiver.start(t);
  const webhooks = JSON.stringify([{ url: receiver.url, event_types: ['channel_occupied'], filter: { channel_name_starts_with: 'private-' } }]);
  const soketi = await withEnvFile(t, `SOKETI_DEFAULT_APP_ID=${app.id}\nSOKETI_DEFAULT_APP_KEY=${app.key}\nSOKETI_DEFAULT_APP_SECRET=${app.secret}\nSOKETI_PORT=${port}\nSOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES=false\nSOKETI_METRICS_ENABLED=true\nSOKETI_METRICS_SERVER_PORT=${metrics}\nSOKETI_METRICS_PROMETHEUS_PREFIX=x_\nSOKETI_DEFAULT_APP_WEBHOOKS='${webhooks}'\n`);
  assert.equal(soketi.port, port);
  assert.match(line(soketi, 'are not used'), /SOKETI_METRICS_PROMETHEUS_PREFIX/);
  assert.match(await (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text(), /^reecho_ready 1$/m);
  const pusher = client(t, soketi);
  const refused = new Recorder('error');
  pusher.connection.bind('error', refused.push);
  const channel = pusher.subscribe('private-x');
  await once(channel, 'pusher:subscription_succeeded');
  channel.trigger('client-x', {});
  assert.equal((await refused.count(1))[0].data.code, 4301);
  await receiver.names(['channel_occupied private-x']);
  assert.equal((await backend(soketi).trigger('match.1', 'score', {})).status, 200);

  const platform = await withEnvFile(t, stock(8080), { PORT: String(other) });
  assert.equal(platform.port, other);
  assert.match(line(platform, 'are not used'), /REVERB_HOST, REVERB_PORT, REVERB_SCHEME \(PORT says it\)/);

  const wrong = await Server.prepare(t, { bare: true, args: ['--env-file', '.env'] });
  await writeFile(path.join(wrong.dir, '.env'), 'REVERB_SERVER_PORT=http\nREVERB_APP_MAX_CONNECTIONS=many\n');
  await assert.rejects(wrong.run(), /ended with 2:[^]*\.env, line 1: REVERB_SERVER_PORT is "http": should be the number of a port[^]*/);
});

test('the certificate that Valet made for the host', async (t) => {
  const home = await mkdtemp(path.join(tmpdir(), 'reecho-e2e-valet-'));
  t.after(() => rm(home, { recursive: true, force: true }));
  const certificates = path.join(home, '.config/valet/Certificates');
  await mkdir(certificates, { recursive: true });
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'shop.test.key', '-out', 'shop.test.crt', '-days', '2', '-subj', '/CN=shop.test', '-addext', 'subjectAltName=DNS:shop.test'], { cwd: certificates, stdio: 'ignore' });
  const port = await freePort();
  const text = stock(port).replace('"localhost"', 'shop.test').replace('REVERB_SCHEME=http', 'REVERB_SCHEME=https');
  const server = await withEnvFile(t, text, { HOME: home });
  assert.match(server.ready, new RegExp(`https://localhost:${port}`));
  assert.match(line(server, 'are used'), /tls_cert=.*shop\.test\.crt.* of Valet \(REVERB_HOST, REVERB_SCHEME\)/);
  const ca = await readFile(path.join(certificates, 'shop.test.crt'));
  const status = await new Promise((resolve, reject) => {
    https.get({ host: '127.0.0.1', port, path: '/up', servername: 'shop.test', ca, agent: false }, (response) => resolve(response.resume().statusCode)).on('error', reject);
  });
  assert.equal(status, 200);
});

// What Laravel reads as the secret, its calls are signed with.
for (const line of ['"s3cr$ET!x"', '$2y$10$abcdefghijklmnopqrstuv', 'x${NOPE}y', 'ab#cd', '"ab\\""', '"a\\tb"', "'a\"b'", '"${APP_NAME}-1"']) {
  test(`calls signed with the secret of REVERB_APP_SECRET=${line}`, async (t) => {
    const text = `APP_NAME=demo\r\nREVERB_APP_ID=77\r\nREVERB_APP_KEY=demo-key-01\r\nREVERB_APP_SECRET=${line}\r\n`;
    const php = spawnSync('php', [path.join(root, 'edge/config/dotenv/testdata/laravel.php')], {
      input: `${JSON.stringify({ text: Buffer.from(text).toString('base64'), env: {} })}\n`, encoding: 'utf8',
    });
    const secret = Buffer.from(JSON.parse(php.stdout).laravel.REVERB_APP_SECRET, 'base64').toString();
    const dir = await mkdtemp(path.join(tmpdir(), 'reecho-e2e-env-'));
    await writeFile(path.join(dir, '.env'), text);
    const server = await Server.start(t, { noConfig: true, dir, args: ['--env-file', path.join(dir, '.env')] });
    t.after(() => rm(dir, { recursive: true, force: true })); // once it has ended
    const { status } = await backend(server, { ...app, secret }).trigger('match.1', 'score', {});
    assert.equal(status, 200);
  });
}
