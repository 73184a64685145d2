// Webhooks: real processes, a real endpoint, and the official libraries' own verifiers.
// REECHO_WEBHOOK_SEED repeats a run of what is random.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { client, connected, subscribed } from './lib/clients.mjs';
import { Mesh } from './lib/mesh.mjs';
import { eventsOf, FAILED, hooked, nameOf, phpLibrary, Receiver, TAKEN, verifies, verifyWithPHP } from './lib/receiver.mjs';
import { libraries, library } from './lib/program.mjs';
import { firstSeed } from './lib/seed.mjs';
import { freePort, NODES, Server } from './lib/server.mjs';
import { random } from './replay/random.mjs';
import { once, pause } from './lib/wait.mjs';

const GRACE = '500ms';
const numbered = (n, name = 'room') => Array.from({ length: n }, (_, i) => `${name}-${i}`);

// mark has an endpoint hear of a channel that nobody is on otherwise: what was told before
// on this connection's node has come by then.
async function mark(t, server, receiver) {
  const name = `mark-${Math.random().toString(36).slice(2)}`;
  const pusher = client(t, server);
  await subscribed(pusher, name);
  await receiver.until((events) => events.some((e) => e.channel === name), 'the mark');
  return (event) => !event.channel.startsWith('mark-');
}

test('every kind of event, and every library takes it (148, 149, 150, 152, 158)', async (t) => {
  const receiver = await Receiver.start(t);
  const server = await Server.start(t, { apps: [hooked({ url: receiver.url, events: ['channel_occupied', 'channel_vacated', 'member_added', 'member_removed', 'client_event', 'cache_miss', 'subscription_count'] })], args: ['--webhook-grace', GRACE] });
  const ada = client(t, server, { user: { id: 'ada é "1"' } });
  const room = await subscribed(ada, 'presence-room');
  await receiver.names(['channel_occupied presence-room', 'member_added presence-room ada é "1"']);
  room.trigger('client-x', { n: [1, '<&>', 'ü'] });
  await receiver.until((events) => events.length === 3, 'the client event');
  const [, , event] = receiver.events;
  assert.deepEqual(event, {
    name: 'client_event', channel: 'presence-room', event: 'client-x', data: JSON.stringify({ n: [1, '<&>', 'ü'] }),
    socket_id: ada.connection.socket_id, user_id: 'ada é "1"',
  });
  await subscribed(ada, 'cache-a');
  await receiver.until((events) => events.some((e) => nameOf(e) === 'subscription_count cache-a 1') && events.some((e) => nameOf(e) === 'cache_miss cache-a'), 'the count and the miss');
  ada.disconnect();
  await receiver.until((events) => ['member_removed presence-room ada é "1"', 'channel_vacated presence-room', 'channel_vacated cache-a']
    .every((name) => events.some((e) => nameOf(e) === name)), 'all to be gone');
  const names = receiver.events.map(nameOf);
  assert.deepEqual([...new Set(names)], names, 'something was told twice');
  assert.ok(names.indexOf('member_removed presence-room ada é "1"') < names.indexOf('channel_vacated presence-room'), 'the order');

  const posts = receiver.got.items;
  for (const { raw, made, at } of posts) {
    assert.equal(raw[raw.indexOf('Content-Type') + 1], 'application/json');
    assert.ok(raw.includes('X-Pusher-Key') && raw.includes('X-Pusher-Signature') && raw.includes('X-Reecho-Event-Ids'), raw.join(' '));
    assert.ok(Math.abs(at - made) < 60_000, `made ${made}, came ${at}`);
  }
  await verifies(library(t, libraries.Python, server), posts);
  if (!phpLibrary) {
    t.diagnostic('without PHP: set REECHO_E2E_PHP_PUSHER to a folder with pusher/pusher-php-server');
    return;
  }
  assert.deepEqual(await verifyWithPHP(posts), posts.map(({ events }) => events));
});

test('a reload of the page tells nothing (151)', async (t) => {
  const receiver = await Receiver.start(t);
  const server = await Server.start(t, { apps: [hooked({ url: receiver.url, events: ['channel_occupied', 'channel_vacated', 'member_added', 'member_removed'] })], args: ['--webhook-grace', '10s'] });
  for (let i = 0; i < 4; i++) {
    const pusher = client(t, server, { user: { id: 'ada' } });
    await subscribed(pusher, 'presence-room');
    if (i === 0) await receiver.names(['channel_occupied presence-room', 'member_added presence-room ada']);
    pusher.disconnect();
  }
  const isOurs = await mark(t, server, receiver);
  assert.deepEqual(receiver.events.filter(isOurs).map(nameOf), ['channel_occupied presence-room', 'member_added presence-room ada']);
});

