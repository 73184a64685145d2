// Stock pusher-js without WebSockets: its fallback transports, over real HTTP.
import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';
import { test } from 'node:test';
import { chromium } from 'playwright-core';
import { withReplay } from '../../replay/client/replay.mjs';
import { backend, client, connected, subscribed, versions } from './lib/clients.mjs';
import { Spread } from './lib/mesh.mjs';
import { haproxy, nginx } from './lib/proxies.mjs';
import { app, freePort, Server } from './lib/server.mjs';
import { once, pause, Recorder, within } from './lib/wait.mjs';

const transports = ['xhr_streaming', 'xhr_polling'];
const enabled = { apps: [{ ...app, client_events: true }] };

// states records what becomes of a connection.
function states(pusher) {
  const got = new Recorder('state');
  pusher.connection.bind('state_change', ({ current }) => got.push(current));
  return got;
}

// codes records why a connection failed.
function codes(pusher) {
  const got = new Recorder('code');
  pusher.connection.bind('error', ({ data, error }) => got.push((data ?? error?.data)?.code));
  return got;
}

// numbers publishes so many events, one behind the other.
async function numbers(server, channel, from, to, pad = '') {
  for (let n = from; n <= to; n++) await backend(server).trigger(channel, 'score', { n, pad });
}

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

function scores(channel) {
  const got = new Recorder(`scores on ${channel.name}`);
  channel.bind('score', ({ n }) => got.push(n));
  return got;
}

for (const version of Object.keys(versions).map(Number)) {
  for (const transport of transports) {
    test(`pusher-js ${version}, ${transport}: private, presence, client events, whispers, both ways`, async (t) => {
      const server = await Server.start(t, enabled);
      const connect = (user) => client(t, server, { version, enabledTransports: [transport], user });
      const alice = connect({ id: 'alice', info: { name: 'Zoë "😀"' } });
      const channel = await subscribed(alice, 'private-chat');
      const got = scores(channel);
      const room = await subscribed(alice, 'presence-room');
      const members = new Recorder('member');
      room.bind('pusher:member_added', ({ id }) => members.push(`+${id}`));
      room.bind('pusher:member_removed', ({ id }) => members.push(`-${id}`));
      const bob = connect({ id: 'bob', info: { name: 'Bob' } });
      const bobs = await subscribed(bob, 'presence-room');
      assert.deepEqual(Object.keys(bobs.members.members).sort(), ['alice', 'bob']);
      assert.equal(bobs.members.get('alice').info.name, 'Zoë "😀"');
      await members.count(1);
      const whispers = new Recorder('whisper');
      room.bind('client-typing', whispers.push);
      bobs.trigger('client-typing', { text: 'a "quoted" \\ 😀\n' });
      assert.deepEqual(await whispers.count(1), [{ text: 'a "quoted" \\ 😀\n' }]);
      await numbers(server, 'private-chat', 1, 30);
      assert.deepEqual(await got.count(30), range(1, 30));
      // Its own socket is left out.
      await backend(server).trigger('private-chat', 'score', { n: 31 }, { socket_id: alice.connection.socket_id });
      await numbers(server, 'private-chat', 32, 32);
      assert.deepEqual((await got.count(31)).at(-1), 32);
      bob.disconnect();
      assert.deepEqual(await members.count(2), ['+bob', '-bob']);
      assert.equal(alice.connection.state, 'connected');
    });
  }
}

