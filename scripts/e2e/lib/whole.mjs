// What makes several nodes one server, tried with real clients on each of them.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { withReplay } from '../../../replay/client/replay.mjs';
import { numbers } from '../replay/checker.mjs';
import { EventSource } from '../replay/eventsource.mjs';
import { backend, client, connected, subscribed } from './clients.mjs';
import { dataOf, history, publish, record, travels } from './scores.mjs';
import { app } from './server.mjs';
import { pause, Recorder, within } from './wait.mjs';

const until = (what, done) => within((async () => { while (!await done()) await pause(20); })(), what);

// WHOLE_APPS are the apps of such nodes: nothing is over a limit.
export const WHOLE_APPS = [{
  ...app, subscription_counts: true, watchlist: true, client_events_per_second: 1000,
  limits: { replay_events: 100_000, replay_bytes: 67_108_864 },
}];

// areOne tries everything that is of the whole cluster, whose apps are WHOLE_APPS.
export async function areOne(t, nodes) {
  const id = randomUUID().slice(0, 8); // of the names that are used
  for (const part of [events, whispers, members, counts, caches, users, ends, stream]) await part(t, nodes, id);
  await back(t, nodes, `plugin-${id}`, { plugin: withReplay });
  const session = { wsPath: `/session/${randomUUID()}`, activityTimeout: 1000, pongTimeout: 1000 };
  await back(t, nodes, `session-${id}`, session);
  await halfOpen(t, nodes, id, session);
}

// events: what any node publishes comes to clients of all, in one order, and is in the
// history of all, but does not come to who it is not for.
async function events(t, nodes, id) {
  const people = await Promise.all(nodes.map(async (node) => {
    const pusher = client(t, node);
    return { pusher, ...record(await subscribed(pusher, `private-events-${id}`)) };
  }));
  let n = 0;
  const expected = people.map(() => []);
  const publishTo = async (node, but) => {
    n++;
    await publish(node, `private-events-${id}`, n, n, but ? { socket_id: but.pusher.connection.socket_id } : {});
    people.forEach((one, i) => { if (one !== but) expected[i].push(n); });
  };
  for (const node of nodes) {
    for (const one of people) await publishTo(node, one);
    await publishTo(node);
  }
  for (const [i, { scores }] of people.entries()) assert.deepEqual(await scores.until((items) => items.includes(n) && items), expected[i]);
  for (const node of nodes) assert.deepEqual(dataOf(await history(node, `private-events-${id}`)), numbers(1, n));
  // Right after the first subscription, on another node.
  for (let i = 0; i < 20; i++) {
    const { scores } = record(await subscribed(people[i % people.length].pusher, `new.${id}.${i}`));
    await publish(nodes[(i + 1) % nodes.length], `new.${id}.${i}`, i, i);
    assert.deepEqual(await scores.count(1), [i]);
  }
}

// whispers: what a client says comes to all others, once, in its order, and not to
// itself.
async function whispers(t, nodes, id) {
  const people = await Promise.all(nodes.map(async (node) => {
    const channel = await subscribed(client(t, node), `private-whispers-${id}`);
    const heard = new Recorder('whisper');
    channel.bind('client-w', heard.push);
    return { channel, heard };
  }));
  // The interest of a node takes its time to reach the others.
  await pause(500);
  const said = 20;
  for (const n of numbers(1, said)) people.forEach(({ channel }, from) => assert.ok(channel.trigger('client-w', { from, n })));
  for (const [i, { heard }] of people.entries()) {
    await heard.count(said * (people.length - 1));
    await pause(100); // for one more
    people.forEach((_, from) => assert.deepEqual(heard.items.filter((w) => w.from === from).map(({ n }) => n), from === i ? [] : numbers(1, said), `from ${from} at ${i}`));
  }
}

