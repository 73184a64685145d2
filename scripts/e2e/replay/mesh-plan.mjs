// Makes the steps of a round with a cluster from a seed (see plan.mjs and mesh.mjs).
import { CHANNELS } from './mesh.mjs';
import { Planner } from './planner.mjs';

// The themes decide what the nodes and the network between them suffer.
const themes = ['quiet', 'kill', 'stop', 'freeze', 'isolate', 'cut', 'all', 'leader', 'replace', 'full', 'mixed'];

const NODES = 3;

// STOCK are clients without replay, of which a user has several.
const STOCK = ['stock-ada-1', 'stock-bob-1', 'stock-bob-2', 'stock-cid-1', 'stock-cid-2'];

export function plan(seed) {
  return new MeshPlanner(seed).steps();
}

class MeshPlanner extends Planner {
  constructor(seed) { super(seed, themes); }

  steps() {
    const { rng } = this;
    const steps = [this.setup(), ...this.joins(), { do: 'publishAlong', ms: rng.pick([5, 20, 60]), batch: rng.pick([1, 5]) }];
    const count = 4 + rng.below(4);
    for (let i = 0; i < count; i++) {
      for (let j = rng.below(3); j > 0; j--) steps.push(this.small());
      steps.push(...this.fault());
    }
    return steps;
  }

  setup() {
    const { rng } = this;
    const settings = { partitions: rng.pick([1, 4, 8]) };
    if (rng.chance(this.is('freeze') ? 0.7 : 0.3)) settings['cluster-isolation'] = rng.pick(['2s', '2s', '0s']);
    if (rng.chance(0.3)) settings['publish-timeout'] = '3s';
    if (rng.chance(0.3)) settings['session-ack-interval'] = '200ms';
    // There is one leader, and a node says that it is that.
    if (this.is('leader')) Object.assign(settings, { partitions: 1, 'log-level': 'debug' });
    return { do: 'setup', settings, ...(this.is('full') ? { disk: rng.below(NODES) } : {}) };
  }

  joins() {
    const { rng } = this;
    this.clients = [
      'plugin-1', 'session-1', 'stream-1', ...(rng.chance(0.5) ? ['plugin-2'] : []), ...(rng.chance(0.5) ? ['session-2'] : []), ...(rng.chance(0.5) ? ['stream-2'] : []),
      ...STOCK,
    ];
    return this.clients.map((client) => ({ do: 'join', client, node: rng.below(NODES) }));
  }

  // small is what happens to clients, between what happens to nodes.
  small() {
    const { rng } = this;
    switch (rng.pick(['client', 'client', 'client', 'publish', 'pause', 'everybody'])) {
      case 'client': return this.client();
      case 'publish': return this.publish();
      case 'pause': return { do: 'pause', ms: rng.pick([50, 300, 1300]) };
      default: return { do: 'everybody' };
    }
  }

  client() {
    const client = this.rng.pick(this.clients);
    return this.trouble(client, 0.5, { to: this.rng.below(NODES) });
  }

  publish() {
    const { rng } = this;
    const step = { do: 'publish', node: rng.below(NODES), channel: rng.pick(CHANNELS), events: 1 + rng.below(20) };
    const bytes = rng.pick([undefined, undefined, 1_000, 20_000]);
    if (bytes) step.bytes = bytes;
    if (rng.chance(0.3)) step.batch = 2 + rng.below(9);
    else if (rng.chance(0.3)) Object.assign(step, { events: 1, except: rng.pick(this.clients) });
    return step;
  }

