// What rounds made of steps have: each client is behind a proxy of its own, and what
// a step does to it is the same whatever is done to the servers.
import { Scene, until } from './scene.mjs';

export class Steps extends Scene {
  // settleTime is how long a step waits for clients: what is still missing at the end is a
  // problem.
  constructor(server, channels, settleTime) {
    super(server, channels);
    Object.assign(this, { settleTime, proxies: new Map(), held: new Set() });
  }

  // break ends a client's connection; it comes back. to, where there are several nodes,
  // is to which of them.
  async break({ client, how = 'reset', bytes = 1, to }) {
    const proxy = this.proxies.get(client);
    if (!proxy || this.held.has(client)) return;
    // One that breaks before it stands costs stock pusher-js 15 s.
    await until(() => proxy.standing.length > 0, this.settleTime);
    if (to !== undefined) proxy.next = to;
    for (const link of proxy.standing) link[how](bytes);
  }

  // away ends it, and the client cannot come back until `back`.
  async away({ client, ...rest }) {
    const proxy = this.proxies.get(client);
    if (!proxy || this.held.has(client)) return;
    await until(() => proxy.standing.length > 0, this.settleTime);
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

  // everybody waits until those who are there have what was published.
  async everybody() {
    const waiting = () => this.channels.flatMap((channel) => this.missing(channel)).filter((history) => !this.held.has(history.client));
    await until(() => waiting().length === 0, this.settleTime);
  }
}
