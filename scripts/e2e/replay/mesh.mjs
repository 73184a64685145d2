// One round of trouble with a cluster: does a list of steps, one after the other, to
// real nodes with a network between them that can be cut. As in storage.mjs, a step
// says in `do` which of the methods below is called with the rest of it, whatever is
// left out has a default, and any part of a list is a list.
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { backend } from '../lib/clients.mjs';
import { isReady, Mesh, PATIENCE as FORMING, steadyPort } from '../lib/mesh.mjs';
import { connect } from '../lib/raw.mjs';
import { app } from '../lib/server.mjs';
import { pause, within } from '../lib/wait.mjs';
import { check, History, Published } from './checker.mjs';
import { Disk } from './disk.mjs';
import { Room } from './members.mjs';
import { Proxy } from './proxy.mjs';
import { AWAY, compact, PATIENCE, until, userOf } from './scene.mjs';
import { Steps } from './steps.mjs';
import { Wire } from './wire.mjs';

const ROOM = 'presence-room';

export const CHANNELS = ['public', 'private-chat', ROOM];

// settings of all nodes: nothing is over a limit.
const settings = { 'retention-events': 100_000, 'max-queued-bytes': '64MiB' };
const limits = { event_data_bytes: 131_072, replay_events: 100_000, replay_bytes: 67_108_864 };

// SETTLE is how long a step waits for clients and nodes. What is still missing at
// the end of the round is a problem, and not before.
const SETTLE = 10_000;

// AGREE is how long it may take until all nodes know who is where: a dead one is one for
// 5 s, and what was lost on the way is looked for each 10 s.
const AGREE = 20_000;

// CALL is how long a publish may take, longer than publish_timeout. A node that is not
// ready may not answer at all.
const CALL = 20_000;

// REFUSALS in a row end a step that publishes.
const REFUSALS = 3;

// SLOW is when a publish, in ms, is worth a note.
const SLOW = 150;

// LEADS is what a node says of a stream of events that it leads from now on.
const LEADS = /new stream leader for '\$G > EVENTS-/;

// MEGABYTES is how large a disk is that can be full.
const MEGABYTES = 64;

// PAGE is how many events of the log are read at once.
const PAGE = 1000;

// small are the steps that do no harm to nodes.
const small = new Set(['setup', 'join', 'knockAlong', 'publishAlong', 'publish', 'break', 'away', 'back', 'pause', 'everybody']);

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
    round.publishing = round.knocking = false;
    round.keepLogs();
    await round.end();
  }
  return round;
}

// endedWell says whether a server may end with a status, or by a signal, when it was sent
// SIGTERM: log is what it said in its last life, filled that its disk was full.
export function endedWell(by, { log, filled }) {
  // One that has just been started and has said nothing yet does not know of signals.
  if (by === 'SIGTERM') return log.length === 0;
  // What it had to store failed, and it had no time to mend that.
  if (by === 1 && filled) return log.some((line) => /level=ERROR msg="the server did not stop cleanly".* the NATS server had failed: /.test(line));
  return by === 0;
}

// compare returns what is wrong with a log, a list of numbers: with what of it was
// answered 200, with who published what (by number), and with what clients saw,
// {history, seen}. mayMiss says for which reasons they may have been told of a gap.
export function compare(log, published, by, clients, mayMiss) {
  const problems = [];
  const places = new Map();
  log.forEach((n, i) => {
    if (places.has(n)) problems.push(`${n} is twice in the log`);
    else places.set(n, i + 1);
  });
  const lost = published.fate.flatMap((what, n) => (what === 'stored' && !places.has(n) ? [n] : []));
  if (lost.length > 0) problems.push(`${lost} answered 200 and not in the log`);
  problems.push(...outOfOrder(published, by, places));
  // What is in the log is owed to all, whatever was answered.
  const truth = new Published();
  for (let i = 0; i < log.length; i++) truth.stored(truth.begin());
  published.excluded.forEach((who, n) => { if (places.has(n)) truth.excluded[places.get(n)] = who; });
  for (const { history, seen } of clients) {
    const wrong = compareOne(history, seen, truth, places);
    for (const { gap } of seen.filter((e) => e.gap && e.gap !== AWAY && !mayMiss(e.gap))) wrong.push(`${history.kind} ${history.client}: gap, ${gap}`);
    problems.push(...wrong.map((problem) => `${problem}\n    saw ${compact(seen)}`));
  }
  return problems;
}