// members: one member_added and one member_removed for a user, on whatever nodes.
async function members(t, nodes, id) {
  const people = [];
  const changes = [];
  for (const [i, node] of nodes.entries()) {
    const pusher = client(t, node, { user: { id: `user-${i}`, info: { name: `name ${i}` } } });
    const channel = pusher.subscribe(`presence-${id}`);
    changes.push([]);
    for (const event of ['added', 'removed']) channel.bind(`pusher:member_${event}`, (user) => changes[i].push(`${event} ${user.id}`));
    people.push({ pusher, channel });
    for (const { channel: { members: all } } of people) await until(`${i + 1} members, not ${Object.keys(all.members)}`, () => all.count === i + 1);
  }
  for (const node of nodes) {
    const { users: list } = await (await backend(node).get({ path: `/channels/presence-${id}/users` })).json();
    assert.deepEqual(list.map((user) => user.id).sort(), nodes.map((_, i) => `user-${i}`).sort());
  }
  // The first on one more node, and gone from its own.
  const again = client(t, nodes[1], { user: { id: 'user-0', info: {} } });
  await subscribed(again, `presence-${id}`);
  people[0].pusher.disconnect();
  const last = people.at(-1);
  if (people.length > 2) {
    last.pusher.disconnect();
    for (const { channel: { members: all } } of people.slice(1, -1)) await until('one member to leave', () => all.count === nodes.length - 1 && all.get('user-0'));
  }
  again.disconnect();
  const { channel: { members: all } } = people[1];
  await until('the first to leave', () => !all.get('user-0'));
  assert.deepEqual(changes[1].filter((text) => text.endsWith('user-0')), ['removed user-0']);
}

// counts: of subscriptions, of channels, of connections.
async function counts(t, nodes, id) {
  const channels = [];
  for (const node of nodes) channels.push(await subscribed(client(t, node), `counted-${id}`));
  for (const channel of channels) await until(`a count of ${nodes.length}`, () => channel.subscriptionCount === nodes.length);
  for (const node of nodes) {
    // What others do not answer in 300 ms is not in it.
    await until(`${nodes.length} subscriptions in an answer`, async () => {
      const answer = await (await backend(node).get({ path: `/channels/counted-${id}`, params: { info: 'subscription_count' } })).json();
      return answer.occupied && answer.subscription_count === nodes.length;
    });
    const all = await (await backend(node).get({ path: '/channels', params: { filter_by_prefix: `counted-${id}` } })).json();
    assert.deepEqual(Object.keys(all.channels), [`counted-${id}`]);
  }
}

async function caches(t, nodes, id) {
  const missed = new Recorder('miss');
  const name = `cache-${id}`;
  client(t, nodes[1]).subscribe(name).bind('pusher:cache_miss', () => missed.push(true));
  await missed.count(1);
  await publish(nodes[0], name, 1, 2);
  for (const node of nodes) {
    const { scores } = record(client(t, node).subscribe(name));
    assert.deepEqual(await scores.count(1), [2]);
  }
}

// signedIn is a client of a user who watches others.
async function signedIn(t, node, user, watchlist) {
  const pusher = client(t, node, { userData: { id: user, ...(watchlist ? { watchlist } : {}) } });
  pusher.signin();
  const got = { mail: new Recorder('mail'), seen: new Recorder('seen'), errors: new Recorder('error'), pusher };
  pusher.user.bind('mail', ({ n }) => got.mail.push(n));
  for (const event of ['online', 'offline']) pusher.user.watchlist.bind(event, ({ user_ids: ids }) => got.seen.push(`${event} ${ids}`));
  pusher.connection.bind('error', (e) => got.errors.push(e.data?.code ?? e.error?.data?.code));
  await pusher.user.signinDonePromise;
  await until('the channel of the user', () => pusher.user.serverToUserChannel?.subscribed);
  return got;
}

// users: events for them, and who watches them.
async function users(t, nodes, id) {
  const bobs = `bob-${id}`;
  const watchers = await Promise.all(nodes.map((node, i) => signedIn(t, node, `watcher-${id}-${i}`, [bobs])));
  const bob = await Promise.all(nodes.map((node) => signedIn(t, node, bobs)));
  for (const [i, node] of nodes.entries()) await backend(node).sendToUser(bobs, 'mail', { n: i });
  for (const { mail } of bob) assert.deepEqual(await mail.count(nodes.length), nodes.map((_, i) => i));
  for (const { seen } of watchers) await seen.until((items) => items.includes(`online ${bobs}`));
  for (const { pusher } of bob) pusher.disconnect();
  for (const { seen } of watchers) assert.deepEqual(await seen.count(3), [`offline ${bobs}`, `online ${bobs}`, `offline ${bobs}`]);
}

