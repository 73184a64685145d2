// One round of trouble with a cluster: does a list of steps, one after the other, to
// real nodes with a network between them that can be cut. As in storage.mjs, a step
// says in `do` which of the methods below is called with the rest of it, whatever is
// left out has a default, and any part of a list is a list.
import { backend } from '../lib/clients.mjs';
import { isReady, Mesh, PATIENCE as FORMING } from '../lib/mesh.mjs';
import { app } from '../lib/server.mjs';
import { within } from '../lib/wait.mjs';
import { check, History, Published } from './checker.mjs';
import { Proxy } from './proxy.mjs';
import { compact, PATIENCE, pause, Scene, until } from './scene.mjs';
import { Wire } from './wire.mjs';

export const CHANNELS = ['public', 'private-chat', 'presence-room'];

// settings of all nodes: nothing is over a limit.
const settings = { 'retention-events': 100_000, 'max-queued-bytes': '64MiB' };
const limits = { event_data_bytes: 131_072, replay_events: 100_000, replay_bytes: 67_108_864 };

// SETTLE is how long a step waits for clients and nodes. What is still missing at
// the end of the round is a problem, and not before.
const SETTLE = 10_000;

// PAGE is how many events of the log are read at once.
const PAGE = 1000;

// apart are the steps that can leave a node without a majority.
const apart = new Set(['cut', 'isolate', 'freeze', 'all', 'stop']);

// perform does a list of steps and returns the round, with its problems.
export async function perform(steps) {
  const round = new MeshRound(steps);
  try {
    await within(round.run(), 'the end of a round', 5 * PATIENCE);
  } catch (error) {
    round.found.push(error.stack);
  } finally {
    round.publishing = false;
    round.keepLogs();
    await round.end();
  }
  return round;
}

class MeshRound extends Scene {
  constructor(steps) {
    super(undefined, CHANNELS);
    Object.assign(this, { steps, proxies: new Map(), held: new Set(), frozen: new Set(), wires: [], publishers: [], stalls: new Map(), gaps: new Map(), fault: 'none' });
    // by[channel][n] is who published a number: what one publishes keeps its order.
    this.by = new Map(CHANNELS.map((name) => [name, []]));
  }

  async run() {
    const first = this.steps.find((step) => step.do === 'setup') ?? {};
    const args = Object.entries({ ...settings, ...first.settings }).map(([name, value]) => `--${name}=${value}`);
    const { wires } = this;
    this.mesh = await Mesh.prepare(undefined, {
      size: first.size ?? 3, args, apps: [{ ...app, limits }],
      // Each node reaches each other over a wire of its own.
      peersOf: (i, ports) => Promise.all(ports.map(async (port, j) => {
        if (i === j) return port;
        const wire = await Wire.start(this.t, port);
        wires.push(Object.assign(wire, { ends: [i, j] }));
        return wire.port;
      })),
    });
    const round = this;
    this.server = { get port() { return round.usable[0]?.port ?? round.mesh.nodes[0].port; } };
    await this.mesh.run();
    for (const step of this.steps) {
      this.note(JSON.stringify(step));
      if (!['setup', 'join', 'publishAlong', 'publish', 'break', 'away', 'back', 'pause', 'everybody'].includes(step.do)) this.fault = step.do;
      await this[step.do](step);
    }
    this.note('everything is well again');
    this.heal();
    await this.wellAgain();
    this.fault = 'none';
    for (const client of this.proxies.keys()) this.back({ client });
    this.publishing = false;
    await within(Promise.all(this.publishers), 'the publishers to end', PATIENCE);
    await this.finish();
    await this.judge();
  }

  async end() {
    await super.end();
    await this.mesh?.destroy();
  }

  get nodes() { return this.mesh.nodes; }

  node(i = 0) { return this.nodes[i % this.nodes.length]; }

  // usable are the nodes that take connections.
  get usable() { return this.nodes.filter((node) => node.running && node.ready && !this.frozen.has(node)); }

  // whole: all nodes run and reach each other.
  get whole() { return this.nodes.every((node) => node.running && !this.frozen.has(node)) && this.wires.every((wire) => !wire.cut); }