  fault() {
    const { rng } = this;
    const node = rng.below(NODES);
    const some = [];
    if (this.is('quiet')) some.push('clients');
    if (this.is('kill')) some.push('kill', 'kill', 'kills', 'lose');
    if (this.is('stop')) some.push('restart', 'rolling', 'lose');
    if (this.is('freeze')) some.push('freeze');
    if (this.is('isolate')) some.push('isolate');
    if (this.is('cut')) some.push('cut', 'slow');
    if (this.is('all')) some.push('all', 'most');
    if (this.is('leader')) some.push('leader');
    if (this.is('replace')) some.push('replace');
    if (this.is('full')) some.push('full');
    const ms = rng.pick([0, 0, 300, 1500, 3000]);
    switch (rng.pick(some)) {
      case 'clients': return [this.client(), this.client(), this.publish()];
      case 'kill': return [{ do: 'restart', node, signal: 'SIGKILL', ms }];
      // The busiest of the nodes is among them.
      case 'kills': return [{ do: 'rolling', signal: 'SIGKILL', ms: Math.min(ms, 300) }];
      case 'lose': return this.lose();
      case 'restart': return [{ do: 'restart', node, signal: 'SIGTERM', ms }];
      case 'rolling': return [{ do: 'rolling', signal: 'SIGTERM', ms: Math.min(ms, 300) }];
      case 'freeze': return [{ do: 'freeze', node, ms: rng.pick([300, 1000, 3000, 6000]) }];
      case 'isolate': return this.meanwhile({ do: 'isolate', node, how: rng.pick(['silence', 'reset', 'mute', 'deaf']) });
      case 'cut': return this.meanwhile({ do: 'cut', a: node, b: (node + 1) % NODES, how: rng.pick(['silence', 'reset', 'mute']) });
      case 'slow': return this.meanwhile({ do: 'slow', ...rng.pick([{ node }, { a: node, b: (node + 1) % NODES }]), ms: rng.pick([5, 25, 100]) });
      case 'leader': return this.leader(ms);
      case 'replace': return [{ do: 'replace', node, ms }];
      case 'full': return [{ do: 'fill', left: rng.pick([0, 4 << 10, 256 << 10]) }, ...this.little(), this.publish(), { do: 'pause', ms: 500 + ms }, { do: 'free' }];
      case 'all': return [{ do: 'all', signal: rng.pick(['SIGTERM', 'SIGKILL', 'SIGKILL']), ms: rng.pick([0, 500]) }];
      // A majority is gone for some time.
      default: return [
        { do: 'stop', node }, this.small(), { do: 'stop', node: (node + 1) % NODES, signal: rng.pick(['SIGTERM', 'SIGKILL']) },
        { do: 'pause', ms: 500 + ms }, { do: 'start', node }, this.small(), { do: 'start', node: (node + 1) % NODES },
      ];
    }
  }

  // lose ends a node with clients that stay away for a while.
  lose() {
    const { rng } = this;
    const [first, ...more] = STOCK;
    const clients = [first, ...more.filter(() => rng.chance(0.8))];
    const signals = [...(this.is('kill') ? ['SIGKILL'] : []), ...(this.is('stop') ? ['SIGTERM'] : [])];
    return [
      { do: 'lose', signal: rng.pick(signals), clients }, this.small(),
      ...clients.map((client) => ({ do: 'back', client, to: rng.below(NODES) })), { do: 'start' },
    ];
  }

  // leader does something to the node that leads.
  leader(ms) {
    const { rng } = this;
    const node = 'leader';
    switch (rng.pick(['kill', 'kill', 'stop', 'freeze', 'isolate'])) {
      case 'kill': return [{ do: 'restart', node, signal: 'SIGKILL', ms }];
      case 'stop': return [{ do: 'restart', node, signal: 'SIGTERM', ms }];
      case 'freeze': return [{ do: 'freeze', node, ms: rng.pick([1000, 3000, 6000]) }];
      default: return this.meanwhile({ do: 'isolate', node, how: rng.pick(['silence', 'reset', 'mute', 'deaf']) });
    }
  }

  little() { return Array.from({ length: this.rng.below(4) }, () => this.small()); }

  // meanwhile does something to the network, lets things happen, and mends it.
  meanwhile(what) {
    const { rng } = this;
    const steps = [what, ...this.little()];
    steps.push({ do: 'pause', ms: rng.pick([300, 1500, 4000, 9000]) });
    if (rng.chance(0.2)) steps.push({ do: 'restart', node: rng.below(NODES), signal: rng.pick(['SIGTERM', 'SIGKILL']) });
    return [...steps, { do: 'heal' }];
  }
}
