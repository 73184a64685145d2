// Stock pusher-js of three generations against the server. Numbers are those of
// the conformance list.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backend, client, connected, subscribed, versions } from './lib/clients.mjs';
import { app, Server } from './lib/server.mjs';
import { once, Recorder } from './lib/wait.mjs';

const full = { ...app, watchlist: true, subscription_counts: true };

for (const version of Object.keys(versions).map(Number)) {
  test(`pusher-js ${version}: public, private, presence, client events (1, 40, 41, 60, 61, 83, 84)`, async (t) => {
    const server = await Server.start(t);
    const alice = client(t, server, { version, user: { id: '42', info: { name: 'Zoë' } } });
    const bob = client(t, server, { version, user: { id: 'u-7', info: { name: 'Bob' } } });
    await Promise.all([connected(alice), connected(bob)]);

    const match = await subscribed(alice, 'match.1');
    const scores = new Recorder('score');
    match.bind('score', scores.push);
    await backend(server).trigger('match.1', 'score', { home: 1, away: 0 });
    assert.deepEqual(await scores.count(1), [{ home: 1, away: 0 }]);

    const [a, b] = [await subscribed(alice, 'private-chat.1'), await subscribed(bob, 'private-chat.1')];
    const typing = new Recorder('typing');
    const own = new Recorder('own typing');
    b.bind('client-typing', typing.push);
    a.bind('client-typing', own.push);
    assert.ok(a.trigger('client-typing', { on: true }));
    assert.deepEqual(await typing.count(1), [{ on: true }]);

    const room = await subscribed(alice, 'presence-lobby');
    assert.equal(room.members.count, 1);
    assert.deepEqual(room.members.get('42').info, { name: 'Zoë' });
    const added = new Recorder('member_added');
    room.bind('pusher:member_added', added.push);
    const other = await subscribed(bob, 'presence-lobby');
    assert.equal(other.members.count, 2);
    assert.equal(other.members.me.id, 'u-7');
    assert.deepEqual(await added.count(1), [{ id: 'u-7', info: { name: 'Bob' } }]);
    const whisper = new Recorder('whisper');
    room.bind('client-hello', (data, metadata) => whisper.push({ data, metadata }));
    other.trigger('client-hello', 'plain');
    const [{ data, metadata }] = await whisper.count(1);
    assert.equal(data, 'plain');
    if (version >= 5) assert.equal(metadata.user_id, 'u-7');
    const removed = new Recorder('member_removed');
    room.bind('pusher:member_removed', removed.push);
    bob.disconnect();
    assert.equal((await removed.count(1))[0].id, 'u-7');
    assert.equal(own.items.length, 0);
  });
}

test('refused by an unknown key: disconnected for good (11, 20)', async (t) => {
  const server = await Server.start(t);
  const errors = new Recorder('error');
  const states = new Recorder('state');
  const pusher = new versions[8]('unknown', { cluster: '', wsHost: '127.0.0.1', wsPort: server.port, forceTLS: false, enabledTransports: ['ws'] });
  t.after(() => pusher.disconnect());
  pusher.connection.bind('error', errors.push);
  pusher.connection.bind('state_change', states.push);
  await states.until((all) => all.some((s) => s.current === 'disconnected'));
  assert.equal(errors.items[0].data?.code ?? errors.items[0].error?.data?.code, 4001);
  assert.equal(pusher.connection.state, 'disconnected');
});

test('pings of the client hold the connection (39)', async (t) => {
  const server = await Server.start(t);
  const pusher = client(t, server, { activityTimeout: 1000, pongTimeout: 5000 });
  await connected(pusher);
  const messages = new Recorder('pong');
  pusher.connection.bind('message', (m) => m.event === 'pusher:pong' && messages.push(m));
  await messages.count(3);
  assert.equal(pusher.connection.state, 'connected');
});

