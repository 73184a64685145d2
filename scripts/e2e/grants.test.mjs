// A client with the plugin asks its application once for all channels, and not at all when
// it comes back: whatever the way it went, and whichever node it comes to. What ends that
// has it ask as ever, and the page sees no error.
//   REECHO_STORM_PAGES=5000   pages of the storm
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Echo from 'laravel-echo';
import { withReplay } from '../../replay/client/replay.mjs';
import { Authorizer } from './lib/authorizer.mjs';
import { backend, connected, versions } from './lib/clients.mjs';
import { app, Server } from './lib/server.mjs';
import { once, pause, Recorder } from './lib/wait.mjs';
import { Proxy } from './replay/proxy.mjs';

const PAGES = Number(process.env.REECHO_STORM_PAGES ?? 200);
const CHANNELS = ['private-chat', 'presence-room', 'private-encrypted-vault', 'private-cache-state', 'private-chat.2'];

// Page is a client of an application, and what it sees.
class Page {
  constructor(t, application, port, { version = 8, wrapped = false, replay = {}, ...more } = {}) {
    const Pusher = versions[version];
    const options = { ...application.options(port), ...more };
    this.pusher = wrapped ? withReplay(new Pusher(app.key, options), replay) : new Pusher(app.key, withReplay({ ...options, replay }));
    t.after(() => this.pusher.disconnect());
    this.errors = [];
    this.pusher.connection.bind('message', ({ event, data }) => { if (event === 'pusher:error') this.errors.push(data); });
    this.succeeded = new Recorder('subscriptions');
    this.failed = new Recorder('refusals');
    this.got = new Recorder('events');
  }

  subscribe(names = CHANNELS) {
    for (const name of names) {
      const channel = this.pusher.subscribe(name);
      channel.bind('pusher:subscription_succeeded', () => this.succeeded.push(name));
      channel.bind('pusher:subscription_error', (data) => this.failed.push({ name, ...data }));
      channel.bind('score', (data) => this.got.push(`${name} ${data.n}`));
      channel.bind('reecho:gap', ({ reason }) => this.got.push(`${name} gap ${reason}`));
    }
    return this;
  }

  signIn() {
    this.signedIn = new Recorder('sign-ins');
    this.pusher.bind('pusher:signin_success', this.signedIn.push);
    this.pusher.user.bind('notice', ({ n }) => this.got.push(`user ${n}`));
    this.pusher.signin();
    return this;
  }

  // back waits until all channels are there again, so often as they have been by now.
  async back(times, names = CHANNELS) {
    await this.succeeded.until((items) => names.every((name) => items.filter((item) => item === name).length >= times));
    await this.signedIn?.count(times);
  }
}

async function publish(server, n, names = CHANNELS) {
  // More than one encrypted channel, or one among others, is refused.
  for (const name of names) await backend(server).trigger(name, 'score', { n });
}

for (const [form, how] of Object.entries({
  'pusher-js 8, options': {}, 'pusher-js 8, instance': { wrapped: true }, 'pusher-js 7, options': { version: 7 },
})) {
  test(`${form}: who comes back asks the application nothing, over a cut, a restart and kill -9`, async (t) => {
    const server = await Server.start(t);
    const proxy = await Proxy.start(t, server.port);
    const application = await Authorizer.start(t);
    const page = new Page(t, application, proxy.port, how).subscribe().signIn();
    await page.back(1);
    assert.deepEqual(application.paths().sort(), ['/auth/batch', '/auth/user']);
    // Who comes to a server that stops may lose that connection with its grant unread, and
    // has to ask then: it comes back once, when all are there again.
    const again = async (signal) => {
      proxy.hold();
      await server.stop(signal);
      await server.run();
      proxy.release();
    };
    const losses = {
      cut: async () => { for (const link of proxy.links) link.reset(); },
      close: async () => { page.pusher.disconnect(); page.pusher.connect(); },
      restart: () => again('SIGTERM'),
      kill: () => again('SIGKILL'),
      again: async () => { for (const link of proxy.links) link.reset(); },
    };
    // Version 7 gives up for a while after the second connection that broke early.
    const old = how.version === 7;
    if (old) for (const each of ['cut', 'close', 'restart', 'again']) delete losses[each];
    let times = 1;
    for (const [name, lose] of Object.entries(losses)) {
      await lose();
      await page.back(++times);
      assert.deepEqual(application.paths(), [], name);
      assert.equal(page.pusher.channel('presence-room').members.me.id, 'alice');
      page.got.items.length = 0;
      await publish(server, times);
      await page.got.count(CHANNELS.length);
      assert.deepEqual([...page.got.items].sort(), CHANNELS.map((each) => `${each} ${times}`).sort(), name);
      await backend(server).sendToUser('alice', 'notice', { n: times });
      await page.got.until((items) => items.includes(`user ${times}`));
    }
    // Who left a channel is authorised anew, and so is who was not there before.
    page.pusher.unsubscribe('private-chat');
    page.subscribe(['private-chat']);
    await page.succeeded.until((items) => items.filter((item) => item === 'private-chat').length > times);
    page.subscribe(['private-new']);
    await page.succeeded.until((items) => items.includes('private-new'));
    assert.deepEqual(application.paths(), ['/auth', '/auth']);
    if (!old) {
      await losses.close();
      await page.succeeded.until((items) => items.filter((item) => item === 'private-new').length === 2);
      await page.back(++times);
      assert.deepEqual(application.paths(), []);
    }
    assert.deepEqual([page.errors, page.failed.items], [[], []]);
  });
}

