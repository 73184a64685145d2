// Event streams as pages use them: the browser's own EventSource, polyfills and
// clients made on fetch, from another origin, with authorisations that end.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { test } from 'node:test';
import { EventSource as NodeEventSource } from 'eventsource';
import { chromium } from 'playwright-core';
import { backend } from './lib/clients.mjs';
import { example } from './lib/docs.mjs';
import { app, Server } from './lib/server.mjs';
import { Recorder } from './lib/wait.mjs';
import { numbers } from './replay/checker.mjs';
import { Proxy } from './replay/proxy.mjs';

const require = createRequire(import.meta.url);
const flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
async function publish(server, channel, from, to) {
  for (const n of numbers(from, to)) await backend(server).trigger(channel, 'score', { n });
}

// site is another origin: it serves a page, the polyfill, and a module.
async function site(t) {
  const polyfill = await readFile(require.resolve('event-source-polyfill/src/eventsource.js'));
  const modules = path.join(path.dirname(require.resolve('@microsoft/fetch-event-source')), '..', 'esm');
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://x');
    if (pathname === '/') {
      response.setHeader('Content-Type', 'text/html').end('<!doctype html><title>page</title>');
      return;
    }
    response.setHeader('Content-Type', 'text/javascript');
    if (pathname === '/polyfill.js') {
      response.end(polyfill);
      return;
    }
    const name = path.basename(pathname).replace(/(\.js)?$/, '.js');
    try {
      response.end(await readFile(path.join(modules, name)));
    } catch {
      response.writeHead(404).end(); // /favicon.ico
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.closeAllConnections() ?? server.close());
  return `http://localhost:${server.address().port}/`;
}

// openPage opens a page of the site. It can have channels signed by its
// application, and hands over what it gets.
async function openPage(t, server, onEvent) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: flags });
  t.after(() => browser.close());
  const page = await browser.newPage();
  page.setDefaultTimeout(30_000);
  await page.exposeFunction('sign', (socketId, channel) => backend(server).authorizeChannel(socketId, channel).auth);
  await page.exposeFunction('hand', onEvent);
  await page.goto(await site(t));
  return page;
}

function scores() {
  const got = new Recorder('score');
  const outcomes = [];
  const onEvent = (text) => {
    const { event, data } = JSON.parse(text);
    if (event === 'score') got.push(JSON.parse(data).n);
    else outcomes.push(event);
  };
  return { got, outcomes, onEvent };
}

// Each starts a client in a page for one channel and resolves when it is open.
const clients = {
  'EventSource of the browser': async ({ url, auth }) => {
    const target = new URL(url);
    target.searchParams.set('auth[private-chat]', auth);
    const source = new EventSource(target);
    source.onmessage = ({ data }) => window.hand(data);
    await new Promise((resolve) => { source.onopen = resolve; });
  },
  'event-source-polyfill': async ({ url, auth }) => {
    await new Promise((resolve, reject) => {
      const script = Object.assign(document.createElement('script'), { src: '/polyfill.js', onload: resolve, onerror: reject });
      document.head.append(script);
    });
    const source = new window.EventSourcePolyfill(url, { headers: { 'X-Reecho-Auth': `private-chat ${auth}`, Authorization: 'Bearer x', 'X-Page': '1' }, withCredentials: true });
    source.onmessage = ({ data }) => window.hand(data);
    await new Promise((resolve) => { source.onopen = resolve; });
  },
  '@microsoft/fetch-event-source': async ({ url, auth }) => {
    const { fetchEventSource } = await import('/index.js');
    await new Promise((resolve, reject) => {
      fetchEventSource(url, {
        headers: { 'X-Reecho-Auth': `private-chat ${auth}`, 'Content-Type': 'application/json', 'X-Requested-With': 'XMLHttpRequest' },
        openWhenHidden: true,
        onopen: async (response) => { if (response.ok) resolve(); else reject(new Error(await response.text())); },
        onmessage: ({ data }) => { if (data) window.hand(data); },
        onerror: () => 100,
      });
    });
  },
};