test('each endpoint has its filter, its headers and its batches (155, 156, 157)', async (t) => {
  const [all, chats, single] = [await Receiver.start(t), await Receiver.start(t), await Receiver.start(t)];
  const server = await Server.start(t, {
    apps: [hooked(
      { url: all.url, batch_time: '300ms' },
      { url: chats.url, events: ['channel_occupied'], channel_prefix: 'chat-', channel_suffix: '-x', headers: { Authorization: 'Bearer token', 'X-Other': '1' } },
      { url: single.url, events: ['channel_occupied', 'cache_miss'], batch_events: 1 },
    )],
  });
  const pusher = client(t, server);
  const names = [...numbered(10, 'other'), ...numbered(5, 'chat').map((name) => `${name}-x`), 'chat-y'];
  await connected(pusher);
  await Promise.all(names.map((name) => subscribed(pusher, name)));
  await Promise.all(Array.from({ length: 10 }, () => subscribed(client(t, server), 'cache-empty')));
  await chats.names(numbered(5, 'chat').map((name) => `channel_occupied ${name}-x`), { anyOrder: true });
  for (const { headers } of chats.got.items) assert.deepEqual([headers.authorization, headers['x-other']], ['Bearer token', '1']);
  await single.names([...names.map((name) => `channel_occupied ${name}`), 'channel_occupied cache-empty', 'cache_miss cache-empty'], { anyOrder: true });
  assert.ok(single.got.items.every(({ events }) => events.length === 1));
  await all.until((events) => names.every((name) => events.some((e) => nameOf(e) === `channel_occupied ${name}`)), 'all');
  assert.ok(all.got.items.some(({ events }) => events.length > 1), 'nothing came together');
});

test('500 twice, then 200: the same three times, and no more (153)', async (t) => {
  let tries = 0;
  const receiver = await Receiver.start(t, (...call) => (++tries <= 2 ? FAILED : TAKEN)(...call));
  const server = await Server.start(t, { apps: [hooked({ url: receiver.url, events: ['channel_occupied'] })] });
  await subscribed(client(t, server), 'room');
  const posts = await receiver.got.count(3);
  assert.deepEqual(new Set(posts.map(({ body }) => body)).size, 1);
  assert.deepEqual(new Set(posts.map(({ ids }) => ids.join())).size, 1);
  await mark(t, server, receiver);
  assert.equal(receiver.got.items.filter(({ events }) => events[0].channel === 'room').length, 3);
});

test('an endpoint that is down, hangs, hangs up or answers 500 delays no other', async (t) => {
  const good = await Receiver.start(t);
  const hanging = [];
  const bad = [
    await Receiver.start(t, (request, response) => hanging.push(response)), await Receiver.start(t, FAILED),
    await Receiver.start(t, (request) => request.socket.destroy()),
  ];
  const down = await freePort();
  const urls = [...bad.map(({ url }) => url), `http://127.0.0.1:${down}/`, good.url];
  const server = await Server.start(t, { apps: [hooked(...urls.map((url) => ({ url, events: ['channel_occupied'] })))] });
  const pusher = client(t, server);
  await connected(pusher);
  const names = numbered(40);
  for (const name of names) await subscribed(pusher, name);
  await good.names(names.map((name) => `channel_occupied ${name}`), { anyOrder: true });
  for (const receiver of bad) await receiver.got.count(1);
  // What was not taken comes when the endpoint does, each once.
  for (const receiver of bad) receiver.answer = TAKEN;
  const back = await Receiver.start(t, TAKEN, down);
  for (const receiver of [back, ...bad.slice(1)]) {
    await receiver.until((events) => names.every((name) => events.some((e) => e.channel === name)), 'all that it missed');
  }
});

