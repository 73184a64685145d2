// A state that is loaded and the events that follow it never overlap and leave no hole,
// whatever comes between: random rounds over a model of the server and of pusher-js.
//   REECHO_TEST_SEED=17 REECHO_LOAD_ROUNDS=1   a round again
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { firstSeed } from '../../../scripts/e2e/lib/seed.mjs';
import { random } from '../../../scripts/e2e/replay/random.mjs';
import { withReplay } from '../replay.mjs';

const ROUNDS = Number(process.env.REECHO_LOAD_ROUNDS ?? 10_000);
const FIRST = firstSeed('TEST');

// Timers are those of the plugin, which fire when they are told to.
class Timers {
  pending = new Map();
  next = 0;
  set(action) {
    this.pending.set(++this.next, action);
    return this.next;
  }

  fire() {
    for (const [id, action] of [...this.pending]) {
      this.pending.delete(id);
      action();
    }
  }
}

// Log is one channel of a server, whose stream others use, too.
class Log {
  line = 'E0-t';
  lines = ['E0-t'];
  last = 0; // of the stream
  events = []; // all there ever were of this epoch
  trimmed = 0; // what is up to it is gone
  positions = []; // that were ever told

  publish() {
    this.last++;
    this.events.push(this.last);
    return this.last;
  }

  get end() { return this.events.at(-1) ?? 0; }

  at(sequence) {
    const position = `${this.line}-${sequence}`;
    this.positions.push(position);
    return position;
  }

  // after is the sequence of a position that can be gone on from, else undefined.
  after(position) {
    const [, line, digits] = position.match(/(.*)-(\d+)$/) ?? [];
    if (!this.lines.includes(line) || +digits > this.last) return undefined;
    return this.events.some((each) => each > +digits && each <= this.trimmed) ? undefined : +digits;
  }
}

const frame = (event, data, more) => JSON.stringify({ event, channel: 'c', data: JSON.stringify(data), ...more });

// Link is a connection as the server has it; inbox is what is on its way.
class Link {
  constructor(log) { Object.assign(this, { log, inbox: [], subscribed: false }); }

  subscribe({ after }) {
    const { log } = this;
    const from = after === undefined ? log.end : log.after(after);
    this.subscribed = true;
    if (from === undefined) {
      this.inbox.push(frame('pusher_internal:subscription_succeeded', { replay: { complete: false, events: 0, position: log.at(log.end) } }), frame('reecho:gap', { reason: 'x' }));
      return;
    }
    const missed = log.events.filter((each) => each > from);
    this.inbox.push(frame('pusher_internal:subscription_succeeded', { replay: { complete: true, events: missed.length, position: log.at(missed.length ? from : Math.max(from, log.end)) } }));
    if (after !== undefined) this.inbox.push(frame('reecho:resumed', { events: missed.length }));
    for (const each of missed) this.send(each);
  }

  send(sequence) { this.inbox.push(frame('score', sequence, { position: this.log.at(sequence) })); }
}

// Scene is a page with pusher-js, as far as the plugin touches it, and an application.
class Scene {
  constructor(draw, exact, timers) {
    Object.assign(this, { draw, exact, timers, log: new Log(), trail: [], loads: [], allowed: 0, called: 0, failures: 0 });
    const scene = this;
    const bound = {};
    this.manager = {
      state: 'connecting', key: 'k', bind: (event, handler) => { (bound[event] ??= []).push(handler); },
      turn(state) {
        this.state = state;
        if (state !== 'connected') for (const each of Object.values(scene.pusher.channels)) Object.assign(each, { subscribed: false, subscriptionPending: false });
        for (const each of bound[state] ?? []) each();
      },
    };
    this.pusher = {
      key: 'k', connection: this.manager, channels: {},
      channel: (name) => this.pusher.channels[name],
      send_event(event, { replay } = {}) {
        if (scene.manager.state !== 'connected') return false;
        if (event === 'pusher:unsubscribe') scene.link.subscribed = false;
        if (event === 'pusher:subscribe') scene.link.subscribe(replay);
        return true;
      },
      // What is asked for and not answered is taken back when the answer is there.
      subscribe(name) {
        const channel = this.channels[name] ??= scene.channel();
        if (channel.subscriptionPending && channel.subscriptionCancelled) channel.subscriptionCancelled = false;
        else if (!channel.subscriptionPending && scene.manager.state === 'connected') channel.subscribe();
      },
      unsubscribe(name) {
        const channel = this.channels[name];
        if (channel?.subscriptionPending) {
          channel.subscriptionCancelled = true;
          return;
        }
        delete this.channels[name];
        if (channel?.subscribed) channel.unsubscribe();
      },
    };
    withReplay(this.pusher, { load: (channel, options) => this.load(channel, options) });
    this.enter();
  }

