// Publishes while something happens, and finds out what became of it.
import assert from 'node:assert/strict';
import { withReplay } from '../../../replay/client/replay.mjs';
import { Proxy } from '../replay/proxy.mjs';
import { backend, client, subscribed } from './clients.mjs';
import { log, record } from './scores.mjs';
import { pause, within } from './wait.mjs';

// PUBLISHERS publish at the same time, each one event after the other.
const PUBLISHERS = 8;

export class Load {
  // start publishes to a channel on all nodes in turn, whether they run or not, and has
  // a client with the plugin follow on each. A client whose node does not run goes to
  // another.
  static async start(t, nodes, channel) {
    const load = Object.assign(new Load(), { nodes, channel, answered: [], last: 0, running: true, followers: [] });
    for (const [i, node] of nodes.entries()) {
      let at = i;
      const proxy = await Proxy.start(t, () => {
        if (!nodes[at].running) at = nodes.findIndex((other) => other.running);
        return nodes[at]?.port;
      });
      const follower = record(await subscribed(client(t, proxy, { plugin: withReplay }), channel));
      load.followers.push({ name: node.name ?? `node ${i + 1}`, ...follower });
    }
    load.publishing = Array.from({ length: PUBLISHERS }, (_, i) => load.publish(i));
    return load;
  }

  async publish(i) {
    for (let turn = i; this.running; turn++) {
      const node = this.nodes[turn % this.nodes.length];
      const n = ++this.last;
      try {
        if (!node.running) throw new Error('it does not run');
        await backend(node, { timeout: 15_000 }).trigger(this.channel, 'score', { n });
        this.answered.push(n);
      } catch {
        await pause(50);
      }
    }
  }

  // more waits until so many more were answered 200.
  async more(count = 100) {
    const want = this.answered.length + count;
    await within((async () => { while (this.answered.length < want) await pause(10); })(), `${count} more answers`, 60_000);
  }

  // end stops publishing, and expects that all that was answered 200 is stored, once,
  // and that each client got all that is stored, in the order in which it is.
  async end() {
    this.running = false;
    await within(Promise.all(this.publishing), 'the publishers to end', 60_000);
    // What was not answered may be stored a moment later.
    await pause(1000);
    const running = this.nodes.filter((node) => node.running);
    const [stored, ...others] = await Promise.all(running.map((node) => log(node, this.channel)));
    for (const other of others) assert.deepEqual(other, stored);
    const set = new Set(stored);
    assert.equal(set.size, stored.length, 'something is stored twice');
    assert.deepEqual(this.answered.filter((n) => !set.has(n)), [], 'something that was answered 200 is lost');
    for (const { name, scores, outcomes } of this.followers) {
      const got = await scores.until((items) => items.length >= stored.length && items, `all ${stored.length} at the client of ${name}; ${JSON.stringify(outcomes.items)}`);
      assert.deepEqual(got, stored, `what came to the client of ${name}`);
      assert.deepEqual(outcomes.items.filter(({ event }) => event !== 'reecho:resumed'), [], name);
    }
  }
}
