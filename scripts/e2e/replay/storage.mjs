// One round of trouble with storage: does a list of steps, one after the other.
// A step says in `do` which of the methods below is called with the rest of it.
// Whatever is left out has a default, and what makes no sense at its place does
// nothing, so that any part of a list is a list.
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import http from 'node:http';
import { promisify } from 'node:util';
import { backend } from '../lib/clients.mjs';
import { app, Server } from '../lib/server.mjs';
import { pause, within } from '../lib/wait.mjs';
import { Disk } from './disk.mjs';
import { apply, takes } from './harms.mjs';
import { Proxy } from './proxy.mjs';
import { PATIENCE } from './scene.mjs';
import { Steps } from './steps.mjs';

export const CHANNELS = ['public', 'private-chat', 'presence-room'];

// settings of all servers: nothing is over a limit, and what cannot be stored is
// refused soon. limits are those of the app.
const settings = { 'publish-timeout': '2s', 'retention-events': 100_000, 'max-queued-bytes': '64MiB' };
const limits = { event_data_bytes: 131_072, replay_events: 100_000, replay_bytes: 67_108_864 };

// MEGABYTES is how large a disk is that can be full.
const MEGABYTES = 64;

// REFUSALS in a row end a step that publishes.
const REFUSALS = 3;

// SETTLE is how long a step waits for clients. What is still missing at the end
// of the round is a problem, and not before.
const SETTLE = 8_000;

// mayLose says whether any of the steps can take events that were stored.
export function mayLose(steps) {
  return steps.some((step) => (step.harms ?? []).some(takes));
}

// perform does a list of steps and returns the round, with its problems.
export async function perform(steps) {
  const first = steps.find((step) => step.do === 'setup') ?? {};
  const round = new StorageRound(steps, await Disk.make(first.disk ? MEGABYTES : 0), { ...settings, ...first.settings });
  try {
    await within(round.run(), 'the end of a round', 5 * PATIENCE);
    round.keepLog();
  } catch (error) {
    round.found.push(error.stack);
    if (round.server) round.keepLog();
  } finally {
    await round.end();
  }
  return round;
}

