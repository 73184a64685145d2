// Real proxies in front, set up as their manuals and defaults have it.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { backend, client, connected, subscribed } from './lib/clients.mjs';
import { example } from './lib/docs.mjs';
import { haproxy, nginx } from './lib/proxies.mjs';
import { app, Server } from './lib/server.mjs';
import { Recorder, within } from './lib/wait.mjs';
import { EventSource } from './replay/eventsource.mjs';

// upgrade asks for a WebSocket and returns the answer; its text if it is none.
async function upgrade(port, target, headers = {}) {
  const request = http.request({
    port, host: '127.0.0.1', path: target,
    headers: { Upgrade: 'websocket', Connection: 'Upgrade', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==', ...headers },
  });
  request.end();
  return within(new Promise((resolve, reject) => {
    request.on('error', reject);
    request.on('upgrade', (response, socket) => {
      socket.destroy();
      resolve({ status: response.statusCode });
    });
    request.on('response', async (response) => {
      let text = '';
      for await (const part of response) text += part;
      resolve({ status: response.statusCode, text });
    });
  }), 'an answer');
}

// mixed lets calls of the API and clients' upgrades take turns through a proxy
// that keeps its connections.
async function mixed(t, server, port) {
  const hub = backend(server, { port: String(port) });
  const got = new Recorder('event');
  const expected = [];
  for (let round = 0; round < 8; round++) {
    assert.equal((await hub.trigger('chat', 'nobody-listens-to', round)).status, 200);
    const pusher = client(t, { port }, {});
    const states = new Recorder('state');
    pusher.connection.bind('state_change', (s) => states.push(s.current));
    const channel = await subscribed(pusher, 'chat');
    assert.deepEqual(states.items.filter((s) => s !== 'connecting' && s !== 'connected'), [], 'the first attempt failed');
    channel.bind('x', got.push);
    await hub.trigger('chat', 'x', round);
    for (let i = 0; i <= round; i++) expected.push(round);
    assert.deepEqual(await got.count(expected.length), expected);
    assert.equal((await hub.get({ path: '/channels/chat' })).status, 200);
  }
}

// stream opens an event stream and returns its first message once something was
// published: a proxy must not keep it.
async function stream(t, server, port) {
  const source = new EventSource(`http://127.0.0.1:${port}/app/${app.key}/events?channel=news`);
  t.after(() => source.close());
  const got = new Recorder('message');
  source.onmessage = ({ data }) => got.push(JSON.parse(data));
  await within(new Promise((resolve) => { source.onopen = resolve; }), 'the stream to open');
  await backend(server).trigger('news', 'x', 1);
  assert.equal((await got.count(1))[0].event, 'x');
}

test('nginx as in OPERATING.md: API calls and upgrades over the same kept connections', async (t) => {
  const server = await Server.start(t, { args: ['--trusted-proxies', 'loopback'] });
  const block = await example('edge/node/OPERATING.md', 'nginx', 'upstream reecho');
  const port = await nginx(t, (port) => block.replace('127.0.0.1:6001', `127.0.0.1:${server.port}`).replace('keepalive 32', 'keepalive 2')
    .replace('server {\n', `server {\n listen 127.0.0.1:${port};\n`));
  await mixed(t, server, port);
  await stream(t, server, port);
  assert.equal((await upgrade(port, `/app/${app.key}?protocol=7`, { Cookie: `c=${'x'.repeat(7900)}` })).status, 101);
});

test('HAProxy as in OPERATING.md', async (t) => {
  const server = await Server.start(t, { args: ['--trusted-proxies', 'loopback'] });
  const block = await example('edge/node/OPERATING.md', 'haproxy', 'backend reecho');
  const port = await haproxy(t, (port) => `
      mode http
    frontend all
      bind 127.0.0.1:${port}
      default_backend reecho
${block.replace('127.0.0.1:6001', `127.0.0.1:${server.port}`)}`);
  await mixed(t, server, port);
  await stream(t, server, port);
});

test('nginx: a slash behind proxy_pass doubles one in the path', async (t) => {
  const server = await Server.start(t);
  const port = await nginx(t, (port) => `
    server { listen 127.0.0.1:${port}; location /ws {
      proxy_pass http://127.0.0.1:${server.port}/; proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
    } }`);
  const pusher = client(t, { port }, { wsPath: '/ws' });
  const channel = await subscribed(pusher, 'chat');
  const got = new Recorder('event');
  channel.bind('x', got.push);
  const session = client(t, { port }, { wsPath: `/ws/session/${crypto.randomUUID()}` });
  await connected(session);
  // The library signs the path without what the proxy takes away.
  assert.equal((await fetch(`http://127.0.0.1:${port}/ws/health`)).status, 200);
  await backend(server).trigger('chat', 'x', 1);
  assert.deepEqual(await got.count(1), [1]);
});

test('nginx: without the upgrade headers the answer says what is missing', async (t) => {
  const server = await Server.start(t);
  for (const version of ['', 'proxy_http_version 1.1;']) {
    const port = await nginx(t, (port) => `
      server { listen 127.0.0.1:${port}; location / { proxy_pass http://127.0.0.1:${server.port}; ${version} } }`);
    const answer = await upgrade(port, `/app/${app.key}?protocol=7`);
    assert.equal(answer.status, 426, answer.text);
    assert.match(answer.text, /Upgrade \$http_upgrade/);
    assert.match(answer.text, /Connection "upgrade"/);
    assert.match(answer.text, /proxy_http_version 1\.1/);
  }
});

test('nginx: to a Unix socket', async (t) => {
  const dir = await mkdtemp(path.join(tmpdir(), 'reecho-e2e-unix-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const socket = path.join(dir, 's');
  const server = await Server.start(t, { args: ['--listen', `unix:${socket}`, '--trusted-proxies', 'unix'] });
  assert.match(server.ready, new RegExp(`unix:${socket}`));
  const port = await nginx(t, (port) => `
    upstream reecho { server unix:${socket}; keepalive 2; }
    map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
    server { listen 127.0.0.1:${port}; location / {
      proxy_pass http://reecho; proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
    } }`);
  await mixed(t, server, port);
});

test('HAProxy: http-reuse always', async (t) => {
  const server = await Server.start(t);
  const port = await haproxy(t, (port) => `
      mode http
    frontend all
      bind 127.0.0.1:${port}
      default_backend reecho
    backend reecho
      http-reuse always
      option forwardfor
      server one 127.0.0.1:${server.port} pool-max-conn 4`);
  await mixed(t, server, port);
});

for (const [version, directive] of [[1, 'send-proxy'], [2, 'send-proxy-v2']]) {
  test(`HAProxy: PROXY protocol ${version}`, async (t) => {
    const server = await Server.start(t, { args: ['--trusted-proxies', 'loopback', '--proxy-protocol'] });
    const port = await haproxy(t, (port) => `
      mode tcp
    listen all
      bind 127.0.0.1:${port}
      server one 127.0.0.1:${server.port} ${directive} check inter 100ms`);
    await mixed(t, server, port);
    // What comes without the header is not the proxy's.
    await assert.rejects(fetch(`http://127.0.0.1:${server.port}/health`));
  });
}