// outOfOrder: what one has published, in one call or in several one after the other, and
// was answered is in the log in this order.
function outOfOrder(published, by, places) {
  const problems = [];
  const newest = new Map();
  published.fate.forEach((what, n) => {
    if (what !== 'stored' || !places.has(n)) return;
    const before = newest.get(by[n]) ?? { at: 0 };
    const at = places.get(n);
    if (at < before.at) problems.push(`${n} is out of order in the log: before ${before.n}, by ${by[n]}`);
    else newest.set(by[n], { n, at });
  });
  return problems;
}

// compareOne checks what one client saw, with the places in the log in the place of
// numbers.
function compareOne(history, seen, truth, places) {
  const wrong = [];
  const placed = new History(history.client, history.kind);
  const owed = [...places].filter(([n]) => n >= history.from).map(([, at]) => at);
  placed.begin(Math.min(places.size + 1, ...owed));
  placed.seen = seen.flatMap((entry) => {
    if (entry.n === undefined) return [entry];
    if (places.has(entry.n)) return [{ ...entry, n: places.get(entry.n) }];
    wrong.push(`${history.kind} ${history.client}: ${entry.n} was never published: it is not in the log`);
    return [];
  });
  const numbers = [undefined, ...places.keys()];
  wrong.push(...check(truth, placed).map((problem) => `${problem} (places, of the numbers ${[...new Set(problem.match(/\d+/g))].slice(1, 6).map((place) => `${place}: ${numbers[place]}`)})`));
  return wrong;
}

class MeshRound extends Steps {
  constructor(steps) {
    super(undefined, CHANNELS, SETTLE);
    Object.assign(this, { steps, frozen: new Set(), ending: new Set(), wires: [], publishers: [], stalls: new Map(), gaps: new Map(), fault: 'none', lacks: 0, knocks: 0 });
    // by[channel][n] is who published a number: what one publishes keeps its order.
    this.by = new Map(CHANNELS.map((name) => [name, []]));
    this.room = new Room(this.found);
  }

  async run() {
    const first = this.steps.find((step) => step.do === 'setup') ?? {};
    const args = Object.entries({ ...settings, ...first.settings }).map(([name, value]) => `--${name}=${value}`);
    const { wires } = this;
    // Nodes tell each other of nodes, and would go round the wires: nobody is there.
    const nowhere = await steadyPort();
    if (first.disk !== undefined) this.disk = await Disk.make(MEGABYTES);
    this.mesh = await Mesh.prepare(undefined, {
      size: first.size ?? 3, args: [...args, '--cluster-advertise', `127.0.0.1:${nowhere}`], apps: [{ ...app, limits, subscription_counts: true }],
      ownOf: (i) => (this.disk && i === first.disk ? { dataDir: this.disk.dataDir, through: this.disk.through } : {}),
      // Each node reaches each other over a wire of its own.
      peersOf: (i, ports) => Promise.all(ports.map(async (port, j) => {
        if (i === j) return port;
        const wire = await Wire.start(this.t, port, [i, j]);
        wires.push(wire);
        return wire.port;
      })),
    });
    const round = this;
    this.server = { get port() { return round.usable[0]?.port ?? round.mesh.nodes[0].port; } };
    await this.mesh.run();
    for (const step of this.steps) {
      this.note(JSON.stringify(step));
      if (!small.has(step.do)) this.fault = [step.do, step.signal ?? step.how, step.node === 'leader' && step.node].filter(Boolean).join(' ');
      await this[step.do](step);
      if (!this.majority) this.lacks++;
    }
    this.note('everything is well again');
    await this.free();
    this.heal();
    await this.wellAgain();
    this.room.peace();
    this.fault = 'none';
    for (const client of this.proxies.keys()) this.back({ client });
    this.publishing = this.knocking = false;
    await within(Promise.all(this.publishers), 'the publishers to end', PATIENCE);
    await this.finish();
    await this.judge();
    await this.judgeMembers();
  }

