// What all rounds have: clients of all kinds, a backend that publishes numbers to
// a few channels, and what each client saw of them.
import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { withReplay } from '../../../replay/client/replay.mjs';
import { backend, client } from '../lib/clients.mjs';
import { app } from '../lib/server.mjs';
import { pause } from '../lib/wait.mjs';
import { check, History, Published } from './checker.mjs';
import { EventSource } from './eventsource.mjs';

// PATIENCE is longer than stock pusher-js waits after a try that failed.
export const PATIENCE = 60_000;

// LAST is how many last numbers are published while somebody is told of a gap.
const LAST = 5;

// until waits for a true result of test, and returns false when patience ends.
export async function until(test, patience = PATIENCE) {
  for (const end = Date.now() + patience; !await test();) {
    if (Date.now() > end) return false;
    await pause(10);
  }
  return true;
}

// AWAY is the reason of the gap that a client has which does not ask for what it missed.
export const AWAY = 'away';

// userOf is who a client is: stock-ada-1 and stock-ada-2 are ada, others have nobody else.
export const userOf = (name) => (name.startsWith('stock-') ? name.split('-')[1] : name);

// filler makes the data of an event larger, in a way that shows whether it is
// still what it was.
const filler = (n, bytes) => (bytes ? `${n}.`.repeat(Math.ceil(bytes / `${n}.`.length)).slice(0, bytes) : undefined);

export class Scene {
  constructor(server, channels) {
    Object.assign(this, { server, channels, log: [], found: [], done: [], histories: [], pushers: [], started: Date.now() });
    this.published = new Map(channels.map((name) => [name, new Published()]));
    // t is what the clients are made with: what is to be done in the end.
    this.t = { after: (fn) => this.done.push(fn) };
  }

  note(text) { this.log.push(`${Date.now() - this.started} ms ${text}`); }

  async end() {
    for (const fn of this.done.reverse()) await fn();
  }

  history(kind, name, channel) {
    const history = new History(name, kind);
    this.histories.push({ channel, history });
    return history;
  }

  // pusher makes a stock pusher-js client, with the plugin, a session or neither, and
  // resolves when it has joined all channels.
  async pusher(kind, name, port) {
    const more = { plugin: { plugin: withReplay }, session: { wsPath: `/session/${randomUUID()}` } };
    const pusher = client(this.t, { port }, { activityTimeout: 1000, pongTimeout: 1000, user: { id: userOf(name) }, ...more[kind] });
    pusher.reechoName = name;
    this.pushers.push(pusher);
    pusher.connection.bind('state_change', ({ current }) => this.note(`${name} is ${current}`));
    await Promise.all(this.channels.map((channelName) => new Promise((resolve) => {
      const history = this.history(kind, name, channelName);
      const channel = pusher.subscribe(channelName);
      channel.bind('pusher:subscription_succeeded', () => {
        if (history.from === undefined) history.begin(this.published.get(channelName).next);
        else history.seen.push(...(kind === 'stock' ? [{ gap: AWAY }] : []), { reconnect: true });
        resolve();
      });
      channel.bind('pusher:subscription_error', (error) => this.note(`${name} may not join ${channelName}: ${JSON.stringify(error)}`));
      for (const event of ['n', 'reecho:gap', 'reecho:resumed']) channel.bind(event, (data) => this.saw(history, event, data));
    })));
  }

  saw(history, event, data) {
    if (event === 'n') history.seen.push({ n: data.n, ...(data.filler === filler(data.n, data.filler?.length) ? {} : { damaged: true }) });
    if (event === 'reecho:gap') history.seen.push({ gap: data.reason });
    if (event === 'reecho:resumed') history.seen.push({ resumed: data.events });
  }

  // stream makes a reader of an event stream of all channels but those with
  // members, and resolves when it has joined them. As a page should, it begins a
  // new stream where the old one was when that has ended for good.
  async stream(name, port) {
    const channels = this.channels.filter((channel) => !channel.startsWith('presence-'));
    const byChannel = new Map(channels.map((channel) => [channel, this.history('stream', name, channel)]));
    let source;
    let ended = false;
    this.t.after(() => {
      ended = true;
      source?.close();
    });
    const open = async (lastEventId) => {
      try {
        source = new EventSource(await this.streamURL(channels, port), { agent: new http.Agent({ keepAlive: false }), lastEventId });
      } catch {
        if (!ended) setTimeout(() => open(lastEventId), 200);
        return;
      }
      if (ended) source.close();
      source.onmessage = ({ data }) => {
        const { event, channel, data: text } = JSON.parse(data);
        this.saw(byChannel.get(channel), event, JSON.parse(text));
      };
      source.onerror = (error) => {
        this.note(`${name}: ${error.message}`);
        if (source.closed && !ended) setTimeout(() => open(source.lastEventId), 200);
      };
    };
    await open('');
    // Subscribed to all when the cursor names all.
    await until(() => source?.lastEventId.split('~').length >= 2 + channels.length);
    for (const channel of channels) byChannel.get(channel).begin(this.published.get(channel).next);
  }