  channel() {
    const { pusher } = this;
    const channel = {
      subscribed: false, subscriptionPending: false, subscriptionCancelled: false,
      subscribe() {
        if (this.subscribed) return;
        Object.assign(this, { subscriptionPending: true, subscriptionCancelled: false });
        pusher.send_event('pusher:subscribe', { channel: 'c' });
      },
      unsubscribe() {
        this.subscribed = false;
        pusher.send_event('pusher:unsubscribe', { channel: 'c' });
      },
      emit: (event, data) => channel === pusher.channels.c && this.heard(event, data),
    };
    return channel;
  }

  // enter has the application subscribe.
  enter() {
    Object.assign(this, { inside: true, state: undefined }); // state is how far the application has got, if it has one
    this.allowed++;
    this.pusher.subscribe('c');
  }

  leave() {
    this.inside = false;
    this.pusher.unsubscribe('c');
  }

  connect() {
    if (this.manager.state === 'connected') return;
    this.link = new Link(this.log);
    // What a connection that is over is given goes nowhere.
    const socket = { onmessage: ({ data }) => socket === this.socket && this.message(JSON.parse(data)) };
    Object.assign(this.manager, { connection: { transport: { socket } }, socket_id: `${this.draw.below(1e6)}.1` });
    this.socket = socket;
    // pusher-js subscribes what was not taken back in time, which nobody hears.
    if (!this.inside) delete this.pusher.channels.c;
    this.manager.turn('connected');
    for (const name of Object.keys(this.pusher.channels)) this.pusher.subscribe(name);
  }

  cut(state = 'connecting') {
    this.link = this.socket = undefined;
    this.manager.turn(state);
  }

  // arrive has what is on its way arrive, as far as it goes.
  arrive(most = Infinity) {
    const { link } = this;
    for (let n = 0; n < most && link && this.link === link && link.inbox.length > 0; n++) this.socket.onmessage({ data: link.inbox.shift() });
  }

  publish(lost = false) {
    const sequence = this.log.publish();
    if (this.link?.subscribed && !lost) this.link.send(sequence);
  }

  // gap is one on a connection that stands.
  gap() {
    for (let n = 1 + this.draw.below(3); n > 0; n--) this.publish(true);
    this.log.trimmed = this.log.end;
    if (this.link?.subscribed) this.link.inbox.push(frame('reecho:gap', { reason: 'x' }));
  }

  // restart is one of the server, after which it knows its positions, or does not.
  restart(lost) {
    const { log } = this;
    this.cut();
    log.line = `E${log.positions.length}-t`;
    log.lines.push(log.line);
    if (lost) Object.assign(log, { lines: [log.line], trimmed: log.end });
  }

  message({ event, data }) {
    const channel = this.pusher.channels.c;
    if (!channel) return;
    if (event === 'pusher_internal:subscription_succeeded') {
      Object.assign(channel, { subscriptionPending: false, subscribed: true });
      if (channel.subscriptionCancelled) this.pusher.unsubscribe('c');
    }
    if (event === 'reecho:gap') {
      this.allowed++;
      this.state = undefined;
    }
    if (event === 'score') this.heard(event, JSON.parse(data));
  }

  heard(event, data) {
    if (!this.inside) return;
    this.trail.push(`${event} ${data?.state ?? data?.tries ?? data}`);
    if (event === 'reecho:loaded') this.state = data.state;
    if (event === 'reecho:load_failed') assert.ok(data.error && data.wait > 0 && data.wait <= 30_000);
    if (event !== 'score') return;
    assert.notEqual(this.state, undefined, 'an event came without a state before it');
    if (!this.exact && data <= this.state) return;
    assert.ok(data > this.state, `event ${data} is in the state ${this.state}`);
    const hole = this.log.events.find((each) => each > this.state && each < data);
    assert.equal(hole, undefined, `event ${hole} is missing between ${this.state} and ${data}`);
    this.state = data;
  }

  load(channel, { signal }) {
    assert.equal(channel, 'c');
    this.called++;
    return new Promise((resolve, reject) => {
      this.loads.push({ resolve, reject, signal, read: this.draw.chance(0.5) && this.read() });
    });
  }