  async end() {
    await super.end();
    await this.mesh?.destroy();
    await this.disk?.remove();
  }

  get nodes() { return this.mesh.nodes; }

  // node is one of them: by its number, or the one that leads.
  node(i = 0) { return i === 'leader' ? this.leader : this.nodes[i % this.nodes.length]; }

  // leader is the node that has last said that it leads a stream of events. In rounds that
  // ask for it they have one stream and tell much (see setup of mesh-plan.mjs).
  get leader() {
    const last = ({ log = [] }) => log.findLast((line) => LEADS.test(line))?.match(/time=(\S+)/)[1] ?? '';
    return this.nodes.reduce((newest, node) => (last(node) > last(newest) ? node : newest));
  }

  // nodeOf is the node that a client is connected to.
  nodeOf(client) {
    const port = this.proxies.get(client)?.standing.at(-1)?.port;
    return this.nodes.find((node) => node.port === port);
  }

  harm(node) { node.harmed = (node.harmed ?? 0) + 1; }

  wiresOf(node) { return this.wires.filter(({ ends }) => ends.includes(this.nodes.indexOf(node))); }

  // usable are the nodes that take connections.
  get usable() { return this.nodes.filter((node) => node.running && node.ready && !this.frozen.has(node)); }

  // majority: most nodes are usable, and reach each other.
  get majority() {
    const here = (node) => this.usable.includes(node);
    const pairs = (node) => this.nodes.filter((other, j) => here(other) && other !== node && this.between(this.nodes.indexOf(node), j).every(({ cut }) => !cut));
    return this.nodes.some((node) => here(node) && 1 + pairs(node).length > this.nodes.length / 2);
  }

  // joined: all nodes that run reach each other.
  get joined() { return this.frozen.size === 0 && this.wires.every((wire) => !wire.cut); }

  // whole: all nodes run and reach each other.
  get whole() { return this.nodes.every((node) => node.running) && this.joined; }

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

  async pusher(kind, name, port) {
    const joined = super.pusher(kind, name, port);
    const { connection } = this.pushers.at(-1);
    const view = this.room.follow(name, userOf(name));
    connection.bind('message', ({ event, channel, data }) => { if (channel === ROOM) view.take(event, data); });
    connection.bind('state_change', ({ current }) => { if (current !== 'connected') view.end(); });
    await joined;
  }

  // publishAlong has somebody publish on each node until the end of the round.
  publishAlong({ ms = 20, batch = 1 }) {
    if (this.publishing) return;
    this.publishing = true;
    this.publishers.push(...this.nodes.map(async (node, i) => {
      const hub = backend(node, { timeout: CALL });
      for (let turn = i; this.publishing; turn++) {
        const sent = await this.send(hub, this.channels[turn % this.channels.length], turn % 7 ? 1 : batch, { by: node.name, node });
        await pause(sent ? ms : 50);
      }
    }));
  }

  // knockAlong has somebody connect to each node until the end of the round, who must be
  // let in by those that nothing is done to.
  knockAlong({ ms = 20 }) {
    if (this.knocking) return;
    this.knocking = true;
    this.publishers.push(...this.nodes.map(async (node) => {
      for (; this.knocking; await pause(ms)) {
        const { harmed } = node;
        const open = () => this.usable.includes(node) && !this.ending.has(node) && node.harmed === harmed;
        if (!open()) continue;
        const { socket, socketId } = await connect(node.port);
        socket.destroy();
        this.knocks++;
        if (!socketId && open()) this.found.push(`${node.name}: a connection was refused`);
      }
    }));
  }

  // publish publishes events on a channel through one node, one call after the other.
  // except is a client that must not get them.
  async publish({ node = 0, channel = CHANNELS[0], events = 1, bytes, batch = 1, except }) {
    const hub = backend(this.node(node), { timeout: CALL });
    const options = { bytes, except: this.pushers.find((each) => each.reechoName === except), by: `steps ${node}`, node: this.node(node) };
    for (let refused = 0, sent = 0; sent < events && refused < REFUSALS; sent += batch) {
      refused = await this.send(hub, channel, Math.min(batch, events - sent), options) ? 0 : refused + 1;
    }
  }