  async streamURL(channels, port) {
    const base = `http://127.0.0.1:${this.server.port}/app/${app.key}/events`;
    const { socket_id: socketId } = await (await fetch(`${base}/socket_id`)).json();
    const query = new URLSearchParams({ socket_id: socketId });
    const signer = backend({ port: 1 });
    for (const channel of channels) {
      query.append('channel', channel);
      if (channel.startsWith('private-')) query.append(`auth[${channel}]`, signer.authorizeChannel(socketId, channel).auth);
    }
    return `http://127.0.0.1:${port}/app/${app.key}/events?${query}`;
  }

  // send publishes the next numbers of a channel in one call, and says whether
  // it was answered 200. except is the client who must not get them, bytes how
  // large each is.
  async send(hub, channel, count, { except, bytes } = {}) {
    const published = this.published.get(channel);
    const numbers = Array.from({ length: count }, () => published.begin());
    const data = (n) => ({ n, filler: filler(n, bytes) });
    const socketId = except?.connection.socket_id;
    if (socketId) published.excluded[numbers[0]] = { clients: new Set([except.reechoName]) };
    try {
      if (count === 1) await hub.trigger(channel, 'n', data(numbers[0]), socketId ? { socket_id: socketId } : undefined);
      else await hub.triggerBatch(numbers.map((n) => ({ channel, name: 'n', data: data(n) })));
    } catch (error) {
      this.note(`publish ${channel} ${numbers}: ${error.status ?? ''} ${error.body ?? error.message ?? error}`);
      this.refused(error);
      return false;
    }
    numbers.forEach((n) => published.stored(n));
    // A plugin that was on this socket all the time will never get it.
    if (socketId && except.connection.state === 'connected' && except.connection.socket_id === socketId && except.reechoName.startsWith('plugin')) {
      published.excluded[numbers[0]].never = except.reechoName;
    }
    return true;
  }

  // refused is told why a publish was not answered 200.
  refused() {}

  // missing lists who has not seen the newest number of a channel that is stored
  // and owed to them, and was not told of a gap since.
  missing(channel) {
    const { fate, excluded } = this.published.get(channel);
    return this.histories.filter(({ channel: of, history }) => {
      if (of !== channel || history.from === undefined || inGap(history)) return false;
      const n = fate.findLastIndex((what, i) => what === 'stored' && !excluded[i]?.clients.has(history.client));
      return n >= history.from && !history.seen.some((e) => e.n === n);
    }).map(({ history }) => history);
  }

  // finish publishes last numbers on each channel until everybody has one. Of the
  // first it may be said that it was missed: to who was not back yet.
  async finish() {
    const hub = backend(this.server);
    for (const channel of this.channels) {
      let waiting = this.histories.filter((h) => h.channel === channel).map(({ history }) => history);
      const silent = [];
      for (let i = 0; i === 0 || (i < LAST && waiting.length > 0); i++) {
        const from = new Map();
        const sent = await until(async () => {
          for (const history of waiting) from.set(history, history.seen.length);
          return await this.send(hub, channel, 1) || pause(100);
        });
        if (!sent) throw new Error(`nothing can be published on ${channel}`);
        const last = this.published.get(channel).next - 1;
        const news = (history) => history.seen.slice(from.get(history)).findLast((e) => e.n === last || e.gap);
        await until(() => waiting.every(news));
        silent.push(...waiting.filter((history) => !news(history)));
        // Who was told of a gap waits for the next number.
        waiting = waiting.filter((history) => news(history)?.gap);
      }
      for (const history of [...waiting, ...silent]) this.found.push(`${channel}: ${history.kind} ${history.client}: no last number came\n    saw ${compact(history.seen)}`);
    }
  }

  // problems are those found, and what is wrong with what the clients saw. mayMiss
  // says whether a gap for a reason is to be expected.
  problems(mayMiss) {
    const found = [...this.found];
    for (const { channel, history } of this.histories) {
      const published = this.published.get(channel);
      const wrong = check(published, history);
      for (const { gap } of history.seen.filter((e) => e.gap && !mayMiss(e.gap))) wrong.push(`${history.kind} ${history.client}: gap, ${gap}`);
      for (const problem of wrong) found.push(`${channel}: ${problem}\n    saw ${compact(history.seen)}`);
    }
    return found;
  }

  get entries() { return this.histories.reduce((n, { history }) => n + history.seen.length, 0); }
}

// inGap: a gap was the last that a client was told.
const inGap = (history) => history.seen.findLast((e) => e.n || e.gap)?.gap !== undefined;

export function compact(seen) {
  return seen.slice(-400).map((e) => e.n ?? (e.gap ? `gap(${e.gap})` : e.reconnect ? '|' : e.copy ? `copy(${e.copy})` : `resumed(${e.resumed})`)).join(' ');
}