test(`a storm of ${PAGES} pages with five channels each`, async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, server.port);
  const application = await Authorizer.start(t);
  const pages = [];
  // all waits until all pages have all channels again: many take longer than a test's patience.
  const all = async (times) => {
    const deadline = Date.now() + 20_000 + 40 * PAGES;
    const missing = () => pages.filter(({ succeeded }) => succeeded.items.length < times * CHANNELS.length).length;
    while (missing() > 0) {
      assert.ok(Date.now() < deadline, `${missing()} of ${PAGES} pages are not back`);
      await pause(100);
    }
  };
  while (pages.length < PAGES) {
    pages.push(...Array.from({ length: Math.min(500, PAGES - pages.length) }, () => new Page(t, application, proxy.port).subscribe()));
    await all(1);
  }
  const first = application.paths();
  assert.deepEqual([first.length, new Set(first)], [PAGES, new Set(['/auth/batch'])]);
  for (const [times, signal] of [[2, 'SIGTERM'], [3, 'SIGKILL']]) {
    await server.stop(signal);
    await server.run();
    const since = Date.now();
    await all(times);
    const asked = application.paths();
    t.diagnostic(`${PAGES} pages came back after ${signal}, in ${Date.now() - since} ms: ${asked.length} requests to the application, ${first.length} at first`);
    assert.deepEqual(asked, [], signal);
  }
  assert.deepEqual(pages.flatMap(({ errors, failed }) => [...errors, ...failed.items]), []);
});

test('an application that does not know the request is asked singly, and is asked so once', async (t) => {
  const server = await Server.start(t);
  const application = await Authorizer.start(t, { batch: false });
  const page = new Page(t, application, server.port).subscribe();
  await page.back(1);
  assert.deepEqual(application.paths(), ['/auth/batch', ...CHANNELS.map(() => '/auth')]);
  page.subscribe(['private-a', 'private-b']);
  await page.back(1, ['private-a', 'private-b']);
  assert.deepEqual(application.paths(), ['/auth', '/auth']);
  // The option names another place, or none.
  const off = new Page(t, application, server.port, { replay: { authBatch: false } }).subscribe();
  await off.back(1);
  assert.deepEqual(application.paths(), CHANNELS.map(() => '/auth'));
  const other = new Page(t, application, server.port, { replay: { authBatch: `${application.url}/batch?other` } }).subscribe();
  await other.back(1);
  assert.equal(new Set(application.paths().slice(1)).size, 1);
  assert.deepEqual([page, off, other].flatMap(({ errors, failed }) => [...errors, ...failed.items]), []);
});

test('what the application says of each channel counts, and what it leaves out is asked singly', async (t) => {
  const server = await Server.start(t);
  const application = await Authorizer.start(t);
  application.refused.set('private-no', 403);
  application.forgotten.add('private-later');
  const page = new Page(t, application, server.port).subscribe(['private-a', 'private-no', 'private-later']);
  await page.back(1, ['private-a', 'private-later']);
  const [{ name, status, type }] = await page.failed.count(1);
  assert.deepEqual({ name, status, type }, { name: 'private-no', status: 403, type: 'AuthError' });
  const [batch, single] = application.requests;
  assert.deepEqual([...batch.fields], [
    ['socket_id', page.pusher.connection.socket_id], ['channel_names[]', 'private-a'], ['channel_names[]', 'private-no'],
    ['channel_names[]', 'private-later'], ['tenant', 'a b&c'],
  ]);
  for (const { headers } of [batch, single]) {
    assert.equal(headers['x-csrf-token'], 'csrf-1');
    assert.match(headers['content-type'], /^application\/x-www-form-urlencoded/);
  }
  assert.deepEqual(application.paths(), ['/auth/batch', '/auth']);
  // It is asked in parts, and an answer of the application that fails is one of each channel.
  const many = Array.from({ length: 150 }, (_, i) => `private-many.${i}`);
  page.subscribe(many);
  await page.back(1, many);
  assert.deepEqual(application.paths(), ['/auth/batch', '/auth/batch']);
  application.failing = 503;
  page.subscribe(['private-x', 'private-y']);
  const failed = (await page.failed.count(3)).slice(1);
  assert.deepEqual(failed.map((each) => [each.name, each.status]), [['private-x', 503], ['private-y', 503]]);
  assert.deepEqual(application.paths(), ['/auth/batch']);
  // That was not for ever.
  application.failing = 0;
  page.subscribe(['private-v', 'private-w']);
  await page.back(1, ['private-v', 'private-w']);
  assert.deepEqual(application.paths(), ['/auth/batch']);
});

