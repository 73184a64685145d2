// What the plugin keeps is true: places that only what was heard moves, that
// belong to one page, and that remember what was not for it.
import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import Echo from 'laravel-echo';
import { chromium } from 'playwright-core';
import { withReplay } from '../../replay/client/replay.mjs';
import { backend, client, subscribed } from './lib/clients.mjs';
import { app, Server } from './lib/server.mjs';
import { once, Recorder } from './lib/wait.mjs';
import { Proxy } from './replay/proxy.mjs';

async function publish(server, channel, numbers, params) {
  for (const n of numbers) await backend(server).trigger(channel, 'score', { n }, params);
}

// record keeps what came on a channel, in order: numbers, and outcomes as they are.
function record(channel) {
  const got = new Recorder(`what came on ${channel.name}`);
  channel.bind('score', ({ n }) => got.push(n));
  channel.bind('reecho:resumed', ({ events }) => got.push(`resumed ${events}`));
  channel.bind('reecho:gap', ({ reason }) => got.push(`gap ${reason}`));
  return got;
}

// storageOf is a storage with what is in a Map.
function storageOf(map) {
  return { getItem: (k) => map.get(k) ?? null, setItem: (k, v) => map.set(k, v), removeItem: (k) => map.delete(k) };
}

// away has a client leave and come back, and does some work in between.
async function away(pusher, work) {
  pusher.disconnect();
  await work();
  pusher.connect();
}

const few = { apps: [{ ...app, limits: { replay_events: 5 } }] };
const gapFrame = '{"event":"reecho:gap"';
const many = [11, 12, 13, 14, 15, 16, 17];

test('a gap that was told and not heard is told again', async (t) => {
  const server = await Server.start(t, few);
  const proxy = await Proxy.start(t, server.port);
  const pusher = withReplay(client(t, { port: proxy.port }));
  const got = record(await subscribed(pusher, 'match.1'));
  await publish(server, 'match.1', [1]);
  await got.count(1);
  proxy.endBefore = gapFrame;
  await away(pusher, () => publish(server, 'match.1', many));
  assert.deepEqual(await got.count(2), [1, 'gap over_limit']);
  assert.equal(proxy.endBefore, undefined, 'the first gap was cut off');
  // Once it was heard it is not told again.
  await away(pusher, () => publish(server, 'match.1', [18]));
  assert.deepEqual(await got.count(4), [1, 'gap over_limit', 'resumed 1', 18]);
});

test('a gap that was told and not heard is told again: every form, a position of the application', async (t) => {
  const server = await Server.start(t, few);
  const proxy = await Proxy.start(t, server.port);
  const replay = { after: (await subscribed(withReplay(client(t, server)), 'match.1')).successData.replay.position };
  await publish(server, 'match.1', many);
  const via = { port: proxy.port };
  const echo = (broadcaster) => {
    const echo = new Echo({ broadcaster, client: withReplay(client(t, via), replay), key: app.key });
    t.after(() => echo.disconnect());
    return (event, handler) => echo.channel('match.1').listen(`.${event}`, handler);
  };
  const plain = (pusher) => {
    const channel = pusher.subscribe('match.1');
    return (event, handler) => channel.bind(event, handler);
  };
  for (const form of [
    () => plain(client(t, via, { version: 8, plugin: (options) => withReplay({ ...options, replay }) })),
    () => plain(client(t, via, { version: 7, plugin: (options) => withReplay(options, () => replay) })),
    () => plain(withReplay(client(t, via, { version: 7 }), replay)),
    () => echo('pusher'),
    () => echo('reverb'),
  ]) {
    proxy.endBefore = gapFrame;
    const listen = form();
    const got = new Recorder('outcome');
    listen('reecho:gap', ({ reason }) => got.push(reason));
    listen('reecho:resumed', () => got.push('resumed'));
    assert.deepEqual(await got.count(1), ['over_limit']);
    assert.equal(proxy.endBefore, undefined, 'the first gap was cut off');
  }
});

test('what was not for a client stays so over twelve reconnects', async (t) => {
  const server = await Server.start(t);
  const pusher = withReplay(client(t, server));
  const [quiet, busy] = [await subscribed(pusher, 'quiet'), await subscribed(pusher, 'busy')].map(record);
  const first = pusher.connection.socket_id;
  for (let n = 1; n <= 12; n++) {
    const now = pusher.connection.socket_id;
    await away(pusher, async () => {
      for (const channel of ['quiet', 'busy']) {
        await publish(server, channel, [-n], { socket_id: first });
        await publish(server, channel, [-n], { socket_id: now });
      }
      await publish(server, 'busy', [n]);
      await publish(server, 'busy', [-n], { socket_id: now });
    });
    await quiet.count(n);
    await busy.count(2 * n);
  }
  assert.deepEqual(quiet.items, Array(12).fill('resumed 0'));
  assert.deepEqual(busy.items, Array.from({ length: 12 }, (_, i) => ['resumed 1', i + 1]).flat());
});

