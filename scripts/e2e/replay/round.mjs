// One round of trouble: clients of all kinds behind a proxy that breaks their
// connections, a backend that publishes, sometimes a server that is restarted or
// killed. All that is random comes from the seed.
import { backend } from '../lib/clients.mjs';
import { pause, within } from '../lib/wait.mjs';
import { Proxy } from './proxy.mjs';
import { random } from './random.mjs';
import { PATIENCE, Scene } from './scene.mjs';

export class Round extends Scene {
  // trouble is what the server may suffer: 'none', 'restart' or 'kill'.
  constructor(server, seed, trouble) {
    super(server, [`r${seed}.public`, `private-r${seed}.chat`]);
    Object.assign(this, { seed, trouble, rng: random(seed) });
  }

  // run returns the problems found.
  async run() {
    try {
      this.proxy = await Proxy.start(this.t, this.server.port);
      const { port } = this.proxy;
      await Promise.all([
        this.pusher('plugin', 'plugin-0', port), this.pusher('plugin', 'plugin-1', port), this.pusher('session', 'session', port), this.stream('stream', port),
      ].map((ready) => within(ready, 'the first subscriptions', PATIENCE)));
      this.publishing = true;
      const publishers = this.channels.map((name) => this.publishAlong(name));
      await this.misfortune();
      this.publishing = false;
      await Promise.all(publishers);
      this.proxy.heal();
      await this.finish();
      // Everything is retained here, so nobody has to be told of a gap.
      return this.problems(() => false);
    } finally {
      this.publishing = false;
      await this.end();
    }
  }

  // publishAlong publishes one number after the other, alone or in a batch.
  async publishAlong(channel) {
    const hub = backend(this.server);
    while (this.publishing) {
      const count = this.rng.chance(0.2) ? 1 + this.rng.below(9) : 1;
      // Now and then an event is not for one of the clients.
      const except = count === 1 && this.rng.chance(0.1) ? this.rng.pick(this.pushers) : undefined;
      if (!await this.send(hub, channel, count, { except })) await pause(20);
      if (this.rng.chance(0.5)) await pause(this.rng.below(40));
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
    const links = this.proxy.standing;
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

  report(problems) {
    return `seed ${this.seed}, ${this.trouble}:\n  ${problems.slice(0, 5).join('\n  ')}\n  ${this.log.slice(-80).join('\n  ')}`;
  }
}