// ends: the connections of a user are closed everywhere.
async function ends(t, nodes, id) {
  const all = await Promise.all(nodes.map((node) => signedIn(t, node, `eve-${id}`)));
  await backend(nodes[0]).terminateUserConnections(`eve-${id}`);
  for (const { errors, pusher } of all) {
    assert.ok((await errors.count(1)).includes(4009));
    pusher.disconnect();
  }
}

// back: who loses its connection gets what it missed on another node.
async function back(t, nodes, kind, options) {
  const { proxy, move } = await travels(t, nodes);
  const name = `private-back-${kind}`;
  const pusher = client(t, proxy, options);
  await connected(pusher);
  const { scores, outcomes } = record(await subscribed(pusher, name));
  let n = 0;
  const next = async () => {
    for (const node of nodes) {
      n++;
      await publish(node, name, n, n);
    }
  };
  for (let turn = 1; turn <= 2 * nodes.length; turn++) {
    await next();
    await move(turn % nodes.length, next);
    await next();
    await outcomes.count(turn);
    await scores.until((items) => items.includes(n), `${n} in turn ${turn} of ${kind}`);
  }
  assert.deepEqual(outcomes.items.filter(({ event }) => event !== 'reecho:resumed'), []);
  // What a session has not confirmed may come again.
  assert.deepEqual(kind.startsWith('session') ? [...new Set(scores.items)] : scores.items, numbers(1, n));
}

// halfOpen: a session goes on elsewhere though its old connection has not ended.
async function halfOpen(t, nodes, id, options) {
  const { proxy } = await travels(t, nodes);
  const name = `private-half-open-${id}`;
  const { scores, outcomes } = record(await subscribed(client(t, proxy, { ...options, wsPath: `/session/${randomUUID()}` }), name));
  await publish(nodes[0], name, 1, 1);
  await scores.count(1);
  for (let turn = 1; turn <= nodes.length; turn++) {
    const old = [...proxy.links];
    for (const link of old) link.stall();
    await publish(nodes[0], name, 2 * turn, 2 * turn);
    proxy.target = nodes[turn % nodes.length].port;
    await scores.until((items) => items.includes(2 * turn), `${2 * turn} of a session elsewhere`);
    for (const link of old) link.reset();
    await publish(nodes.at(-1), name, 2 * turn + 1, 2 * turn + 1);
    await scores.until((items) => items.includes(2 * turn + 1), `${2 * turn + 1} of a session elsewhere`);
  }
  assert.deepEqual([...new Set(scores.items)], numbers(1, 2 * nodes.length + 1));
  assert.deepEqual(outcomes.items.filter(({ event }) => event !== 'reecho:resumed'), []);
}

// stream: an event stream goes on at its place on another node.
async function stream(t, nodes, id) {
  const { proxy, move } = await travels(t, nodes);
  const source = new EventSource(`http://127.0.0.1:${proxy.port}/app/${app.key}/events?channel=streamed-${id}`);
  t.after(() => source.close());
  const got = new Recorder('event');
  source.onmessage = ({ data }) => {
    const { event, data: text } = JSON.parse(data);
    if (event === 'score' || event === 'reecho:gap') got.push(event === 'score' ? JSON.parse(text).n : event);
  };
  await until('a cursor', () => source.lastEventId);
  let n = 0;
  for (let turn = 1; turn <= nodes.length; turn++) {
    await move(turn % nodes.length, () => publish(nodes[turn % nodes.length], `streamed-${id}`, n + 1, n += 3));
    await got.until((items) => items.includes(n), `${n} in turn ${turn}`);
  }
  assert.deepEqual(got.items, numbers(1, n));
}