  async send(hub, channel, count, options = {}) {
    const first = this.published.get(channel).next;
    const began = performance.now();
    // A node that starts, is frozen or does not reach all others lets its callers wait, and
    // all do where there is no majority: of interest is who calls the others.
    const { node } = options;
    const { harmed } = node ?? {};
    const { lacks } = this;
    const counts = this.majority && (!node || (this.usable.includes(node) && !this.ending.has(node) && this.wiresOf(node).every(({ cut }) => !cut)));
    for (let n = first; n < first + count; n++) this.by.get(channel)[n] = options.by;
    const sent = await super.send(hub, channel, count, options);
    const took = performance.now() - began;
    if (!counts || node?.harmed !== harmed || this.lacks !== lacks || !this.majority) return sent;
    if (took > SLOW) this.note(`publish ${channel} ${first} at ${node?.name} took ${Math.round(took)} ms`);
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

  async stop({ node, signal = 'SIGKILL' }) {
    const one = this.node(node);
    if (this.frozen.has(one)) this.thaw(one);
    if (!one.running) return;
    one.stopping = true;
    this.harm(one);
    this.ending.add(one);
    const [status, by] = await one.stop(signal);
    this.ending.delete(one);
    if (signal === 'SIGTERM' && !endedWell(status ?? by, one)) this.found.push(`${one.name}: the server ended with ${status ?? by}, not as it should:\n${one.log.slice(-20).join('\n')}`);
    this.keepLogs();
  }

  // lose ends the node of the first of some clients. Those of them that are connected to
  // it stay away, and the others are told, within a while, of users of whom nobody is left.
  async lose({ signal = 'SIGKILL', clients = [] }) {
    const here = clients.filter((client) => !this.held.has(client) && this.nodeOf(client));
    const one = this.nodeOf(here[0]);
    if (!one?.running || this.frozen.has(one)) return;
    const staying = here.filter((client) => this.nodeOf(client) === one);
    for (const client of staying) {
      this.proxies.get(client).hold();
      this.held.add(client);
    }
    // A connection that is half open is one.
    const left = new Set([...this.proxies].filter(([client, { links }]) => !staying.includes(client) && (links.size > 0 || !this.held.has(client))).map(([client]) => userOf(client)));
    const lost = new Set(staying.map(userOf).filter((user) => !left.has(user)));
    this.note(`${one.name} ends, ${staying} stay away, of ${[...lost]} nobody is left`);
    this.room.lose(lost, signal);
    await this.stop({ node: this.nodes.indexOf(one), signal });
    if (this.room.troubled) this.room.find();
    if (!await until(() => this.room.unaware().length === 0, SETTLE)) {
      for (const { client, told } of this.room.unaware()) this.found.push(`member ${client}: is not told that one of ${[...lost]} is gone\n    was told ${told.slice(-100).join(' ')}`);
    }
    this.room.find();
  }

  // start starts a node, or all, that does not run.
  async start({ node }) {
    const ended = (node === undefined ? this.nodes : [this.node(node)]).filter((one) => !one.running);
    await Promise.all(ended.map((one) => one.launch()));
    if (ended.length > 0) await this.settle();
  }

  async restart({ node, signal = 'SIGKILL', ms = 0 }) {
    const number = this.nodes.indexOf(this.node(node));
    await this.stop({ node: number, signal });
    await pause(ms);
    await this.start({ node: number });
  }

  // replace ends a node and starts it again with nothing in its folder, as one with a
  // new disk.
  async replace({ node, ms = 0 }) {
    const one = this.node(node);
    await this.stop({ node: this.nodes.indexOf(one) });
    await rm(one.options.dataDir ? this.disk.data : path.join(one.dir, 'data'), { recursive: true, force: true });
    await pause(ms);
    await this.start({ node: this.nodes.indexOf(one) });
  }

  // fill leaves only some bytes of the disk of the node that has one of its own.
  async fill({ left = 0 }) {
    if (!this.disk) return;
    this.nodes.find(({ options }) => options.dataDir).filled = true;
    await this.disk.fill(left);
  }

  async free() { await this.disk?.free(); }

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
    this.harm(one);
    this.room.trouble();
    one.child.kill('SIGSTOP');
    this.frozen.add(one);
    await pause(ms);
    this.thaw(one);
  }