for (const [name, start] of Object.entries(clients)) {
  test(`a page of another origin with ${name}: a private channel, and what was missed`, async (t) => {
    const server = await Server.start(t);
    const proxy = await Proxy.start(t, server.port);
    const { got, outcomes, onEvent } = scores();
    const page = await openPage(t, server, onEvent);
    const base = `http://127.0.0.1:${proxy.port}/app/${app.key}/events`;
    const { url, auth } = await page.evaluate(async (base) => {
      const { socket_id: id } = await (await fetch(`${base}/socket_id`)).json();
      return { url: `${base}?channel=private-chat&socket_id=${id}`, auth: await window.sign(id, 'private-chat') };
    }, base);
    await page.evaluate(start, { url, auth });
    // The place is known once an event has come.
    await publish(server, 'private-chat', 1, 3);
    await got.count(3);
    proxy.hold();
    for (const link of proxy.links) link.reset();
    await publish(server, 'private-chat', 4, 6);
    proxy.release();
    await got.count(6);
    await publish(server, 'private-chat', 7, 7);
    assert.deepEqual(await got.count(7), numbers(1, 7));
    assert.ok(outcomes.length > 0 && outcomes.every((event) => event === 'reecho:resumed'), `${outcomes}`);
  });
}

test('a page reads why it is refused', async (t) => {
  const server = await Server.start(t);
  const page = await openPage(t, server, () => {});
  const base = `http://127.0.0.1:${server.port}/app/${app.key}/events`;
  for (const [query, status, part] of [
    ['?channel=private-chat', 401, /socket_id of this server/],
    ['?channel=private-chat&socket_id=1.2', 401, /was not issued for event streams/],
    ['?channel=', 400, /Invalid channel name/],
  ]) {
    const answer = await page.evaluate(async (url) => {
      const response = await fetch(url, { headers: { 'X-Reecho-Auth': 'a b' } });
      return { status: response.status, text: await response.text() };
    }, base + query);
    assert.equal(answer.status, status);
    assert.match(answer.text, part);
  }
});

// follow runs the code of replay/README.md, with an application that signs.
const follow = async (code) => {
  const real = window.fetch;
  window.fetch = async (input, init) => {
    if (input !== '/broadcasting/auth') return real(input, init);
    return Response.json({ auth: await window.sign(init.body.get('socket_id'), init.body.get('channel_name')) });
  };
  await new Function(`${code}; return follow(['private-chat'], (event) => window.hand(JSON.stringify(event)));`)();
};

test('an authorisation ends, and the page goes on with a new one without a loss', async (t) => {
  const server = await Server.start(t, { apps: [{ ...app, stream_authorization_time: '2s' }] });
  const asked = new Recorder('socket ids');
  const { got, outcomes, onEvent } = scores();
  const page = await openPage(t, server, onEvent);
  page.on('request', (request) => request.url().endsWith('/socket_id') && asked.push(request.url()));
  const code = await example('replay/README.md', 'js', 'async function follow');
  await page.evaluate(follow, code.replace('http://localhost:6001/app/my-key', `http://127.0.0.1:${server.port}/app/${app.key}`));
  // Nothing comes until it has been renewed once, then events all the time.
  await asked.count(2);
  let n = 0;
  while (asked.items.length < 4 || n < 20) {
    await publish(server, 'private-chat', ++n, n);
    // Not more than one replay may hold while the page is away.
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await publish(server, 'private-chat', ++n, n);
  assert.deepEqual(await got.count(n), numbers(1, n));
  assert.ok(outcomes.every((event) => event === 'reecho:resumed'), `${outcomes}`);
});

test('eventsource for Node: headers of its own, a user, and its end', async (t) => {
  const server = await Server.start(t);
  const base = `http://127.0.0.1:${server.port}/app/${app.key}/events`;
  const { socket_id: id, expires } = await (await fetch(`${base}/socket_id`, { method: 'POST' })).json();
  assert.ok(expires > Date.now() / 1000);
  const user = backend(server).authenticateUser(id, { id: 'alice', user_info: { name: 'Zoë' } });
  const headers = {
    'X-Reecho-Auth': `private-chat ${backend(server).authorizeChannel(id, 'private-chat').auth}`,
    'X-Reecho-User-Auth': user.auth,
    'X-Reecho-User-Data': encodeURIComponent(user.user_data),
  };
  const mine = '#server-to-user-alice';
  const source = new NodeEventSource(`${base}?socket_id=${id}&channel=private-chat&channel=${encodeURIComponent(mine)}`, {
    fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...headers } }),
  });
  t.after(() => source.close());
  const got = new Recorder('event');
  source.onmessage = ({ data }) => got.push(JSON.parse(data));
  await new Promise((resolve) => { source.onopen = resolve; });
  // The stream is open before it is subscribed.
  let sent = 0;
  while (got.items.length === 0) await backend(server).sendToUser('alice', 'greeting', { n: ++sent });
  assert.equal(got.items[0].channel, mine);
  const closed = new Promise((resolve) => { source.onerror = (event) => source.readyState === 2 && resolve(event.code); });
  await backend(server).terminateUserConnections('alice');
  // It came back by itself, and is told that this is over.
  assert.equal(await closed, 401);
});
