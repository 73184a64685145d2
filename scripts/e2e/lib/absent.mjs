// Pages that were closed some time ago: each was on a channel of its own, with the
// plugin and a storage, and missed events of which the server has nothing in
// memory any more.
import assert from 'node:assert/strict';
import { withReplay } from '../../../replay/client/replay.mjs';
import { backend, client, connected } from './clients.mjs';
import { Recorder, within } from './wait.mjs';

const MISSED = 20;

// Absent are n pages, with what they kept when they were closed.
export class Absent {
  constructor(n, kept = new Map()) {
    this.kept = new Map(kept);
    this.channels = Array.from({ length: n }, (_, i) => `away.${i}`);
  }

  get storage() {
    const { kept } = this;
    return { getItem: (k) => kept.get(k) ?? null, setItem: (k, v) => kept.set(k, v), removeItem: (k) => kept.delete(k) };
  }

  // leave opens the pages, closes them, and publishes what they miss. Then the
  // server is to be restarted.
  async leave(t, server) {
    const hub = backend(server);
    const pusher = withReplay(client(t, server), { storage: this.storage });
    await within(connected(pusher), 'the pages to connect');
    await Promise.all(this.channels.map(async (name) => {
      const got = new Recorder(`event on ${name}`);
      const channel = pusher.subscribe(name);
      channel.bind('n', got.push);
      channel.bind('pusher:subscription_succeeded', () => hub.trigger(name, 'n', -1));
      await got.count(1);
    }));
    pusher.disconnect();
    for (let n = 0; n < MISSED; n++) await hub.trigger(this.channels, 'n', n);
  }

  // comeBack opens the next n pages again.
  async comeBack(t, server, n) {
    await Promise.all(this.channels.splice(0, n).map((name) => this.open(t, server, name)));
  }

  // open opens a page again, which must get all that it missed.
  async open(t, server, name) {
    const pusher = withReplay(client(t, server), { storage: this.storage });
    const got = new Recorder(`what came on ${name}`);
    const channel = pusher.subscribe(name);
    channel.bind('n', got.push);
    for (const told of ['resumed', 'gap']) channel.bind(`reecho:${told}`, (data) => got.push({ told, ...data }));
    const want = [{ told: 'resumed', events: MISSED, complete: true }, ...Array.from({ length: MISSED }, (_, n) => n)];
    assert.deepEqual(await got.until((items) => items[0]?.told === 'gap' ? items : items.length >= want.length && items), want, name);
    pusher.disconnect();
  }
}