  thaw(one) {
    one.child.kill('SIGCONT');
    this.frozen.delete(one);
    if (this.joined) this.room.peace();
  }

  between(a, b) { return this.wires.filter(({ ends }) => (ends[0] === a && ends[1] === b) || (ends[0] === b && ends[1] === a)); }

  // cut severs two nodes from each other; how is that of a wire, or 'mute': b does not hear
  // a, which hears b.
  cut({ a = 0, b = 1, how = 'silence' }) {
    this.room.trouble();
    for (const node of [a, b]) this.harm(this.node(node));
    for (const wire of this.between(a, b)) wire.sever(how, how === 'mute' ? a : undefined);
  }

  // isolate severs one node from all others; 'deaf': it does not hear them, 'mute': they
  // do not hear it.
  isolate({ node, how = 'silence' }) {
    const one = this.node(node);
    this.harm(one);
    this.room.trouble();
    const number = this.nodes.indexOf(one);
    for (const wire of this.wiresOf(one)) wire.sever(how, { mute: number, deaf: wire.ends.find((end) => end !== number) }[how]);
  }

  // slow makes the network between two nodes slow, or between one and all others.
  slow({ node, a = 0, b = 1, ms = 1 }) {
    for (const wire of node === undefined ? this.between(a, b) : this.wiresOf(this.node(node))) wire.delay = ms;
  }

  heal() {
    for (const node of this.frozen) this.thaw(node);
    for (const wire of this.wires) {
      wire.delay = 0;
      if (wire.cut) wire.heal();
    }
    this.room.peace();
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

  async pause({ ms = 500 }) { await pause(ms); }

  // judge compares the logs of all nodes with each other, with what was answered 200,
  // and with what the clients saw.
  async judge() {
    const seen = this.histories.map(({ channel, history }) => ({ channel, history, seen: [...history.seen] }));
    for (const channel of this.channels) {
      const log = await this.logOf(channel);
      const problems = compare(log, this.published.get(channel), this.by.get(channel), seen.filter((of) => of.channel === channel), (gap) => this.mayMiss(gap));
      this.found.push(...problems.map((problem) => `${channel}: ${problem}`));
    }
    for (const { gap } of seen.flatMap((of) => of.seen).filter((entry) => entry.gap)) this.gaps.set(gap, (this.gaps.get(gap) ?? 0) + 1);
  }

  // judgeMembers compares, now that all is quiet, who is on the channels as clients and
  // nodes have it, and looks at what clients were told on the way.
  async judgeMembers() {
    const began = performance.now();
    let problems;
    await until(async () => {
      problems = [...this.room.differing(), ...await this.miscounted()];
      return problems.length === 0;
    }, AGREE);
    this.agreed = performance.now() - began;
    this.found.push(...problems.map((problem) => `members and counts: ${problem}`));
    this.room.judge();
  }

  // miscounted is what clients and nodes say of who is on the channels, where that is
  // not who is there.
  async miscounted() {
    const wrong = [];
    const expect = (who, what, have, want) => { if (have !== want) wrong.push(`${who}: ${what} is ${have}, not ${want}`); };
    const users = [...this.room.users].sort().join();
    for (const channel of this.channels) {
      const count = this.histories.filter((of) => of.channel === channel).length;
      for (const node of this.nodes) {
        const get = async (path, params) => (await backend(node, { timeout: PATIENCE }).get({ path, params })).json();
        const { subscription_count: subscriptions } = await get(`/channels/${channel}`, { info: 'subscription_count' });
        expect(node.name, `subscription_count of ${channel}`, subscriptions, count);
        if (channel === ROOM) expect(node.name, 'users', (await get(`/channels/${channel}/users`)).users.map(({ id }) => id).sort().join(), users);
      }
      if (channel === ROOM) continue;
      for (const pusher of this.pushers) expect(pusher.reechoName, `subscription_count of ${channel}`, pusher.channel(channel).subscriptionCount, count);
    }
    return wrong;
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
