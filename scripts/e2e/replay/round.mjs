// One round of trouble: clients of all kinds behind a proxy that breaks their
// connections, a backend that publishes, sometimes a server that is restarted or
// killed. All that is random comes from the seed.
import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { withReplay } from '../../../replay/client/replay.mjs';
import { backend, client } from '../lib/clients.mjs';
import { app } from '../lib/server.mjs';
import { within } from '../lib/wait.mjs';
import { check, History, Published } from './checker.mjs';
import { EventSource } from './eventsource.mjs';
import { Proxy } from './proxy.mjs';

// Longer than stock pusher-js waits after a try that failed.
const PATIENCE = 60_000;

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

// random makes a generator (mulberry32) with the draws a round needs.
export function random(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return { next, below: (n) => Math.floor(next() * n), chance: (p) => next() < p, pick: (list) => list[Math.floor(next() * list.length)] };
}

export class Round {
  // trouble is what the server may suffer: 'none', 'restart' or 'kill'.
  constructor(server, seed, trouble) {
    Object.assign(this, { server, seed, trouble, rng: random(seed), log: [], done: [], histories: [], started: Date.now() });
    this.channels = [`r${seed}.public`, `private-r${seed}.chat`];
    this.published = new Map(this.channels.map((name) => [name, new Published()]));
  }

  note(text) { this.log.push(`${Date.now() - this.started} ms ${text}`); }

  // run returns the problems found.
  async run() {
    const t = { after: (fn) => this.done.push(fn) };
    try {
      this.proxy = await Proxy.start(t, this.server.port);
      await Promise.all([
        this.pusher(t, 'plugin'), this.pusher(t, 'plugin'), this.pusher(t, 'session'), this.stream(t),
      ].map((ready) => within(ready, 'the first subscriptions', PATIENCE)));
      this.publishing = true;
      const publishers = this.channels.map((name) => this.publish(name));
      await this.misfortune();
      this.publishing = false;
      await Promise.all(publishers);
      this.proxy.heal();
      await this.finish();
      return this.problems();
    } finally {
      this.publishing = false;
      for (const fn of this.done.reverse()) await fn();
    }
  }

  history(kind, name, channel) {
    const history = new History(name, kind);
    this.histories.push({ channel, history });
    return history;
  }

  // pusher makes a stock pusher-js client, with the plugin or a session.
  async pusher(t, kind) {
    const name = `${kind}-${this.histories.length}`;
    const options = { activityTimeout: 1000, pongTimeout: 1000 };
    const pusher = kind === 'plugin'
      ? client(t, { port: this.proxy.port }, { ...options, plugin: withReplay })
      : client(t, { port: this.proxy.port }, { ...options, wsPath: `/session/${randomUUID()}` });
    pusher.reechoName = name;
    (this.pushers ??= []).push(pusher);
    pusher.connection.bind('state_change', ({ current }) => this.note(`${name} is ${current}`));
    await Promise.all(this.channels.map((channelName) => new Promise((resolve) => {
      const history = this.history(kind, name, channelName);
      const channel = pusher.subscribe(channelName);
      channel.bind('pusher:subscription_succeeded', () => {
        if (history.from === undefined) history.begin(this.published.get(channelName).next);
        else history.seen.push({ reconnect: true });
        resolve();
      });
      this.bind(channel, history);
    })));
  }

  bind(channel, history) {
    channel.bind('n', ({ n }) => history.seen.push({ n }));
    channel.bind('reecho:gap', ({ reason }) => history.seen.push({ gap: reason }));
    channel.bind('reecho:resumed', ({ events }) => history.seen.push({ resumed: events }));
  }

  // stream makes a reader of an event stream of all channels.
  async stream(t) {
    const name = 'stream';
    const base = `http://127.0.0.1:${this.server.port}/app/${app.key}/events`;
    const { socket_id: socketId } = await (await fetch(`${base}/socket_id`)).json();
    const query = new URLSearchParams({ socket_id: socketId });
    const signer = backend({ port: 1 });
    for (const channel of this.channels) {
      query.append('channel', channel);
      if (channel.startsWith('private-')) query.append(`auth[${channel}]`, signer.authorizeChannel(socketId, channel).auth);
    }
    const agent = new http.Agent({ keepAlive: false });
    const source = new EventSource(`http://127.0.0.1:${this.proxy.port}/app/${app.key}/events?${query}`, { agent });
    t.after(() => source.close());
    const byChannel = new Map(this.channels.map((channel) => [channel, this.history('stream', name, channel)]));
    source.onmessage = ({ data }) => {
      const { event, channel, data: text } = JSON.parse(data);
      const history = byChannel.get(channel);
      const value = JSON.parse(text);
      if (event === 'n') history.seen.push({ n: value.n });
      if (event === 'reecho:gap') history.seen.push({ gap: value.reason });
      if (event === 'reecho:resumed') history.seen.push({ resumed: value.events });
    };
    source.onerror = (error) => this.note(`stream: ${error.message}`);
    // Subscribed to all when the cursor names all.
    while (source.lastEventId.split('~').length < 2 + this.channels.length) await pause(5);
    for (const channel of this.channels) byChannel.get(channel).begin(this.published.get(channel).next);
  }

