// A TCP proxy that does to connections what networks do. It stays when the
// server behind it is gone: then it resets who comes, so that pusher-js is back
// after a second and not after fifteen.
import { once } from 'node:events';
import net from 'node:net';

export class Proxy {
  // start runs a proxy to a port. bytesPerSecond is what all links together
  // bring from the server; without, there is no limit.
  static async start(t, target, bytesPerSecond) {
    const proxy = new Proxy(target);
    proxy.pace = bytesPerSecond && new Pace(bytesPerSecond);
    proxy.server.listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    proxy.port = proxy.server.address().port;
    t.after(() => proxy.close());
    return proxy;
  }

  constructor(target) {
    this.target = target; // a port, or what returns one, undefined for none
    this.links = new Set();
    this.refusing = false;
    this.held = undefined;
    // A text from the server: the link on which it comes next ends before it.
    this.endBefore = undefined;
    this.server = net.createServer({ allowHalfOpen: true }, (client) => this.accept(client));
  }

  accept(client) {
    client.on('error', () => {});
    if (this.refusing) {
      client.resetAndDestroy();
      return;
    }
    if (this.held) {
      this.held.push(client);
      return;
    }
    const port = typeof this.target === 'function' ? this.target() : this.target;
    if (port === undefined) {
      client.resetAndDestroy();
      return;
    }
    const link = new Link(this, client, net.connect({ port, host: '127.0.0.1', allowHalfOpen: true }));
    link.port = port;
    this.links.add(link);
  }

  // standing are the links whose opening handshake is over.
  get standing() { return [...this.links].filter((link) => link.stands); }

  // hold lets new connections wait until release: a refusal would keep
  // pusher-js away for 15 seconds.
  hold() { this.held ??= []; }

  release() {
    const held = this.held ?? [];
    this.held = undefined;
    for (const client of held) if (!client.destroyed) this.accept(client);
  }

  // heal lets everything pass again.
  heal() {
    this.refusing = false;
    this.release();
    for (const link of this.links) link.resume();
  }

  close() {
    this.server.close();
    for (const client of this.held ?? []) client.destroy();
    for (const link of this.links) link.reset();
  }
}

// Pace lets so many bytes a second pass, in the order in which they come.
class Pace {
  constructor(bytesPerSecond) { Object.assign(this, { bytesPerMs: bytesPerSecond / 1000, free: 0 }); }

  turn(bytes, pass) {
    const now = performance.now();
    this.free = Math.max(this.free, now) + bytes / this.bytesPerMs;
    setTimeout(pass, this.free - now);
  }
}

// Link is one connection through the proxy.
class Link {
  constructor(proxy, client, upstream) {
    Object.assign(this, { proxy, client, upstream, swallowing: false, budget: Infinity, passed: 0 });
    client.on('data', (chunk) => upstream.write(chunk));
    upstream.on('data', (chunk) => {
      if (!proxy.pace) {
        this.down(chunk);
        return;
      }
      upstream.pause();
      proxy.pace.turn(chunk.length, () => {
        this.down(chunk);
        upstream.resume();
      });
    });
    for (const [side, other] of [[client, upstream], [upstream, client]]) {
      side.setNoDelay(true);
      side.on('error', () => this.reset());
      side.on('end', () => other.end());
      side.on('close', () => {
        proxy.links.delete(this);
        if (!other.destroyed) other.destroy();
      });
    }
  }

  // stands: the opening handshake is over, and pusher-js has its first frame.
  get stands() { return this.passed > 260; }

  down(chunk) {
    this.passed += chunk.length;
    if (this.swallowing) return;
    const at = this.proxy.endBefore ? chunk.indexOf(this.proxy.endBefore) : -1;
    if (at >= 0) {
      // What came before arrives, and no more.
      this.proxy.endBefore = undefined;
      this.client.end(chunk.subarray(0, at));
      this.upstream.resetAndDestroy();
      return;
    }
    if (chunk.length > this.budget) {
      // In the middle of a frame, for all we know.
      this.client.write(chunk.subarray(0, this.budget));
      this.reset();
      return;
    }
    this.budget -= chunk.length;
    this.client.write(chunk);
  }

  // stall holds both directions up.
  stall() {
    this.client.pause();
    this.upstream.pause();
  }

  resume() {
    if (this.swallowing) {
      // What is lost cannot come any more: as when a host died.
      this.reset();
      return;
    }
    this.client.resume();
    this.upstream.resume();
  }

  // swallow loses what comes from the server; only an end can follow.
  swallow() { this.swallowing = true; }

  // cut ends the link after some more bytes.
  cut(bytes) { this.budget = bytes; }

  drop() {
    this.client.end();
    this.upstream.end();
  }

  reset() {
    if (!this.client.destroyed) this.client.resetAndDestroy();
    if (!this.upstream.destroyed) this.upstream.resetAndDestroy();
  }
}
