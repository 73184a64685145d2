// Makes the steps of a storage round from a seed: all of them, before any is
// done, as plain data that can be saved, changed and done again (see storage.mjs
// for what each step does).
import { kinds } from './harms.mjs';
import { Planner } from './planner.mjs';
import { CHANNELS } from './storage.mjs';

// The themes decide which steps a round has besides those that all have. In
// 'quiet', 'full' and 'descriptors' nothing can be lost.
const themes = ['quiet', 'full', 'descriptors', 'harm', 'harm', 'copy', 'copy', 'mixed'];

export function plan(seed) {
  return new StoragePlanner(seed).steps();
}

class StoragePlanner extends Planner {
  constructor(seed) {
    super(seed, themes);
    this.copies = 0;
  }

  steps() {
    const { rng } = this;
    const steps = [this.server(), ...this.joins(), this.publish()];
    if (this.is('copy')) steps.push(...this.copy());
    const count = 4 + rng.below(9);
    for (let i = 0; i < count; i++) steps.push(...this.any());
    return steps;
  }

  // server is how the server is set up. What a stream may have makes the size of
  // its blocks: 4 MB for up to 32 MB, else 8 MB.
  server() {
    const { rng } = this;
    const settings = { partitions: rng.chance(0.6) ? 1 : 4 };
    // Much is published, so that there are several.
    this.much = rng.chance(0.4);
    if (this.much) settings['retention-bytes'] = `${31 * settings.partitions}MiB`;
    else if (rng.chance(0.2)) settings['retention-bytes'] = '4MiB';
    if (rng.chance(0.15)) settings['retention-events'] = rng.pick([20, 100]);
    if (rng.chance(0.15)) settings['sync-interval'] = 'always';
    if (rng.chance(0.3)) settings['session-ack-interval'] = '200ms';
    return { do: 'setup', settings, ...(this.is('full') ? { disk: true } : {}) };
  }

  joins() {
    const { rng } = this;
    const names = ['plugin-1', 'session-1', 'stream-1', ...(rng.chance(0.5) ? ['plugin-2'] : []), ...(rng.chance(0.5) ? ['session-2'] : [])];
    this.clients = names;
    return names.map((client) => ({ do: 'join', client }));
  }

  bytes() {
    const { rng } = this;
    return rng.pick([undefined, undefined, 1_000, 20_000, 60_000]);
  }

  publish() {
    const { rng } = this;
    if (this.much && rng.chance(0.3)) return { do: 'publish', channel: rng.pick(CHANNELS), events: 60 + rng.below(60), bytes: 60_000, batch: 10 };
    const step = { do: 'publish', channel: rng.pick(CHANNELS), events: 1 + rng.below(rng.chance(0.2) ? 120 : 20) };
    const bytes = this.bytes();
    if (bytes) step.bytes = bytes;
    if (rng.chance(0.3)) step.batch = 2 + rng.below(9);
    else if (rng.chance(0.1)) Object.assign(step, { events: 1, except: rng.pick(this.clients) });
    return step;
  }

  any() {
    const { rng } = this;
    const some = ['publish', 'publish', 'publish', 'client', 'client', 'restart', 'everybody', 'pause'];
    if (this.is('full')) some.push('fill', 'fill', 'free');
    if (this.is('descriptors')) some.push('descriptors', 'descriptors');
    if (this.is('harm')) some.push('harm', 'harm', 'harm');
    if (this.is('copy')) some.push('copy', 'restore', 'restore');
    return [this[rng.pick(some)]()].flat();
  }

  everybody() { return { do: 'everybody' }; }

  // pause is long enough for what is written every second.
  pause() { return { do: 'pause', ms: this.rng.pick([50, 300, 1300]) }; }

  client() { return this.trouble(this.rng.pick(this.clients), 0.35); }

  // restart stops the server and starts it again, sometimes while events are
  // published.
  restart(harms = []) {
    const { rng } = this;
    const step = { do: 'restart', signal: rng.pick(['SIGTERM', 'SIGKILL', 'SIGKILL']) };
    if (rng.chance(0.3)) {
      step.during = { events: 5 + rng.below(40), after: rng.below(30) };
      const bytes = this.bytes();
      if (bytes) step.during.bytes = bytes;
    }
    if (harms.length > 0) step.harms = harms;
    return step;
  }

  harm() {
    const { rng } = this;
    const before = [];
    if (rng.chance(0.4)) before.push({ do: 'pause', ms: 1300 });
    const harms = Array.from({ length: rng.chance(0.25) ? 2 : 1 }, () => this.oneHarm());
    return [...before, this.restart(harms)];
  }

  oneHarm() {
    const { rng } = this;
    const of = rng.chance(0.6) ? 'EVENTS' : rng.pick(kinds);
    const where = { of, stream: rng.next(), block: rng.pick([0, 0.5, 1, 1, rng.next()]) };
    const at = rng.pick([0, 0.5, 0.9, 1, rng.next()]);
    switch (rng.pick(['flip', 'flip', 'cut', 'cut', 'empty', 'block', 'block', 'file', 'older'])) {
      case 'flip': return { harm: 'flip', ...where, at };
      case 'cut': return { harm: 'cut', ...where, at };
      case 'empty': return { harm: 'cut', ...where, at: 0 };
      case 'block': return { harm: 'remove', ...where };
      case 'older': if (this.copies > 0) return { harm: 'older', name: this.copyName(), ...where, file: rng.pick(['block', 'block', 'index.db', 'meta.inf', 'streams.json']) };
      // falls through
      default: return { harm: 'remove', of, stream: where.stream, file: rng.pick(['index.db', 'meta.inf', 'folder', 'msgs', 'streams.json']) };
    }
  }

  copyName() { return String.fromCharCode(97 + this.rng.below(this.copies)); }

  // copy takes a copy: of a server that runs, or that was stopped.
  copy() {
    const name = String.fromCharCode(97 + this.copies++);
    if (this.rng.chance(0.6)) return [{ do: 'copy', name }];
    return [{ do: 'restart', signal: this.rng.pick(['SIGTERM', 'SIGKILL']), harms: [{ harm: 'copy', name }] }];
  }

  restore() {
    if (this.copies === 0) return this.copy();
    return [this.restart([{ harm: 'restore', name: this.copyName(), times: this.rng.chance(0.7) }])];
  }

  fill() { return [{ do: 'fill', left: this.rng.pick([0, 1, 4, 16, 64]) * 4096 }, this.publish()]; }

  free() { return { do: 'free' }; }

  descriptors() {
    const some = this.rng.pick([[this.publish()], [this.publish(), this.restart()], [{ do: 'pause', ms: 1300 }, this.publish()]]);
    return [{ do: 'descriptors', left: this.rng.pick([0, 0, 1, 3]) }, ...some, { do: 'descriptors' }];
  }
}