for (const transport of transports) {
  const options = { enabledTransports: [transport] };

  test(`${transport}: more than a stream holds, in order, without a loss`, async (t) => {
    const server = await Server.start(t);
    for (const version of [8, 7, 4]) {
      const pusher = client(t, server, { version, ...options });
      const got = states(pusher);
      const events = scores(await subscribed(pusher, `chat-${version}`));
      const pad = 'é😀'.repeat(1000); // 3,000 units each
      await Promise.all(range(0, 2).map(async (part) => {
        for (let i = 0; i < 100; i++) await backend(server).trigger(`chat-${version}`, 'score', { n: part, pad });
      }));
      await events.count(300);
      await numbers(server, `chat-${version}`, 1000, 1020);
      assert.deepEqual((await events.count(321)).slice(300), range(1000, 1020));
      assert.deepEqual(got.items, ['connected']);
      pusher.disconnect();
    }
  });

  test(`${transport}: a bad key and a full app are told as on a WebSocket`, async (t) => {
    const server = await Server.start(t, { apps: [{ ...app, max_connections: 1 }], alone: true });
    const Pusher = versions[8];
    const wrong = new Pusher('nope', { cluster: '', httpHost: '127.0.0.1', httpPort: server.port, forceTLS: false, ...options });
    t.after(() => wrong.disconnect());
    const errors = codes(wrong);
    await once(wrong.connection, 'disconnected'); // for good: pusher-js does not come back after 4001
    assert.equal(errors.items[0], 4001);
    const first = client(t, server, options);
    await connected(first);
    const second = client(t, server, options);
    const refused = codes(second);
    await once(second.connection, 'disconnected');
    assert.equal(refused.items[0], 4004);
  });

  test(`${transport}: over capacity a client comes back, and gets in when there is room`, async (t) => {
    const server = await Server.start(t, { args: ['--xhr-sessions', '1', '--xhr-disconnect-delay', '1s'], alone: true });
    const first = client(t, server, options);
    await connected(first);
    const second = client(t, server, options);
    const refused = codes(second);
    assert.equal((await refused.count(1))[0], 4100);
    first.disconnect();
    await connected(second);
  });

  test(`${transport}: terminated, and signed in again`, async (t) => {
    const server = await Server.start(t);
    const pusher = client(t, server, { ...options, userData: { id: 'u-7' } });
    pusher.signin();
    const got = new Recorder('event for the user');
    pusher.user.bind('hello', got.push);
    await within((async () => { while (!got.items.length) { await backend(server).sendToUser('u-7', 'hello', 1); await pause(50); } })(), 'an event');
    const errors = codes(pusher);
    await backend(server).terminateUserConnections('u-7');
    assert.equal((await errors.count(1))[0], 4009);
    assert.equal(pusher.connection.state, 'disconnected');
  });

  test(`${transport}: a restart, and kill -9: a session gets what it missed`, async (t) => {
    const server = await Server.start(t, { alone: true });
    const pusher = client(t, server, { ...options, httpPath: `/session/${crypto.randomUUID()}` });
    const got = scores(await subscribed(pusher, 'chat'));
    await numbers(server, 'chat', 1, 5);
    await got.count(5);
    for (const signal of ['SIGTERM', 'SIGKILL']) {
      const before = got.items.length;
      await server.stop(signal);
      await server.run();
      const from = before === 5 ? 6 : 11;
      await numbers(server, 'chat', from, from + 4);
      await got.until((items) => items.includes(from + 4));
      assert.deepEqual([...new Set(got.items)], range(1, from + 4));
    }
  });

  test(`${transport}: the plugin: each event once, through cuts in the middle of an answer`, async (t) => {
    const server = await Server.start(t, { alone: true });
    const proxy = await cutting(t, server.port);
    for (const version of [8, 7]) {
      const name = `match-${version}`;
      // pusher-js gives a stream up that was cut twice: without polls it would be at its end.
      const enabledTransports = [transport, 'xhr_polling'];
      const pusher = client(t, { port: proxy.port }, { version, ...options, enabledTransports, plugin: (settings) => withReplay(settings) });
      const got = scores(await subscribed(pusher, name));
      let done = false;
      const publishing = numbers(server, name, 1, 60, 'x'.repeat(2000)).then(() => { done = true; });
      for (let cuts = 0; cuts < 3 || !done; cuts++) {
        const before = got.items.length;
        await got.until((items) => items.length > before || done);
        proxy.cut();
        await connected(pusher);
        if (cuts >= 3) await publishing;
      }
      await publishing;
      assert.deepEqual(await got.count(60), range(1, 60));
      pusher.disconnect();
    }
  });
}

test('a session that is cut off goes on: over the same transport, and over another one', async (t) => {
  const server = await Server.start(t, { alone: true });
  const proxy = await cutting(t, server.port);
  const path = `/session/${crypto.randomUUID()}`;
  const got = new Recorder('score');
  const over = async (transport) => {
    const pusher = client(t, { port: proxy.port }, { enabledTransports: [transport], httpPath: path, wsPath: path });
    // What was missed comes right behind the success.
    const channel = pusher.subscribe('chat');
    channel.bind('score', ({ n }) => got.push(n));
    await once(channel, 'pusher:subscription_succeeded');
    return pusher;
  };
  let pusher = await over('xhr_streaming');
  await numbers(server, 'chat', 1, 5);
  await got.until((items) => items.includes(5));
  proxy.cut();
  await numbers(server, 'chat', 6, 10);
  await got.until((items) => items.includes(10));
  for (const [i, transport] of ['ws', 'xhr_polling', 'xhr_streaming'].entries()) {
    pusher.disconnect();
    const from = 11 + 5 * i;
    await numbers(server, 'chat', from, from + 4);
    pusher = await over(transport);
    await got.until((items) => items.includes(from + 4));
  }
  assert.deepEqual([...new Set(got.items)], range(1, 25));
});