  // keepLogs looks for what no node may say.
  keepLogs() {
    for (const { name, log = [] } of this.mesh?.nodes ?? []) {
      this.found.push(...log.filter((line) => /panic|\[unexpected\]|has lost events|lost values/.test(line)).map((line) => `${name} says: ${line}`));
    }
  }

  // setup is how the nodes are set up: that has been done.
  setup() {}

  // join brings a client. Each of its connections goes to the next node that takes
  // some, at first to the one named.
  async join({ client, node = 0 }) {
    if (this.proxies.has(client)) return;
    const proxy = await Proxy.start(this.t, () => {
      const count = this.nodes.length;
      for (let i = 0; i < count; i++) {
        const next = this.nodes[proxy.next++ % count];
        if (this.usable.includes(next)) return next.port;
      }
      return undefined;
    });
    proxy.next = node;
    this.proxies.set(client, proxy);
    const [kind] = client.split('-');
    const joined = kind === 'stream' ? this.stream(client, proxy.port) : this.pusher(kind, client, proxy.port);
    await within(joined, `${client} to join`, PATIENCE);
  }

  // publishAlong has somebody publish on each node until the end of the round.
  publishAlong({ ms = 20, batch = 1 }) {
    if (this.publishing) return;
    this.publishing = true;
    this.publishers = this.nodes.map(async (node, i) => {
      const hub = backend(node, { timeout: PATIENCE });
      for (let turn = i; this.publishing; turn++) {
        const sent = await this.send(hub, this.channels[turn % this.channels.length], turn % 7 ? 1 : batch, { by: node.name, node });
        await pause(sent ? ms : 50);
      }
    });
  }

  // publish publishes events on a channel through one node, one call after the other.
  // except is a client that must not get them.
  async publish({ node = 0, channel = CHANNELS[0], events = 1, bytes, batch = 1, except }) {
    const hub = backend(this.node(node), { timeout: PATIENCE });
    const options = { bytes, except: this.pushers.find((each) => each.reechoName === except), by: `steps ${node}`, node: this.node(node) };
    for (let sent = 0; sent < events; sent += batch) await this.send(hub, channel, Math.min(batch, events - sent), options);
  }

  async send(hub, channel, count, options = {}) {
    const first = this.published.get(channel).next;
    const began = performance.now();
    // A node that starts, or is frozen, lets callers wait: that is not the log.
    const counts = !options.node || this.usable.includes(options.node);
    for (let n = first; n < first + count; n++) this.by.get(channel)[n] = options.by;
    const sent = await super.send(hub, channel, count, options);
    const took = performance.now() - began;
    if (!counts || this.frozen.has(options.node)) return sent;
    const stall = this.stalls.get(this.fault) ?? { answered: 0, refused: 0, calls: 0, refusals: 0 };
    const what = sent ? 'answered' : 'refused';
    stall[what] = Math.max(stall[what], took);
    stall.calls++;
    if (!sent) stall.refusals++;
    this.stalls.set(this.fault, stall);
    return sent;
  }

  refused({ status, body }) {
    if (status !== undefined && status !== 503) this.found.push(`a publish was answered ${status} ${body}`);
  }

  // break ends a client's connection; it comes back, to a node of its own choice.
  async break({ client, how = 'reset', bytes = 1, to }) {
    const proxy = this.proxies.get(client);
    if (!proxy || this.held.has(client)) return;
    await until(() => proxy.standing.length > 0, SETTLE);
    if (to !== undefined) proxy.next = to;
    for (const link of proxy.standing) link[how](bytes);
  }

  // away ends it, and the client cannot come back until `back`.
  async away({ client, ...rest }) {
    const proxy = this.proxies.get(client);
    if (!proxy || this.held.has(client)) return;
    await until(() => proxy.standing.length > 0, SETTLE);
    proxy.hold();
    await this.break({ client, ...rest });
    this.held.add(client);
  }

  back({ client, to }) {
    const proxy = this.proxies.get(client);
    if (!proxy) return;
    if (to !== undefined) proxy.next = to;
    if (this.held.delete(client)) proxy.heal();
    else for (const link of proxy.links) link.resume();
  }

