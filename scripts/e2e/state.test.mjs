// A page loads the state of a channel and follows on from it: no event is in both, and
// none in neither, with real clients and a server that loses them and is lost.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { test } from 'node:test';
import Echo from 'laravel-echo';
import { withReplay } from '../../replay/client/replay.mjs';
import { backend, client } from './lib/clients.mjs';
import { Mesh } from './lib/mesh.mjs';
import { app, NODES, Server } from './lib/server.mjs';
import { once, Recorder } from './lib/wait.mjs';
import { Proxy } from './replay/proxy.mjs';

// Counter is an application with a state, a number that each event adds one to. The state
// is stored with the position that the publish was answered with.
class Counter {
  state = 0;
  position = null;
  constructor(server, channel) { Object.assign(this, { hub: backend(server), channel }); }

  async add(params) {
    const n = this.state + 1;
    const { channels } = await (await this.hub.trigger(this.channel, 'added', { n }, { info: 'position', ...params })).json();
    Object.assign(this, { state: n, position: channels[this.channel].position });
  }

  async times(n) {
    for (; n > 0; n--) await this.add();
  }

  kept() { return { n: this.state, position: this.position }; }
}

// follow keeps what a page shows of a channel, and fails when an event is not the next.
function follow(channel) {
  const got = new Recorder(`what ${channel.name} shows`);
  channel.bind('reecho:loaded', (state) => got.push(`state ${got.n = state.n}`));
  channel.bind('added', ({ n }) => {
    if (n !== got.n + 1) got.push(`${n} after ${got.n}`);
    got.push(got.n = n);
  });
  for (const event of ['reecho:gap', 'reecho:resumed', 'reecho:load_failed']) channel.bind(event, ({ reason, tries }) => got.push([event.slice(7), reason ?? tries].join(' ').trim()));
  return got;
}

// held is a load that waits until it is let go.
function held(kept) {
  const calls = new Recorder('calls of load');
  const load = (channel) => new Promise((resolve, reject) => { calls.push({ channel, resolve: (value) => resolve(value ?? kept()), reject }); });
  return { load, calls };
}

const user = { id: 'ada', info: { name: 'Ada' } };

for (const channel of ['match.1', 'private-match.1', 'presence-match.1', 'private-encrypted-match.1', 'cache-match.1']) {
  test(`${channel}: events during a load come behind it, those in the state do not`, async (t) => {
    const server = await Server.start(t);
    const counter = new Counter(server, channel);
    await counter.times(3);
    const { load, calls } = held(() => counter.kept());
    const pusher = withReplay(client(t, server, { user }), { load });
    const got = follow(pusher.subscribe(channel));
    const [first] = await calls.count(1);
    assert.equal(first.channel, channel);
    await counter.times(2);
    const kept = counter.kept();
    await counter.times(2);
    first.resolve(kept);
    await counter.times(1);
    assert.deepEqual(await got.count(4), ['state 5', 6, 7, 8]);
    // Back without a gap: nothing is loaded.
    pusher.disconnect();
    await counter.times(2);
    pusher.connect();
    const shown = channel.startsWith('private-encrypted-') ? [9, 10] : ['resumed', 9, 10]; // there it has another name
    assert.deepEqual((await got.count(4 + shown.length)).slice(4), shown);
    assert.equal(calls.items.length, 1);
  });
}

test('a state of before the subscription is followed on from where it is', async (t) => {
  const server = await Server.start(t);
  const counter = new Counter(server, 'presence-match.1');
  await counter.times(2);
  const old = counter.kept();
  await counter.times(3);
  const pusher = withReplay(client(t, server, { user }), (name) => ({ load: () => (name === 'presence-match.1' ? old : undefined) }));
  const channel = pusher.subscribe('presence-match.1');
  const got = follow(channel);
  assert.deepEqual(await got.count(5), ['state 2', 'resumed', 3, 4, 5]);
  assert.deepEqual(Object.keys(channel.members.members), ['ada']);
  await counter.add();
  assert.equal((await got.count(6))[5], 6);
});

test('a gap loads anew, also during a load; a load that fails is tried again', async (t) => {
  const server = await Server.start(t, { apps: [{ ...app, limits: { replay_events: 5 } }] });
  const counter = new Counter(server, 'match.1');
  const { load, calls } = held(() => counter.kept());
  const pusher = withReplay(client(t, server), { load });
  const got = follow(pusher.subscribe('match.1'));
  const away = async (n) => {
    pusher.disconnect();
    await counter.times(n);
    pusher.connect();
  };
  (await calls.count(1))[0].reject(new Error('down'));
  await counter.times(1);
  (await calls.count(2))[1].resolve();
  assert.deepEqual(await got.count(2), ['load_failed 1', 'state 1']);
  await away(7);
  const third = (await calls.count(3))[2];
  await away(8);
  const fourth = (await calls.count(4))[3];
  third.resolve({ n: 8 });
  await counter.times(2);
  fourth.resolve();
  await counter.times(1);
  assert.deepEqual((await got.count(6)).slice(2), ['gap over_limit', 'gap over_limit', 'state 18', 19]);
  // Unsubscribed during a load: it is of no use, and the channel is new afterwards.
  await away(7);
  const fifth = (await calls.count(5))[4];
  pusher.unsubscribe('match.1');
  fifth.resolve({ n: -1 });
  const again = follow(pusher.subscribe('match.1'));
  (await calls.count(6))[5].resolve();
  await counter.times(1);
  assert.deepEqual(await again.count(2), ['state 26', 27]);
  assert.deepEqual(got.items.slice(6), ['gap over_limit']);
});