test('a node of a cluster is killed: its clients go on at the others', async (t) => {
  const server = await Spread.start(t, { size: 3 });
  const clients = await Promise.all(range(1, 6).map(async (i) => {
    const pusher = client(t, server, { enabledTransports: [transports[i % 2]], httpPath: `/session/${crypto.randomUUID()}` });
    return scores(await subscribed(pusher, 'chat'));
  }));
  await numbers(server, 'chat', 1, 5);
  for (const got of clients) await got.until((items) => items.includes(5));
  await server.mesh.nodes[0].stop('SIGKILL');
  for (let n = 6; n <= 15; n++) {
    // What is refused while a leader is elected is published again.
    await within((async () => { while (!await numbers(server, 'chat', n, n).then(() => true, () => false)) await pause(100); })(), 'a publish');
  }
  for (const got of clients) {
    await got.until((items) => items.includes(15));
    assert.deepEqual([...new Set(got.items)], range(1, 15));
  }
});

// cutting is a TCP proxy whose connections end when the test says so, or when they are
// so many ms old, whatever goes over them; and never a byte later than it came.
async function cutting(t, port, life = 0) {
  const sockets = new Set();
  const proxy = { cuts: 0, cut: () => { proxy.cuts++; for (const socket of sockets) socket.destroy(); } };
  const listener = net.createServer((socket) => {
    const there = net.connect(port, '127.0.0.1');
    const end = () => { socket.destroy(); there.destroy(); sockets.delete(socket); };
    for (const each of [socket, there]) each.on('error', end).on('close', end).setNoDelay();
    sockets.add(socket);
    socket.pipe(there).pipe(socket);
    if (life) setTimeout(() => { if (sockets.has(socket)) proxy.cuts++; end(); }, life);
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => { listener.once('listening', resolve); });
  proxy.port = listener.address().port;
  t.after(() => { proxy.cut(); listener.close(); });
  return proxy;
}

// holds checks that a client behind a proxy gets events for so many rounds, and returns
// its states.
async function holds(t, server, port, options, rounds = 6) {
  const pusher = client(t, { port }, options);
  const got = states(pusher);
  await within(once(pusher.connection, 'connected'), 'the connection', 40_000);
  const name = `chat-${crypto.randomUUID()}`;
  const events = scores(await subscribed(pusher, name));
  for (let n = 1; n <= rounds; n++) {
    await numbers(server, name, n, n);
    await events.until((items) => items.at(-1) === n);
    await pause(1000); // longer in all than the proxies' time-outs
  }
  assert.deepEqual(events.items, range(1, rounds));
  return got.items;
}

test('nginx and HAProxy that cut what is silent: heartbeats keep both transports', async (t) => {
  const server = await Server.start(t, { args: ['--xhr-heartbeat', '1s', '--trusted-proxies', 'loopback'], alone: true });
  const ports = [await nginx(t, (port) => `
    server { listen 127.0.0.1:${port}; location / { proxy_pass http://127.0.0.1:${server.port}; proxy_read_timeout 3s; proxy_send_timeout 3s; } }`),
  await haproxy(t, (port) => `
    listen all
      mode http
      timeout client 3s
      timeout server 3s
      bind 127.0.0.1:${port}
      server one 127.0.0.1:${server.port}`)];
  await Promise.all(ports.flatMap((port) => transports.map(async (transport) => {
    assert.deepEqual(await holds(t, server, port, { enabledTransports: [transport] }), ['connected'], `${transport} at ${port}`);
  })));
});

test('a proxy that buffers: streaming gets through by its header, or pusher-js goes over to polling', async (t) => {
  const server = await Server.start(t, { alone: true });
  const behind = (more) => nginx(t, (port) => `
    server { listen 127.0.0.1:${port}; location / { proxy_pass http://127.0.0.1:${server.port}; proxy_buffering on; ${more} } }`);
  const heeds = await behind('');
  assert.deepEqual(await holds(t, server, heeds, { enabledTransports: ['xhr_streaming'] }, 2), ['connected']);
  const ignores = await behind('proxy_ignore_headers X-Accel-Buffering; proxy_buffer_size 8k; proxy_buffers 8 64k;');
  assert.deepEqual(await holds(t, server, ignores, { enabledTransports: transports }, 2), ['connected']);
  assert.deepEqual(await holds(t, server, ignores, { enabledTransports: ['xhr_polling'] }, 2), ['connected']);
});

test('a proxy that cuts every request after a while: streaming is given up for polling, which stays', async (t) => {
  const server = await Server.start(t, { args: ['--xhr-heartbeat', '1s'], alone: true });
  const proxy = await cutting(t, server.port, 3000);
  const pusher = client(t, { port: proxy.port }, { enabledTransports: transports, plugin: (settings) => withReplay(settings) });
  const got = scores(await subscribed(pusher, 'chat'));
  const transport = () => pusher.connection.connection?.transport?.name;
  let n = 0;
  // Two streams are cut; a poll takes a second at most.
  await within((async () => {
    while (transport() !== 'xhr_polling') {
      await numbers(server, 'chat', n + 1, ++n);
      await pause(500);
    }
  })(), 'polling', 60_000);
  const after = states(pusher);
  for (let i = 0; i < 8; i++) {
    await numbers(server, 'chat', n + 1, ++n);
    await pause(700);
  }
  assert.deepEqual(await got.count(n), range(1, n));
  assert.deepEqual(after.items, [], 'polling was interrupted');
});

test('a client that does not read its stream is closed, and others are not in its way', async (t) => {
  const server = await Server.start(t, { args: ['--max-queued-bytes', '200KB', '--write-timeout', '2s'], alone: true });
  const slow = net.connect(server.port, '127.0.0.1');
  t.after(() => slow.destroy());
  const path = `/pusher/app/${app.key}/1/slowslow`;
  slow.write(`POST ${path}/xhr_streaming?protocol=7 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n`);
  await within(new Promise((resolve) => { slow.once('data', resolve); }), 'the stream');
  slow.pause();
  const send = (body) => fetch(`http://127.0.0.1:${server.port}${path}/xhr_send`, { method: 'POST', body: JSON.stringify(body) });
  assert.equal((await send([JSON.stringify({ event: 'pusher:subscribe', data: { channel: 'chat' } })])).status, 204);
  const pusher = client(t, server, { enabledTransports: ['xhr_streaming'] });
  const got = scores(await subscribed(pusher, 'chat'));
  let n = 0;
  await within((async () => {
    while ((await send([])).status !== 404) {
      await numbers(server, 'chat', n + 1, ++n, 'x'.repeat(9000));
    }
  })(), 'the slow client to be closed', 60_000);
  assert.deepEqual(await got.count(n), range(1, n));
});

test('1,000 sessions: each gets each event, and all are told of a stop', async (t) => {
  const server = await Server.start(t, { args: ['--xhr-sessions-per-address', '2000'], alone: true });
  const agent = new http.Agent({ keepAlive: true, maxSockets: Infinity });
  t.after(() => agent.destroy());
  const post = (path, body = '') => new Promise((resolve, reject) => {
    const request = http.request({ agent, port: server.port, host: '127.0.0.1', method: 'POST', path, headers: { 'Content-Length': Buffer.byteLength(body) } }, resolve);
    request.on('error', reject).end(body);
  });
  const text = async (response) => {
    let all = '';
    for await (const chunk of response) all += chunk;
    return all;
  };
  const counts = { events: 0, closes: 0, cut: 0, subscribed: 0 };
  let stopping = false;
  const changed = new Recorder('change');
  const lines = (all) => {
    counts.events += all.split('score').length - 1;
    counts.closes += all.split('c[4200,').length - 1;
    counts.subscribed += all.split('subscription_succeeded').length - 1;
    changed.items.length = 0;
    changed.push(counts);
    return all;
  };
  const ends = [];
  const subscribe = JSON.stringify([JSON.stringify({ event: 'pusher:subscribe', data: { channel: 'chat' } })]);
  const open = async (n) => {
    const path = `/pusher/app/${app.key}/${n}/abcdefgh`;
    if (n % 2) {
      const response = await post(`${path}/xhr_streaming?protocol=7`);
      response.setEncoding('utf8').on('data', lines);
      ends.push(new Promise((resolve) => { response.once('close', resolve); }));
    } else {
      await text(await post(`${path}/xhr?protocol=7`));
      ends.push((async () => {
        for (;;) if (lines(await text(await post(`${path}/xhr?protocol=7`))).includes('c[')) return;
      })().catch((error) => {
        // A poll that was on its way when the port closed: pusher-js comes back, too.
        if (!stopping) throw error;
        counts.cut++;
      }));
    }
    await text(await post(`${path}/xhr_send`, subscribe));
  };
  for (let n = 0; n < 1000; n += 50) await Promise.all(range(n, n + 49).map(open));
  await changed.until(() => counts.subscribed === 1000, 'subscriptions');
  assert.equal((await backend(server).get({ path: '/channels/chat', params: { info: 'subscription_count' } }).then((r) => r.json())).subscription_count, 1000);
  await numbers(server, 'chat', 1, 5);
  await changed.until(() => counts.events === 5000, 'events');
  stopping = true;
  const stopped = server.stop('SIGTERM');
  await within(Promise.all(ends), 'all streams to end');
  assert.equal(counts.closes + counts.cut, 1000);
  assert.ok(counts.closes >= 500, 'each stream is told');
  assert.deepEqual(await stopped, [0, null]);
});

test('any node takes any request of a session', async (t) => {
  // Its port gives each connection to the next node, and each request is one.
  const server = await Spread.start(t, { apps: enabled.apps, size: 3 });
  for (const transport of transports) {
    const name = `private-${transport}`;
    const pusher = client(t, server, { enabledTransports: [transport] });
    const got = states(pusher);
    const events = scores(await subscribed(pusher, name));
    const whispers = new Recorder('whisper');
    const other = client(t, server, { enabledTransports: [transport] });
    (await subscribed(other, name)).bind('client-hello', whispers.push);
    for (let n = 0; n < 8; n++) pusher.channel(name).trigger('client-hello', { n }) && await whispers.count(n + 1);
    await numbers(server, name, 1, 60, 'x'.repeat(9000));
    assert.deepEqual(await events.count(60), range(1, 60));
    assert.deepEqual(got.items, ['connected']);
  }
});

test('a browser without WebSocket, from another origin', async (t) => {
  const server = await Server.start(t, { apps: [{ ...app, client_events: true, allowed_origins: ['localhost'] }], alone: true });
  const { readFile } = await import('node:fs/promises');
  const library = await readFile(new URL('./node_modules/pusher-js/dist/web/pusher.min.js', import.meta.url));
  const port = await freePort();
  const site = http.createServer((request, response) => {
    response.setHeader('Content-Type', request.url === '/pusher.js' ? 'text/javascript' : 'text/html');
    response.end(request.url === '/pusher.js' ? library : '<!doctype html><script>delete window.WebSocket; window.WebSocket = undefined</script><script src="/pusher.js"></script>');
  }).listen(port, '127.0.0.1');
  t.after(() => { site.closeAllConnections(); site.close(); });
  const flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: flags });
  t.after(() => browser.close());
  for (const only of [['xhr_streaming'], ['xhr_polling'], undefined]) {
    const page = await browser.newPage();
    page.setDefaultTimeout(30_000);
    await page.goto(`http://localhost:${port}/`);
    await page.evaluate(({ key, port: at, only: names, auth }) => {
      window.got = [];
      window.states = [];
      window.pusher = new window.Pusher(key, {
        cluster: '', httpHost: '127.0.0.1', httpPort: at, wsHost: '127.0.0.1', wsPort: at, forceTLS: false, disableStats: true, ...(names ? { enabledTransports: names } : {}),
        channelAuthorization: { customHandler: ({ socketId, channelName }, callback) => window.sign(socketId, channelName).then((data) => callback(null, data)) },
      });
      window.pusher.connection.bind('state_change', ({ current }) => window.states.push(current));
      window.channel = window.pusher.subscribe(auth);
      window.channel.bind('score', ({ n }) => window.got.push(n));
      window.channel.bind('client-hello', (data) => window.got.push(data));
    }, await (async () => {
      await page.exposeFunction('sign', (socketId, channel) => backend(server).authorizeChannel(socketId, channel));
      return { key: app.key, port: server.port, only, auth: 'private-chat' };
    })());
    await page.waitForFunction(() => window.channel.subscribed);
    const pad = '😀'.repeat(1500);
    await numbers(server, 'private-chat', 1, 150, pad); // 450,000 units: beyond one stream
    await page.waitForFunction(() => window.got.length >= 150);
    assert.deepEqual(await page.evaluate(() => window.got), range(1, 150));
    const other = client(t, server, { enabledTransports: ['xhr_polling'] });
    const whispers = new Recorder('whisper');
    (await subscribed(other, 'private-chat')).bind('client-hello', whispers.push);
    await page.evaluate(() => window.channel.trigger('client-hello', { from: 'page' }));
    assert.deepEqual(await whispers.count(1), [{ from: 'page' }]);
    assert.deepEqual((await page.evaluate(() => window.states)).filter((s) => s !== 'connecting'), ['connected']);
    other.disconnect();
    await page.close();
  }
});