test('one that fails at first is asked singly, and together the next time', async (t) => {
  const server = await Server.start(t);
  const application = await Authorizer.start(t);
  application.failing = 500;
  const page = new Page(t, application, server.port).subscribe(['private-a', 'private-b']);
  assert.deepEqual((await page.failed.count(2)).map(({ status }) => status), [500, 500]);
  assert.deepEqual(application.paths(), ['/auth/batch', '/auth', '/auth']);
  application.failing = 0;
  page.subscribe(['private-c', 'private-d']);
  await page.back(1, ['private-c', 'private-d']);
  assert.deepEqual(application.paths(), ['/auth/batch']);
});

test('what ends a grant has the page ask once for each, and shows no error', async (t) => {
  const names = ['private-a', 'private-b', 'presence-room'];
  const ends = {
    'a termination': {
      end: async (server, page) => {
        const closed = once(page.pusher.connection, 'disconnected');
        await backend(server).terminateUserConnections('alice');
        await closed;
        page.pusher.connect();
      },
    },
    'its time': {
      options: { args: ['--session-time', '1s'] },
      end: async (server, page) => {
        page.pusher.disconnect();
        // Its time is a renewal and a second more.
        await pause(4000);
        page.pusher.connect();
      },
    },
    'the switch of the app': { options: { apps: [{ ...app, resume_grants: false }] }, end: async (_, page) => { page.pusher.disconnect(); page.pusher.connect(); } },
  };
  for (const [what, { options, end }] of Object.entries(ends)) {
    const server = await Server.start(t, options);
    const application = await Authorizer.start(t);
    const page = new Page(t, application, server.port).subscribe(names).signIn();
    await page.back(1, names);
    assert.deepEqual(application.paths().sort(), ['/auth/batch', '/auth/user'], what);
    await end(server, page);
    await page.back(2, names);
    // The server says so of each channel: those that come within 10 ms are asked for together.
    assert.deepEqual(application.asked().sort(), [...names, 'the user'].sort(), what);
    assert.deepEqual([page.errors, page.failed.items], [[], []], what);
  }
});

test('what is seen of a page that comes back opens nothing to others', async (t) => {
  const server = await Server.start(t);
  const application = await Authorizer.start(t);
  const page = new Page(t, application, server.port).subscribe(['private-a', 'private-b']);
  const sent = [];
  await connected(page.pusher);
  await page.back(1, ['private-a', 'private-b']);
  application.paths();
  const { send_event: send } = page.pusher.connection;
  page.pusher.connection.send_event = function record(event, data, ...more) {
    if (event === 'pusher:subscribe') sent.push(data);
    return send.call(this, event, data, ...more);
  };
  page.pusher.disconnect();
  page.pusher.connect();
  await page.back(2, ['private-a', 'private-b']);
  assert.deepEqual(application.paths(), []);
  // What was seen of it opens nothing.
  const thief = new versions[8](app.key, { ...application.options(server.port) });
  t.after(() => thief.disconnect());
  await connected(thief);
  const refused = new Recorder('refusals');
  thief.bind('reecho:grant', (data) => { if (data.refused) refused.push(data.refused); });
  for (const data of sent) thief.send_event('pusher:subscribe', data);
  assert.ok((await refused.count(2)).every((reason) => /proof/.test(reason)), String(refused.items));
  assert.equal(page.pusher.connection.state, 'connected');
});

test('Echo, with a user of a channel that is encrypted anew', async (t) => {
  const server = await Server.start(t);
  const application = await Authorizer.start(t);
  const client = withReplay(new versions[8](app.key, application.options(server.port)));
  const echo = new Echo({ broadcaster: 'reverb', key: app.key, client });
  t.after(() => echo.disconnect());
  const got = new Recorder('events');
  const here = new Recorder('members');
  echo.private('chat').listen('.score', ({ n }) => got.push(n));
  echo.encryptedPrivate('vault').listen('.score', ({ n }) => got.push(n));
  echo.join('room').here((members) => here.push(members.map(({ name }) => name)));
  await here.count(1);
  assert.deepEqual(application.paths(), ['/auth/batch']);
  client.disconnect();
  client.connect();
  assert.deepEqual(await here.count(2), [['Alice'], ['Alice']]);
  await publish(server, 1, ['private-chat', 'private-encrypted-vault']);
  assert.deepEqual(await got.count(2), [1, 1]);
  assert.deepEqual(application.paths(), []);
  // The key changes: the application is asked for the new one.
  const encryptionMasterKeyBase64 = Buffer.from('another-master-key-of-32-bytes-0').toString('base64');
  application.signer = backend({ port: 1 }, { encryptionMasterKeyBase64 });
  await backend(server, { encryptionMasterKeyBase64 }).trigger('private-encrypted-vault', 'score', { n: 2 });
  assert.deepEqual(await got.count(3), [1, 1, 2]);
  assert.deepEqual(application.paths(), ['/auth']);
});