test('Echo, and a page that reads the position before its state', async (t) => {
  const server = await Server.start(t);
  const counter = new Counter(server, 'match.1');
  await counter.times(2);
  const load = async (channel) => {
    const { position } = await (await counter.hub.get({ path: `/channels/${channel}`, params: { info: 'position' } })).json();
    return { n: counter.state, position };
  };
  const echo = new Echo({ broadcaster: 'reverb', client: withReplay(client(t, server), { load }), key: app.key });
  t.after(() => echo.disconnect());
  const got = new Recorder('what Echo hears');
  echo.channel('match.1').listen('.reecho:loaded', ({ n }) => got.push(`state ${n}`)).listen('.added', ({ n }) => got.push(n));
  await got.count(1);
  await counter.times(1);
  assert.deepEqual(await got.count(2), ['state 2', 3]);
});

test('pages that come, are cut off and reload while a server is killed show each number once', async (t) => {
  const mesh = NODES > 1 ? await Mesh.start(t) : undefined;
  const servers = mesh ? mesh.nodes : [await Server.start(t)];
  const hubs = servers.map((server) => backend(server));
  const counter = new Counter(servers[0], 'match.1');
  let tries = 0;
  // A key makes of all tries one.
  const add = async () => {
    for (const idempotency_key = `n${counter.state + 1}`; ; await pause(20)) {
      counter.hub = hubs[tries++ % hubs.length];
      try {
        return await counter.add({ idempotency_key });
      } catch (error) {
        assert.ok(!error.status || error.status === 503, `${error.message} ${error.status} ${error.body}`);
      }
    }
  };
  await add();
  const proxies = [];
  for (const server of servers) proxies.push(await Proxy.start(t, server.port));
  const pages = Array.from({ length: 6 }, (_, n) => {
    let calls = n;
    const load = async () => {
      const kept = counter.kept();
      await pause((n * 37) % 150);
      if (++calls % 3 === 0) throw new Error('down');
      return kept;
    };
    return follow(withReplay(client(t, { port: proxies[n % proxies.length].port }), { load }).subscribe('match.1'));
  });
  for (const got of pages) await got.until(() => got.n);
  for (let round = 0; round < 60; round++) {
    await add();
    if (round % 7 === 3) for (const link of proxies[round % proxies.length].standing) link.reset();
    if (round === 25) {
      const victim = servers[servers.length - 1];
      await victim.stop('SIGKILL');
      if (!mesh) await victim.run();
      else { for (let n = 0; n < 10; n++) await add(); await victim.run(); await mesh.ready(mesh.nodes.indexOf(victim)); }
    }
  }
  for (const got of pages) {
    await got.until(() => got.n === counter.state, `page to show ${counter.state}, it shows ${got.items.slice(-5)}`);
    const wrong = got.items.findIndex((each) => / after /.test(each));
    assert.equal(wrong, -1, got.items.slice(0, wrong + 3).join());
  }
});

test('pages that join and leave, are cut off anywhere, and load states of before, while events come', async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, server.port);
  const hub = backend(server);
  const history = [{ n: 0, position: null }];
  const add = async () => {
    const n = history.length;
    const { channels } = await (await hub.trigger('match.1', 'added', { n }, { info: 'position' })).json();
    history.push({ n, position: channels['match.1'].position });
  };
  await add();
  const pages = Array.from({ length: 8 }, (_, i) => {
    let calls = i;
    const load = async () => {
      const kept = history[Math.max(1, history.length - 1 - (calls++ % 5))];
      await pause((calls * 7) % 12);
      return kept;
    };
    return withReplay(client(t, { port: proxy.port }), { load });
  });
  let shown = pages.map((pusher) => follow(pusher.subscribe('match.1')));
  const all = [...shown];
  for (let n = 1; n < 500; n++) {
    await add();
    if (n % 11 === 0) {
      const i = (n / 11) % pages.length;
      const before = pages[i].channel('match.1');
      before.unbind();
      pages[i].unsubscribe('match.1');
      all.push(shown[i] = follow(pages[i].subscribe('match.1')));
    }
    if (n % 60 === 30) for (const link of [...proxy.links].filter((_, i) => i % 2)) link.reset();
  }
  for (const got of shown) await got.until(() => got.n === history.length - 1, 'all pages to show all');
  for (const got of all) {
    const wrong = got.items.findIndex((each) => / after /.test(each));
    assert.equal(wrong, -1, got.items.slice(0, wrong + 3).join());
  }
});