  // read is the state of the application, of now, or of some time before.
  read() {
    const { log, draw } = this;
    if (!this.exact) return { state: log.end };
    if (draw.chance(0.7) || log.positions.length === 0) return { state: log.end, position: log.at(log.end) };
    const position = log.positions[Math.max(0, log.positions.length - 1 - draw.below(8))];
    return { state: +position.match(/\d+$/)[0], position };
  }

  // finish ends a load, the oldest or another one.
  finish(fail) {
    const [load] = this.loads.splice(this.draw.below(this.loads.length), 1);
    if (!load) return;
    if (!fail) return load.resolve(load.read || this.read());
    if (!load.signal.aborted) this.failures++;
    if (this.exact && this.draw.chance(0.3)) load.resolve({ state: 0, position: 'none' });
    else load.reject(new Error('down'));
  }

  step() {
    const { draw, manager } = this;
    const n = draw.below(100);
    if (n < 30) this.publish();
    else if (n < 60) this.arrive(1 + draw.below(4));
    else if (n < 72) this.finish(false);
    else if (n < 76) this.finish(true);
    else if (n < 80) this.timers.fire();
    else if (n < 86) this.connect();
    else if (n < 89) this.cut(draw.chance(0.3) ? 'disconnected' : 'connecting');
    else if (n < 91) this.gap();
    else if (n < 93) this.restart(draw.chance(0.3));
    else if (n < 95) this.log.trimmed = this.log.events[draw.below(this.log.events.length)] ?? 0;
    else if (n < 97 && manager.state === 'connected') this.inside ? this.leave() : this.enter();
    else for (let k = draw.below(3); k > 0; k--) this.publish();
  }

  // settle brings all to an end: the application loads what is true now.
  async settle() {
    this.connect();
    if (!this.inside) this.enter();
    for (let n = 0; n < 40; n++) {
      this.arrive();
      for (const load of this.loads.splice(0)) load.resolve({ state: this.log.end, ...(this.exact && { position: this.log.at(this.log.end) }) });
      await turn();
      this.timers.fire();
    }
    assert.equal(this.state, this.log.end, 'the application is not where the channel is');
    assert.ok(this.called <= this.allowed + this.failures, `${this.called} loads for ${this.allowed} subscriptions and gaps and ${this.failures} failures`);
  }
}

const turn = async () => {
  for (let n = 0; n < 8; n++) await null;
};

test(`${ROUNDS} random rounds`, async (t) => {
  t.diagnostic(`REECHO_TEST_SEED=${FIRST}`);
  const real = [globalThis.setTimeout, globalThis.clearTimeout];
  t.after(() => { [globalThis.setTimeout, globalThis.clearTimeout] = real; });
  let delivered = 0;
  for (let seed = FIRST; seed < FIRST + ROUNDS; seed++) {
    const timers = new Timers();
    globalThis.setTimeout = (action) => timers.set(action);
    globalThis.clearTimeout = (id) => timers.pending.delete(id);
    const scene = new Scene(random(seed), seed % 2 === 0, timers);
    try {
      scene.connect();
      for (let n = 20 + scene.draw.below(60); n > 0; n--) {
        scene.step();
        await turn();
      }
      await scene.settle();
    } catch (error) {
      error.message += `\nREECHO_TEST_SEED=${seed} REECHO_LOAD_ROUNDS=1\n${scene.trail.join(', ')}`;
      throw error;
    }
    delivered += scene.trail.length;
  }
  assert.ok(delivered > ROUNDS * 5, `${delivered} things were told in ${ROUNDS} rounds`);
});

test('more comes during a load than may wait: it is asked for again, and none is missing', async (t) => {
  const timers = new Timers();
  const real = [globalThis.setTimeout, globalThis.clearTimeout];
  t.after(() => { [globalThis.setTimeout, globalThis.clearTimeout] = real; });
  globalThis.setTimeout = (action) => timers.set(action);
  globalThis.clearTimeout = (id) => timers.pending.delete(id);
  for (const exact of [true, false]) {
    const scene = new Scene(random(1), exact, timers);
    scene.connect();
    scene.publish();
    scene.arrive();
    await turn();
    for (let n = 0; n < 2500; n++) scene.publish();
    scene.arrive();
    const state = exact ? { state: 700, position: scene.log.at(700) } : { state: 1 };
    scene.loads.pop().resolve(state);
    await turn();
    scene.arrive();
    await turn();
    timers.fire();
    assert.deepEqual([scene.state, scene.called, scene.trail[0]], [2501, 1, `reecho:loaded ${state.state}`]);
    assert.equal(scene.trail.length, exact ? 1802 : 2502);
  }
});