test('what an earlier connection caused is not for a client that is back, over twelve reconnects', async (t) => {
  const server = await Server.start(t);
  const pusher = withReplay(client(t, server));
  const [quiet, busy] = [await subscribed(pusher, 'quiet'), await subscribed(pusher, 'busy')].map(record);
  const ids = [];
  for (let n = 1; n <= 12; n++) {
    ids.push(pusher.connection.socket_id);
    await away(pusher, () => {});
    await quiet.count(n);
    await busy.count(2 * n - 1);
    // The requests of the connections before arrive now.
    for (const socket_id of ids) for (const channel of ['quiet', 'busy']) await publish(server, channel, [-n], { socket_id });
    await publish(server, 'busy', [n]);
    await busy.count(2 * n);
  }
  await publish(server, 'quiet', [13]);
  assert.deepEqual(await quiet.count(13), [...Array(12).fill('resumed 0'), 13]);
  assert.deepEqual(busy.items, Array.from({ length: 12 }, (_, i) => ['resumed 0', i + 1]).flat());
});

test('two clients with one storage, one after the other and at once', async (t) => {
  const server = await Server.start(t);
  const kept = new Map();
  const storage = storageOf(kept);
  const open = async () => {
    const pusher = withReplay(client(t, server), { storage });
    const got = record(pusher.subscribe('match.1'));
    await subscribed(pusher, 'match.1');
    return { pusher, got };
  };
  const [a, b] = [await open(), await open()];
  await publish(server, 'match.1', [1]);
  await a.got.count(1);
  await b.got.count(1);
  const own = { socket_id: a.pusher.connection.socket_id };
  a.pusher.disconnect();
  await publish(server, 'match.1', [2]);
  await publish(server, 'match.1', [3], own);
  assert.deepEqual(await b.got.count(3), [1, 2, 3]);
  const again = await open();
  assert.deepEqual(await again.got.count(2), ['resumed 1', 2]);
});

test('an event on its way when a page unsubscribes brings nothing back', async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, server.port);
  const kept = new Map();
  const pusher = withReplay(client(t, { port: proxy.port }), { storage: storageOf(kept) });
  const got = record(await subscribed(pusher, 'match.1'));
  await publish(server, 'match.1', [1]);
  await got.count(1);
  const other = record(await subscribed(client(t, server), 'match.1'));
  const [link] = proxy.links;
  link.stall();
  await publish(server, 'match.1', [2]);
  await other.count(1); // what is answered may not be on its way yet
  const arrived = once(pusher, 'score');
  pusher.unsubscribe('match.1');
  link.resume();
  await arrived;
  // The server has unsubscribed it when it answers what was sent behind.
  const answered = once(pusher, 'pusher:pong');
  pusher.send_event('pusher:ping', {});
  await answered;
  await publish(server, 'match.1', [3]);
  const again = record(pusher.subscribe('match.1'));
  await once(pusher.channel('match.1'), 'pusher:subscription_succeeded');
  await publish(server, 'match.1', [4]);
  assert.deepEqual(await again.count(1), [4]);
  assert.deepEqual(got.items, [1]);
  pusher.unsubscribe('match.1');
  assert.ok(![...kept.values()].join().includes('match.1'));
});