test('sign-in, user events, watchlist, terminate (97, 101, 103, 104, 106, 107)', async (t) => {
  const server = await Server.start(t, { apps: [full] });
  const ada = client(t, server, { userData: { id: 'u-7', user_info: { name: 'Ada' }, watchlist: ['u-8', 'u-9'] } });
  const changes = new Recorder('watchlist');
  ada.user.watchlist.bind('online', (e) => changes.push(['online', e.user_ids]));
  ada.user.watchlist.bind('offline', (e) => changes.push(['offline', e.user_ids]));
  const greetings = new Recorder('greeting');
  ada.user.bind('greeting', greetings.push);
  ada.signin();
  await ada.user.signinDonePromise;
  assert.deepEqual(await changes.count(1), [['offline', ['u-8', 'u-9']]]);

  const grace = client(t, server, { userData: { id: 'u-8' } });
  grace.signin();
  assert.deepEqual((await changes.count(2))[1], ['online', ['u-8']]);
  const infos = new Recorder('subscription of the user channel');
  ada.connection.bind('message', (m) => m.channel === '#server-to-user-u-7' && infos.push(m));
  const hub = backend(server);
  // The library subscribes to the user channel by itself after the sign-in.
  const send = setInterval(() => hub.sendToUser('u-7', 'greeting', { m: 'hi' }).catch(() => {}), 200);
  t.after(() => clearInterval(send));
  assert.deepEqual((await greetings.count(1))[0], { m: 'hi' });
  clearInterval(send);

  const closed = new Recorder('error');
  ada.connection.bind('error', closed.push);
  await hub.terminateUserConnections('u-7');
  await closed.until((all) => all.some((e) => (e.data?.code ?? e.error?.data?.code) === 4009));
  grace.disconnect();
});

test('encrypted channels pass through (59, 96)', async (t) => {
  const server = await Server.start(t);
  for (const version of [8, 7]) {
    const pusher = client(t, server, { version });
    const channel = await subscribed(pusher, 'private-encrypted-box');
    const got = new Recorder('secret');
    channel.bind('secret', got.push);
    await backend(server).trigger('private-encrypted-box', 'secret', { text: `für ${version}` });
    assert.deepEqual(await got.count(1), [{ text: `für ${version}` }]);
    pusher.disconnect();
  }
});

test('cache channels (111, 112, 113, 114)', async (t) => {
  const server = await Server.start(t);
  const pusher = client(t, server);
  const channel = pusher.subscribe('cache-a');
  await once(channel, 'pusher:cache_miss');
  const hub = backend(server);
  await hub.trigger('cache-a', 'price', { v: 1 });
  await hub.trigger('cache-a', 'price', { v: 2 });
  await hub.trigger('private-cache-b', 'price', { v: 3 });
  const late = client(t, server);
  assert.deepEqual(await once(late.subscribe('cache-a'), 'price'), { v: 2 });
  assert.deepEqual(await once(late.subscribe('private-cache-b'), 'price'), { v: 3 });
});

test('subscription counts and errors (46, 109)', async (t) => {
  const server = await Server.start(t, { apps: [full] });
  const one = client(t, server);
  const chat = one.subscribe('chat');
  const counts = new Recorder('count');
  chat.bind('pusher:subscription_count', (d) => counts.push(d.subscription_count));
  await counts.until((all) => all.at(-1) === 1);
  const two = client(t, server, {
    channelAuthorization: { customHandler: (_, callback) => callback(null, { auth: `${app.key}:0000` }) },
  });
  await subscribed(two, 'chat');
  await counts.until((all) => all.at(-1) === 2);
  const refused = await once(two.subscribe('private-x'), 'pusher:subscription_error');
  assert.equal(refused.status, 401);
  assert.match(refused.error, /^Invalid signature/);
});