test('kill -9 between what happens and its delivery loses nothing', async (t) => {
  const receiver = await Receiver.start(t, FAILED);
  const server = await Server.start(t, { apps: [hooked({ url: receiver.url, events: ['channel_occupied', 'channel_vacated', 'member_added', 'member_removed'] })], args: ['--webhook-return-time', '12s', '--webhook-grace', GRACE] });
  const gone = client(t, server, { user: { id: 'gone' } });
  const stays = client(t, server, { user: { id: 'stays' }, reconnectionDelay: 500 });
  const names = numbered(10, 'presence');
  for (const name of names) await subscribed(gone, name);
  await subscribed(stays, 'presence-0');
  await subscribed(stays, 'presence-own');
  await receiver.until((events) => events.length >= 12, 'tries').catch(() => {});
  await pause(300); // all of it is stored by then, or the clients come back and it is told then
  await server.stop('SIGKILL');
  gone.disconnect();
  const before = receiver.got.items.length;
  receiver.answer = TAKEN;
  await server.run();
  const came = () => eventsOf(receiver.got.items.slice(before)).map(nameOf);
  const wanted = [
    ...names.flatMap((name) => [`channel_occupied ${name}`, `member_added ${name} gone`, `member_removed ${name} gone`]),
    ...names.slice(1).map((name) => `channel_vacated ${name}`),
    'member_added presence-0 stays', 'channel_occupied presence-own', 'member_added presence-own stays',
  ];
  await receiver.got.until(() => came().length >= wanted.length, `${wanted.length} events`).catch((error) => {
    throw new Error(`${error.message}\nmissing: ${wanted.filter((name) => !came().includes(name)).join(', ')}`);
  });
  assert.deepEqual(came().sort(), wanted.sort());
});

test('kill -9 at any moment: each channel is told of as occupied, once', async (t) => {
  const seed = firstSeed('WEBHOOK');
  t.diagnostic(`REECHO_WEBHOOK_SEED=${seed}`);
  const { below } = random(seed);
  const receiver = await Receiver.start(t);
  const server = await Server.start(t, { apps: [hooked({ url: receiver.url, events: ['channel_occupied', 'channel_vacated'], batch_events: 1 })] });
  const pusher = client(t, server);
  const names = [];
  for (let round = 0; round < 4; round++) {
    await connected(pusher);
    const fresh = numbered(20, `round-${round}`);
    names.push(...fresh);
    for (const name of fresh) pusher.subscribe(name);
    await pause(below(150));
    await server.stop('SIGKILL');
    await server.run();
  }
  await receiver.names(names.map((name) => `channel_occupied ${name}`), { anyOrder: true });
  await mark(t, server, receiver);
  assert.equal(receiver.events.length, names.length + 1);
});

test('three nodes: each transition once, and a node that dies takes its members along', { skip: NODES > 1 && 'it has a cluster of its own' }, async (t) => {
  const receiver = await Receiver.start(t);
  const mesh = await Mesh.start(t, { apps: [hooked({ url: receiver.url, events: ['channel_occupied', 'channel_vacated', 'member_added', 'member_removed'] })], args: ['--webhook-grace', '1s'] });
  const [first, second, third] = mesh.nodes;
  const pushers = mesh.nodes.map((node, i) => client(t, node, { user: { id: i < 2 ? 'ada' : 'bob' } }));
  await Promise.all(pushers.map((pusher) => subscribed(pusher, 'presence-room')));
  await receiver.names(['channel_occupied presence-room', 'member_added presence-room ada', 'member_added presence-room bob'], { anyOrder: true });
  assert.equal(nameOf(receiver.events[0]), 'channel_occupied presence-room');

  // ada has a second socket; bob has none, and goes with the node.
  await third.stop('SIGKILL');
  pushers[2].disconnect();
  await first.stop('SIGKILL');
  pushers[0].disconnect();
  await first.run();
  await mesh.ready(0);
  await receiver.until((events) => events.some((e) => nameOf(e) === 'member_removed presence-room bob'), 'bob to be gone');
  await third.run();
  await mesh.ready(2);

  // A rolling restart, with clients that come back.
  pushers[1].disconnect();
  const names = numbered(6);
  const pages = await Promise.all(mesh.nodes.map(async () => {
    const pusher = client(t, { port: mesh.front.port }, { user: { id: 'eve' } });
    await Promise.all(names.map((name) => subscribed(pusher, name)));
    return pusher;
  }));
  await receiver.until((events) => events.some((e) => nameOf(e) === 'channel_vacated presence-room') && names.every((name) => events.some((e) => e.channel === name)), 'the rooms');
  for (const i of [0, 1, 2]) {
    await mesh.nodes[i].stop();
    await mesh.nodes[i].run();
    await mesh.ready(i);
    await Promise.all(pages.map(connected));
    await Promise.all(pages.map((pusher) => Promise.all(names.map((name) => (pusher.channel(name).subscribed ? undefined : once(pusher.channel(name), 'pusher:subscription_succeeded'))))));
  }
  const isOurs = await mark(t, second, receiver);
  const got = receiver.events.filter(isOurs).map(nameOf).sort();
  assert.deepEqual(got, [
    'channel_occupied presence-room', 'member_added presence-room ada', 'member_added presence-room bob',
    'member_removed presence-room bob', 'member_removed presence-room ada', 'channel_vacated presence-room',
    ...names.map((name) => `channel_occupied ${name}`),
  ].sort());
});