class StorageRound extends Steps {
  constructor(steps, disk, flags) {
    super(undefined, CHANNELS, SETTLE);
    const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`);
    Object.assign(this, { steps, disk, flags, args, serverLog: [], copies: new Map() });
  }

  async run() {
    const { dir, dataDir, through } = this.disk;
    this.server = await Server.start(undefined, { dir, dataDir, through, args: this.args, apps: [{ ...app, limits }] });
    // One connection that stays: a new one needs a descriptor of the server.
    this.agent = new http.Agent({ keepAlive: true });
    this.hub = backend(this.server, { agent: this.agent, timeout: 10_000 });
    for (const step of this.steps) {
      this.note(JSON.stringify(step));
      await this[step.do](step);
      await this.mustRun();
    }
    this.note('everything is well again');
    await this.free();
    await this.descriptors({});
    for (const client of this.proxies.keys()) this.back({ client });
    await this.finish();
    this.found = this.problems((reason) => mayLose(this.steps) || this.mayTrim(reason));
  }

  // mayTrim: what is kept is bounded, so that the oldest may go.
  mayTrim(reason) { return /^trimmed_/.test(reason) && (this.flags['retention-bytes'] !== undefined || this.flags['retention-events'] < 1000); }

  async end() {
    await super.end();
    this.agent?.destroy();
    await this.server?.destroy();
    await this.disk.remove();
  }

  // mustRun starts a server again that has ended by itself, which is a problem.
  async mustRun() {
    if (this.server.running) return;
    this.found.push(`the server ended by itself:\n${this.server.log.slice(-20).join('\n')}`);
    this.keepLog();
    await this.free();
    await this.server.run();
  }

  // keepLog keeps what a server said. It may only have lost something if it had
  // been harmed before it was started.
  keepLog() {
    const lines = this.server.log.filter((line) => !this.serverLog.includes(line));
    if (!this.harmed) this.found.push(...lines.filter((line) => /has lost events/.test(line)).map((line) => `lost again: ${line}`));
    this.found.push(...lines.filter((line) => /panic|\[unexpected\]/.test(line)));
    this.serverLog.push(...lines);
  }

  // setup is how the server is set up: that has been done.
  setup() {}

  async join({ client }) {
    if (this.proxies.has(client)) return;
    const proxy = await Proxy.start(this.t, this.server.port);
    this.proxies.set(client, proxy);
    const [kind] = client.split('-');
    const joined = kind === 'stream' ? this.stream(client, proxy.port) : this.pusher(kind, client, proxy.port);
    await within(joined, `${client} to join`, PATIENCE);
  }

  // publish stores events on a channel, alone or in batches, one call after the
  // other. except is a client that must not get them.
  async publish({ channel = CHANNELS[0], events = 1, bytes, batch = 1, except }) {
    const options = { bytes, except: this.pushers.find((each) => each.reechoName === except) };
    for (let refused = 0, sent = 0; sent < events && refused < REFUSALS;) {
      const count = Math.min(batch, events - sent);
      sent += count;
      refused = await this.send(this.hub, channel, count, options) ? 0 : refused + 1;
    }
  }

  // restart ends the server with a signal, does harms to its files, and starts it
  // again. during: events of this many bytes are published on all channels
  // meanwhile, and the signal is sent when `after` calls were answered.
  async restart({ signal = 'SIGKILL', harms = [], during }) {
    const publishing = during && this.publishAlong(during);
    if (publishing) await publishing.enough;
    for (const proxy of this.proxies.values()) proxy.hold();
    await this.server.stop(signal);
    await publishing?.done;
    this.keepLog();
    this.harmed = harms.some(takes);
    for (const harm of harms) {
      if (harm.harm === 'restore') {
        await this.free();
        // What is on its way is lost, so that all that comes from now on is from
        // the copy.
        for (const proxy of this.proxies.values()) for (const link of proxy.links) link.reset();
      }
      this.note(await apply(this.disk, harm));
      this.follow(harm);
    }
    await this.start();
    for (const [client, proxy] of this.proxies) if (!this.held.has(client)) proxy.release();
  }

  publishAlong({ events = 10, after = 0, bytes }) {
    let answered = 0;
    let enough;
    const reached = new Promise((resolve) => { enough = resolve; });
    if (after === 0) enough();
    const done = Promise.all(this.channels.map(async (channel) => {
      for (let i = 0; i < events && await this.send(this.hub, channel, 1, { bytes }); i++) if (++answered >= after) enough();
    })).then(enough);
    return { enough: reached, done };
  }

  // start starts the server again. On a full disk it may not be able to.
  async start() {
    try {
      await this.server.run();
    } catch (error) {
      if (!this.full) throw error;
      this.keepLog();
      this.note('no start on a full disk');
      await this.free();
      await this.server.run();
    }
  }

  // follow keeps what a copy has, and tells the histories when it is put back.
  follow({ harm, name = 'a' }) {
    if (harm === 'copy') this.copies.set(name, new Map(this.channels.map((channel) => [channel, this.published.get(channel).next])));
    if (harm === 'restore' && this.copies.has(name)) {
      for (const { channel, history } of this.histories) history.seen.push({ copy: this.copies.get(name).get(channel), until: this.published.get(channel).next });
    }
  }

  // copy takes a copy of the data folder while the server runs.
  async copy({ name = 'a' }) {
    await this.disk.copy(name);
    this.follow({ harm: 'copy', name });
  }

  // fill leaves only some bytes of the disk.
  async fill({ left = 0 }) {
    await this.disk.fill(left);
    this.full = true;
  }

  async free() {
    await this.disk.free();
    this.full = false;
  }

  // descriptors leaves the server this many new ones, or gives all back.
  async descriptors({ left }) {
    if (process.platform !== 'linux') return;
    // The backend has its connection.
    if (left !== undefined) await this.hub.get({ path: '/channels' }).catch(() => {});
    const proc = `/proc/${this.server.child.pid}`;
    const [, , hard] = /Max open files +(\d+) +(\d+)/.exec(await readFile(`${proc}/limits`, 'utf8'));
    const soft = left === undefined ? hard : (await readdir(`${proc}/fd`)).length + left;
    await promisify(execFile)('prlimit', ['--pid', String(this.server.child.pid), `--nofile=${soft}:`]);
  }

  async pause({ ms = 1300 }) { await pause(ms); }

  report() {
    return `${this.found.slice(0, 6).join('\n  ')}\n  ${this.log.slice(-80).join('\n  ')}\nthe server said:\n  ${this.serverLog.slice(-40).join('\n  ')}`;
  }
}