  async stop({ node, signal = 'SIGKILL' }) {
    const one = this.node(node);
    if (this.frozen.has(one)) this.thaw(one);
    if (!one.running) return;
    one.stopping = true;
    const [status, by] = await one.stop(signal);
    if (signal === 'SIGTERM' && (status !== 0 || by !== null)) this.found.push(`${one.name}: the server ended with ${status ?? by}, not as it should:\n${one.log.slice(-20).join('\n')}`);
    this.keepLogs();
  }

  async start({ node }) {
    const one = this.node(node);
    if (one.running) return;
    await one.launch();
    await this.settle();
  }

  async restart({ node, signal = 'SIGKILL', ms = 0 }) {
    await this.stop({ node, signal });
    await pause(ms);
    await this.start({ node });
  }

  // rolling restarts one node after the other, each when the one before is ready.
  async rolling({ signal = 'SIGTERM', ms = 0 }) {
    for (const node of this.nodes.keys()) await this.restart({ node, signal, ms });
  }

  // all restarts all nodes at once.
  async all({ signal = 'SIGKILL', ms = 0 }) {
    await Promise.all(this.nodes.map((_, node) => this.stop({ node, signal })));
    await pause(ms);
    await Promise.all(this.nodes.map((node) => node.launch()));
    await this.settle();
  }

  // freeze stops a process for some time: it answers nothing, and closes nothing.
  async freeze({ node, ms = 2000 }) {
    const one = this.node(node);
    if (!one.running || this.frozen.has(one)) return;
    one.child.kill('SIGSTOP');
    this.frozen.add(one);
    await pause(ms);
    this.thaw(one);
  }

  thaw(one) {
    one.child.kill('SIGCONT');
    this.frozen.delete(one);
  }

  between(a, b) { return this.wires.filter(({ ends }) => (ends[0] === a && ends[1] === b) || (ends[0] === b && ends[1] === a)); }

  // cut severs two nodes from each other.
  cut({ a = 0, b = 1, how = 'silence' }) { for (const wire of this.between(a, b)) wire.sever(how); }

  // isolate severs one node from all others.
  isolate({ node = 0, how = 'silence' }) { for (const wire of this.wires) if (wire.ends.includes(node)) wire.sever(how); }

  // slow makes the network between two nodes slow.
  slow({ a = 0, b = 1, ms = 1 }) { for (const wire of this.between(a, b)) wire.delay = ms; }

  heal() {
    for (const node of this.frozen) this.thaw(node);
    for (const wire of this.wires) {
      wire.delay = 0;
      if (wire.cut) wire.heal();
    }
  }

  // settle waits until all nodes are ready, if they can be.
  async settle() {
    if (!this.whole) return;
    await until(async () => (await Promise.all(this.nodes.map(isReady))).every(Boolean), FORMING);
  }

  // wellAgain has all nodes run and be ready.
  async wellAgain() {
    for (const node of this.nodes.filter((each) => !each.running)) {
      if (!node.stopping) this.found.push(`${node.name}: the server ended by itself:\n${node.log.slice(-20).join('\n')}`);
      await node.launch();
    }
    for (const [i, node] of this.nodes.entries()) {
      await within(node.started, `${node.name} to start`, FORMING);
      await this.mesh.ready(i);
    }
  }

  // everybody waits until those who are there have what was published.
  async everybody() {
    const waiting = () => this.channels.flatMap((channel) => this.missing(channel)).filter((history) => !this.held.has(history.client));
    await until(() => waiting().length === 0, SETTLE);
  }

  async pause({ ms = 500 }) { await pause(ms); }

  // judge compares the logs of all nodes with each other, with what was answered 200,
  // and with what the clients saw.
  async judge() {
    const seen = this.histories.map(({ channel, history }) => ({ channel, history, seen: [...history.seen] }));
    for (const channel of this.channels) {
      const log = await this.logOf(channel);
      const published = this.published.get(channel);
      const places = new Map();
      log.forEach((n, i) => {
        if (places.has(n)) this.found.push(`${channel}: ${n} is twice in the log`);
        else places.set(n, i + 1);
      });
      const lost = published.fate.flatMap((what, n) => (what === 'stored' && !places.has(n) ? [n] : []));
      if (lost.length > 0) this.found.push(`${channel}: ${lost} answered 200 and not in the log`);
      this.inOrder(channel, places);
      const truth = new Published();
      for (let i = 0; i < log.length; i++) truth.stored(truth.begin());
      published.excluded.forEach((who, n) => { if (places.has(n)) truth.excluded[places.get(n)] = who; });
      for (const each of seen.filter((of) => of.channel === channel)) this.judgeOne(each, truth, places);
    }
  }