test('data arrives as it was published (78, 79, 95, 80)', async (t) => {
  const server = await Server.start(t);
  const pusher = client(t, server);
  const channel = await subscribed(pusher, 'chat');
  const other = client(t, server);
  const otherChannel = await subscribed(other, 'chat');
  const hub = backend(server);
  const texts = ['plain text', 'a <b> & "c" / \\ \u2028 \u{1F600} \u0001', ''];
  const got = new Recorder('text');
  channel.bind('text', got.push);
  for (const text of texts) await hub.trigger('chat', 'text', { text });
  assert.deepEqual((await got.count(texts.length)).map((d) => d.text), texts);

  const numbers = new Recorder('number');
  channel.bind('n', numbers.push);
  for (let i = 0; i < 10; i++) {
    await hub.triggerBatch(Array.from({ length: 10 }, (_, j) => ({ channel: 'chat', name: 'n', data: { i: 10 * i + j } })));
  }
  assert.deepEqual((await numbers.count(100)).map((d) => d.i), Array.from({ length: 100 }, (_, i) => i));

  const mine = new Recorder('excluded');
  const theirs = new Recorder('included');
  channel.bind('x', mine.push);
  otherChannel.bind('x', theirs.push);
  await hub.trigger('chat', 'x', 1, { socket_id: pusher.connection.socket_id });
  await hub.trigger('chat', 'x', 2);
  assert.deepEqual(await theirs.count(2), [1, 2]);
  assert.deepEqual(await mine.count(1), [2]);
});

test('a restart brings the client back by itself (36, 175)', async (t) => {
  const server = await Server.start(t);
  const pusher = client(t, server);
  const channel = await subscribed(pusher, 'chat');
  const errors = new Recorder('error');
  pusher.connection.bind('error', errors.push);
  const back = once(pusher.connection, 'connecting');
  assert.deepEqual(await server.stop(), [0, null]);
  await back;
  assert.ok(errors.items.some((e) => (e.data?.code ?? e.error?.data?.code) === 4200), JSON.stringify(errors.items));
  const again = once(channel, 'pusher:subscription_succeeded');
  await server.run();
  // A refused port makes pusher-js wait about 15 s.
  pusher.connection.connect();
  await again;
  const got = new Recorder('event');
  channel.bind('x', got.push);
  await backend(server).trigger('chat', 'x', 'after');
  assert.deepEqual(await got.count(1), ['after']);
});

test('kill -9 loses nothing that was answered (113)', async (t) => {
  const server = await Server.start(t);
  const hub = backend(server);
  const stored = new Map();
  let stop = false;
  const load = Array.from({ length: 8 }, async (_, worker) => {
    for (let i = 0; !stop; i++) {
      try {
        await hub.trigger(`cache-${worker}`, 'n', { i });
        stored.set(worker, i);
      } catch {
        return;
      }
    }
  });
  const enough = new Recorder('stored');
  const poll = setInterval(() => enough.push(stored.size === 8 && Math.min(...stored.values())), 10);
  await enough.until((all) => all.at(-1) > 20);
  clearInterval(poll);
  await server.stop('SIGKILL');
  stop = true;
  await Promise.all(load);
  await server.run();
  const pusher = client(t, server);
  for (const [worker, i] of stored) {
    const got = await once(pusher.subscribe(`cache-${worker}`), 'n');
    assert.ok(got.i >= i, `cache-${worker}: answered ${i}, found ${got.i}`);
  }
});

test('subscribe and unsubscribe at once leaves nothing behind (57)', async (t) => {
  const server = await Server.start(t);
  const pusher = client(t, server);
  await connected(pusher);
  for (let i = 0; i < 20; i++) {
    pusher.subscribe(`brief.${i}`);
    pusher.unsubscribe(`brief.${i}`);
  }
  await subscribed(pusher, 'marker');
  // pusher-js leaves a channel when its success has come.
  for (let turn = 0; ; turn++) {
    const { channels } = await (await backend(server).get({ path: '/channels' })).json();
    if (Object.keys(channels).join() === 'marker') break;
    assert.ok(turn < 400, Object.keys(channels).join());
  }
});