// Tabs are the tabs of one browser, with the page of an application.
class Tabs {
  static async open(t, storage) {
    const tabs = Object.assign(new Tabs(), { server: await Server.start(t), storage });
    const browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
    });
    t.after(() => browser.close());
    tabs.context = await browser.newContext();
    tabs.context.setDefaultTimeout(30_000);
    tabs.url = `http://127.0.0.1:${tabs.server.port}/up`;
    return tabs;
  }

  // load loads the page in a tab, or loads it again.
  async load(tab) {
    if (tab.url() !== this.url) await tab.goto(this.url);
    await tab.addScriptTag({ path: path.join(import.meta.dirname, 'node_modules/pusher-js/dist/web/pusher.js') });
    await tab.addScriptTag({ url: `http://127.0.0.1:${this.server.port}/client/replay.js` });
    await tab.evaluate(([key, port, storage]) => {
      window.got = [];
      window.pusher = new Pusher(key, withReplay({
        cluster: '', wsHost: '127.0.0.1', wsPort: port, forceTLS: false, enabledTransports: ['ws'], replay: { storage: window[storage] },
      }));
      const channel = window.pusher.subscribe('match.1');
      channel.bind('score', ({ n }) => window.got.push(n));
      channel.bind('reecho:resumed', ({ events }) => window.got.push(`resumed ${events}`));
      channel.bind('reecho:gap', ({ reason }) => window.got.push(`gap ${reason}`));
      return new Promise((resolve) => { channel.bind('pusher:subscription_succeeded', resolve); });
    }, [app.key, this.server.port, this.storage]);
    return tab;
  }

  async new() { return this.load(await this.context.newPage()); }

  // duplicate is a tab with a copy of another's sessionStorage.
  async duplicate(tab) {
    const [copy] = await Promise.all([tab.waitForEvent('popup'), tab.evaluate((url) => { window.open(url); }, this.url)]);
    await copy.waitForLoadState();
    return this.load(copy);
  }

  // leave has a tab go elsewhere, and come back after some work.
  async leave(tab, work) {
    await tab.goto('about:blank');
    await work();
    await this.load(tab);
  }

  publish(numbers, params) { return publish(this.server, 'match.1', numbers, params); }
}

// shows waits until a page got some things, which is all it got.
async function shows(tab, ...want) {
  await tab.waitForFunction((n) => window.got.length >= n, want.length);
  assert.deepEqual(await tab.evaluate(() => window.got), want);
}

const socketOf = (tab) => tab.evaluate(() => window.pusher.connection.socket_id);

for (const storage of ['localStorage', 'sessionStorage']) {
  test(`${storage}: tabs keep what is theirs over reloads, a duplicated one too`, async (t) => {
    const tabs = await Tabs.open(t, storage);
    const [a, b] = [await tabs.new(), await tabs.new()];
    await tabs.publish([1]);
    await shows(a, 1);
    await shows(b, 1);
    await tabs.leave(a, () => tabs.publish([2]));
    await shows(a, 'resumed 1', 2);
    await shows(b, 1, 2);
    await tabs.leave(b, () => tabs.publish([3]));
    await shows(b, 'resumed 1', 3);

    const copy = await tabs.duplicate(a);
    await shows(copy, 'resumed 0');
    await tabs.publish([4]);
    await shows(a, 'resumed 1', 2, 3, 4);
    await shows(copy, 'resumed 0', 4);
    await tabs.leave(copy, () => tabs.publish([5]));
    await shows(copy, 'resumed 1', 5);
    await tabs.leave(a, async () => {
      await tabs.publish([6]);
      await shows(copy, 'resumed 1', 5, 6);
    });
    await shows(a, 'resumed 1', 6);
    await tabs.leave(a, () => {});
    await tabs.leave(copy, () => tabs.publish([7]));
    await shows(a, 'resumed 0', 7);
    await shows(copy, 'resumed 1', 7);
  });

  test(`${storage}: what was not for a page is not for it after a reload, but for its copy`, async (t) => {
    const tabs = await Tabs.open(t, storage);
    const a = await tabs.new();
    await tabs.publish([1]);
    await shows(a, 1);
    const copy = await tabs.duplicate(a);
    await shows(copy, 'resumed 0');
    const own = { socket_id: await socketOf(a) };
    await tabs.leave(copy, () => tabs.publish([2], own));
    await shows(copy, 'resumed 1', 2);
    for (let n = 0; n < 2; n++) await tabs.leave(a, () => {});
    await tabs.leave(a, () => tabs.publish([3], own));
    await shows(a, 'resumed 0');
    await tabs.publish([4]);
    await shows(a, 'resumed 0', 4);
  });
}

test('what pages left that are gone does not grow without end', async (t) => {
  const tabs = await Tabs.open(t, 'localStorage');
  const tab = await tabs.new();
  await tabs.publish([1]);
  await shows(tab, 1);
  await tab.evaluate((key) => {
    for (let i = 0; i < 200; i++) localStorage.setItem(`reecho:${key}:${1e12 + i}0.5`, '[[],[]]');
  }, app.key);
  await tabs.leave(tab, () => tabs.publish([2]));
  await shows(tab, 'resumed 1', 2);
  assert.equal(await tab.evaluate(() => Object.keys(localStorage).filter((name) => name.startsWith('reecho')).length), 51);
});
