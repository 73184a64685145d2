// The network between two nodes of a cluster, as one of them dials the other: it can
// be slow, silent, or gone.
import { once } from 'node:events';
import net from 'node:net';

export class Wire {
  // start makes a wire to a port. ends are who dials and who is dialled.
  static async start(t, target, ends) {
    const wire = new Wire();
    Object.assign(wire, { target, ends, links: new Set(), held: [], delay: 0, cut: undefined });
    wire.server = net.createServer({ allowHalfOpen: true }, (near) => wire.accept(near));
    wire.server.listen(0, '127.0.0.1');
    await once(wire.server, 'listening');
    wire.port = wire.server.address().port;
    t.after(() => wire.close());
    return wire;
  }

  accept(near) {
    near.on('error', () => {});
    if (this.cut === 'reset') {
      near.resetAndDestroy();
    } else if (this.cut) {
      this.held.push(near);
    } else {
      const far = net.connect({ port: this.target, host: '127.0.0.1', allowHalfOpen: true });
      const link = [new Half(this, near, far), new Half(this, far, near)];
      this.links.add(link);
      for (const side of [near, far]) side.on('close', () => this.links.delete(link));
    }
  }

  // sever cuts the wire: 'silence' lets nothing arrive, as a network that is gone;
  // 'reset' ends connections and refuses new ones. mute is the end of which alone nothing
  // arrives, one of ends; undefined: of both.
  sever(how, mute) {
    this.cut = how;
    for (const link of this.links) {
      link.forEach((half, end) => {
        if (how === 'reset') half.reset();
        else if (mute === undefined || this.ends[end] === mute) half.hold();
      });
    }
  }

  // heal lets everything arrive, also what was on its way.
  heal() {
    this.cut = undefined;
    for (const link of this.links) for (const half of link) half.go();
    for (const near of this.held.splice(0)) if (!near.destroyed) this.accept(near);
  }

  close() {
    this.server.close();
    for (const near of this.held) near.destroy();
    for (const link of this.links) for (const half of link) half.reset();
  }
}

// Half is one direction of a connection.
class Half {
  constructor(wire, from, to) {
    Object.assign(this, { wire, from, to, queue: [], holding: false });
    from.setNoDelay(true);
    from.on('error', () => this.reset());
    from.on('data', (chunk) => this.push(() => to.write(chunk)));
    from.on('end', () => this.push(() => to.end()));
    from.on('close', (failed) => {
      if (failed) this.reset();
      else this.push(() => to.destroy());
    });
  }

  // push does something when it has come through the wire.
  push(arrive) {
    if (this.queue.length === 0 && this.wire.delay === 0 && !this.holding) {
      arrive();
      return;
    }
    this.queue.push({ at: performance.now() + this.wire.delay, arrive });
    this.deliver();
  }

  deliver() {
    if (this.timer || this.holding) return;
    while (this.queue.length > 0) {
      const wait = this.queue[0].at - performance.now();
      if (wait > 0) {
        this.timer = setTimeout(() => {
          this.timer = undefined;
          this.deliver();
        }, Math.ceil(wait));
        return;
      }
      this.queue.shift().arrive();
    }
  }

  hold() {
    this.holding = true;
    this.from.pause();
  }

  go() {
    this.holding = false;
    this.from.resume();
    this.deliver();
  }

  reset() {
    clearTimeout(this.timer);
    this.queue = [];
    for (const side of [this.from, this.to]) if (!side.destroyed) side.resetAndDestroy();
  }
}