  // inOrder: what one has published in calls that were answered is in the log in the
  // order of these calls.
  inOrder(channel, places) {
    const last = new Map();
    this.published.get(channel).fate.forEach((what, n) => {
      if (what !== 'stored' || !places.has(n)) return;
      const by = this.by.get(channel)[n] ?? 'the end';
      const { n: before, at } = last.get(by) ?? { at: 0 };
      if (places.get(n) < at) this.found.push(`${channel}: ${n} is out of order in the log: before ${before}, by ${by}`);
      last.set(by, { n, at: places.get(n) });
    });
  }

  // judgeOne checks what one client saw, with the places in the log instead of numbers.
  judgeOne({ channel, history, seen }, truth, places) {
    const placed = new History(history.client, history.kind);
    const owed = [...places].filter(([n]) => n >= history.from).map(([, at]) => at);
    placed.begin(Math.min(places.size + 1, ...owed));
    placed.seen = seen.flatMap((entry) => {
      if (entry.n === undefined) return [entry];
      if (places.has(entry.n)) return [{ ...entry, n: places.get(entry.n) }];
      this.found.push(`${channel}: ${history.kind} ${history.client}: ${entry.n} was never published, it is not in the log`);
      return [];
    });
    const wrong = check(truth, placed);
    const numbers = [...places.keys()];
    for (const { gap } of seen.filter((e) => e.gap)) {
      this.gaps.set(gap, (this.gaps.get(gap) ?? 0) + 1);
      if (!this.mayMiss(gap)) wrong.push(`${history.kind} ${history.client}: gap, ${gap}`);
    }
    for (const problem of wrong) this.found.push(`${channel}: ${problem} (places; the log begins ${numbers.slice(0, 3)})\n    saw ${compact(seen)}`);
  }

  // mayMiss: who comes to a node that is without a majority cannot be answered.
  mayMiss(reason) { return reason === 'unavailable' && this.steps.some((step) => apart.has(step.do)); }

  // logOf reads the log of a channel on all nodes, and returns the numbers in it.
  async logOf(channel) {
    const logs = async () => Promise.all(this.nodes.map((node) => this.read(node, channel)));
    let all;
    const same = await until(async () => {
      all = (await logs()).map((events) => JSON.stringify(events));
      return all.every((log) => log === all[0]);
    }, SETTLE).catch((error) => {
      throw new Error(`the log of ${channel} cannot be read: ${error.status ?? ''} ${error.body ?? error.message}`);
    });
    const parsed = all.map((log) => JSON.parse(log));
    if (!same) this.found.push(`${channel}: the log of the nodes differs: ${parsed.map((log, i) => `${this.nodes[i].name} ${log.length} events`)}`);
    return parsed.reduce((longest, log) => (log.length > longest.length ? log : longest)).map(([, n]) => n);
  }

  // read returns [position, number] of all events of a channel.
  async read(node, channel) {
    const hub = backend(node, { timeout: PATIENCE });
    const events = [];
    for (let more = true, after; more;) {
      const answer = await (await hub.get({ path: `/channels/${channel}/events`, params: { limit: PAGE, ...(after ? { after } : {}) } })).json();
      ({ more } = answer);
      after = answer.events.at(-1)?.position ?? after;
      events.push(...answer.events.map(({ position, data }) => [position, JSON.parse(data).n]));
      if (answer.events.length === 0) break;
    }
    return events;
  }

  report() {
    const logs = this.mesh?.log.slice(-1000).filter((line) => !/file descriptors/.test(line)) ?? [];
    return `${this.found.slice(0, 6).join('\n  ')}\n  ${this.log.slice(-100).join('\n  ')}\nthe nodes said:\n  ${logs.slice(-60).join('\n  ')}`;
  }
}