  // publish sends one number after the other, alone or in a batch.
  async publish(channel) {
    const hub = backend(this.server);
    while (this.publishing) {
      await this.publishOnce(hub, channel, this.rng.chance(0.2) ? 1 + this.rng.below(9) : 1);
      if (this.rng.chance(0.5)) await pause(this.rng.below(40));
    }
  }

  async publishOnce(hub, channel, count) {
    const published = this.published.get(channel);
    const numbers = Array.from({ length: count }, () => published.begin());
    // Now and then an event is not for one of the clients.
    const except = count === 1 && this.rng.chance(0.1) ? this.rng.pick(this.pushers) : undefined;
    const socketId = except?.connection.socket_id;
    if (socketId) published.excluded[numbers[0]] = { clients: new Set([except.reechoName]) };
    try {
      if (count === 1) await hub.trigger(channel, 'n', { n: numbers[0] }, socketId ? { socket_id: socketId } : undefined);
      else await hub.triggerBatch(numbers.map((n) => ({ channel, name: 'n', data: { n } })));
      numbers.forEach((n) => published.stored(n));
      // A plugin that was on this socket all the time will never get it.
      if (socketId && except.connection.state === 'connected' && except.connection.socket_id === socketId && except.reechoName.startsWith('plugin')) {
        published.excluded[numbers[0]].never = except.reechoName;
      }
    } catch (error) {
      this.note(`publish ${channel} ${numbers}: ${error.message ?? error}`);
      await pause(20);
    }
  }

  // misfortune does to the connections, and to the server, what can happen.
  async misfortune() {
    const steps = 12 + this.rng.below(14);
    const disaster = this.trouble === 'none' ? -1 : this.rng.below(steps);
    for (let i = 0; i < steps; i++) {
      if (i === disaster) await this.disaster();
      await this.fault();
      await pause(20 + this.rng.below(180));
    }
  }

  async disaster() {
    this.note(this.trouble);
    this.proxy.hold();
    await this.server.stop(this.trouble === 'kill' ? 'SIGKILL' : 'SIGTERM');
    await pause(this.rng.below(200));
    await this.server.run();
    this.note('the server is back');
    this.proxy.release();
  }

  async fault() {
    // A connection that breaks before it stands costs stock pusher-js 15 s.
    const links = [...this.proxy.links].filter((link) => link.stands);
    const link = links.length > 0 ? this.rng.pick(links) : undefined;
    const what = this.rng.pick(['reset', 'drop', 'cut', 'swallow', 'stall', 'hold', 'resetAll', 'nothing', 'nothing']);
    const bytes = 1 + this.rng.below(3000);
    const time = 50 + this.rng.below(400);
    this.note(`${what} ${what === 'cut' ? bytes : what === 'stall' || what === 'swallow' || what === 'hold' ? time : ''}`);
    switch (what) {
      case 'hold':
        this.proxy.hold();
        setTimeout(() => this.proxy.release(), time);
        break;
      case 'resetAll':
        if (this.rng.chance(0.3)) for (const each of links) each.reset();
        break;
      case 'cut':
        link?.cut(bytes);
        break;
      case 'stall':
        link?.stall();
        if (link) setTimeout(() => link.resume(), time);
        break;
      case 'swallow':
        link?.swallow();
        if (link) setTimeout(() => link.reset(), time);
        break;
      case 'reset':
      case 'drop':
        link?.[what]();
        break;
      default:
    }
  }

  // finish publishes a last number on each channel until everybody has it.
  async finish() {
    const hub = backend(this.server);
    for (const channel of this.channels) {
      const published = this.published.get(channel);
      const n = published.begin();
      await hub.trigger(channel, 'n', { n });
      published.stored(n);
      const waiting = () => this.histories.filter((h) => h.channel === channel && !h.history.seen.some((e) => e.n === n));
      const end = Date.now() + PATIENCE;
      while (waiting().length > 0 && Date.now() < end) await pause(10);
      for (const { history } of waiting()) this.note(`${history.kind} ${history.client} never got the last number ${n} of ${channel}`);
    }
  }

  problems() {
    const found = [];
    for (const { channel, history } of this.histories) {
      const published = this.published.get(channel);
      const wrong = check(published, history);
      const last = published.next - 1;
      if (!history.seen.some((e) => e.n === last)) wrong.push(`${history.kind} ${history.client}: the last number ${last} is missing`);
      // Everything is retained here, so nobody has to be told of a gap.
      for (const { gap } of history.seen.filter((e) => e.gap)) wrong.push(`${history.kind} ${history.client}: gap, ${gap}`);
      for (const problem of wrong) found.push(`${channel}: ${problem}\n    saw ${compact(history.seen)}`);
    }
    return found;
  }

  report(problems) {
    return `seed ${this.seed}, ${this.trouble}:\n  ${problems.slice(0, 5).join('\n  ')}\n  ${this.log.slice(-80).join('\n  ')}`;
  }
}

function compact(seen) {
  return seen.slice(-400).map((e) => e.n ?? (e.gap ? `gap(${e.gap})` : e.reconnect ? '|' : `resumed(${e.resumed})`)).join(' ');
}
