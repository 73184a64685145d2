// Runs several reecho servers that are one cluster, with one port in front of all.
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Server } from './server.mjs';
import { within } from './wait.mjs';

export const SECRET = 'a-secret-of-the-cluster';

// PATIENCE is how long a cluster may take to form.
export const PATIENCE = 60_000;

// BLOCK is how many ports a process takes at once. It holds the first of them as long as
// it lives, so that no other process has any of them, also while a node is down.
const BLOCK = 100;

let ports = [];
let claiming;

// steadyPort returns a port that is free, and that no outgoing connection takes
// while the node is down whose port it is: those begin at 32768 on Linux.
export async function steadyPort() {
  for (;;) {
    while (ports.length === 0) await (claiming ??= claim());
    const port = ports.shift();
    const probe = await listen(port);
    if (!probe) continue;
    probe.close();
    await once(probe, 'close');
    return port;
  }
}

async function claim() {
  const first = 10_000 + BLOCK * Math.floor(Math.random() * (22_000 / BLOCK));
  const holder = await listen(first);
  holder?.unref();
  if (holder) ports = Array.from({ length: BLOCK - 1 }, (_, i) => first + 1 + i);
  claiming = undefined;
}

// listen listens on a port, if it is free.
async function listen(port) {
  const server = net.createServer().listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
    return server;
  } catch {
    return undefined;
  }
}

// nodeOptions are those of Server for one node of a cluster. peers are the ports of
// all nodes for each other.
export function nodeOptions({ name, cluster = 'test', secret = SECRET, listen, peers, size = 3, args = [], env, ...rest }) {
  return {
    ...rest,
    args: [
      '--node-name', name, '--cluster-name', cluster, '--cluster-size', String(size), '--cluster-listen', `127.0.0.1:${listen}`,
      '--cluster-peers', peers.map((port) => `127.0.0.1:${port}`).join(','), ...args,
    ],
    env: { ...env, REECHO_CLUSTER_SECRET: secret },
  };
}

// isReady asks a node whether it is.
export async function isReady({ port }) {
  try {
    return (await fetch(`http://127.0.0.1:${port}/health`, { signal: AbortSignal.timeout(5000) })).status === 200;
  } catch {
    return false;
  }
}

export class Mesh {
  // start runs a cluster and waits until all of its nodes are ready. options are
  // those of prepare.
  static async start(t, options) {
    const mesh = await Mesh.prepare(t, options);
    await mesh.run();
    return mesh;
  }

  // prepare makes a cluster whose nodes do not run yet. options: those of Server,
  // size, ownOf, which says for a node, by its index, what others it has, and peersOf,
  // which says for it and the ports of all which ones it is told.
  static async prepare(t, { size = 3, dir, port, ownOf = () => ({}), peersOf = (_, ports) => ports, ...options } = {}) {
    const mesh = Mesh.last = new Mesh();
    mesh.ownDir = !dir;
    mesh.dir = dir ?? await mkdtemp(path.join(tmpdir(), 'reecho-e2e-mesh-'));
    mesh.size = size;
    mesh.nodes = [];
    mesh.clusterPorts = [];
    t?.after(() => mesh.destroy());
    while (mesh.clusterPorts.length < size) mesh.clusterPorts.push(await steadyPort());
    for (let i = 0; i < size; i++) {
      const name = `n${i + 1}`;
      const own = path.join(mesh.dir, name);
      await mkdir(own, { recursive: true });
      const peers = await peersOf(i, mesh.clusterPorts);
      const node = await Server.prepare(undefined, nodeOptions({ ...options, ...ownOf(i), name, size, listen: mesh.clusterPorts[i], peers, dir: own, port: await steadyPort() }));
      mesh.nodes.push(Object.assign(node, { name }));
    }
    mesh.front = await Front.start(() => mesh.nodes, port);
    return mesh;
  }

  // run starts all nodes that do not run and waits until they are ready.
  async run() {
    await Promise.all(this.nodes.filter((node) => !node.running).map((node) => node.launch()));
    await within(Promise.all(this.nodes.map(({ started }) => started)), 'the cluster to form', PATIENCE).catch((error) => {
      throw new Error(`${error.message}\n${this.log.slice(-40).join('\n')}`);
    });
    await Promise.all(this.nodes.map((_, i) => this.ready(i)));
  }

  // ready waits until a node, by its index, is ready.
  async ready(n) {
    await within(this.becomes(n, true), `node ${n + 1} to be ready`, PATIENCE);
  }

  // notReady waits until it is not.
  async notReady(n) {
    await within(this.becomes(n, false), `node ${n + 1} not to be ready`, PATIENCE);
  }

  async becomes(n, ready) {
    while (!this.ended && await isReady(this.nodes[n]) !== ready) await new Promise((resolve) => { setTimeout(resolve, 50); });
  }

  // stop ends all nodes with a signal, and returns the [status, signal] of one that
  // did not end as it should, if there is such a one.
  async stop(signal = 'SIGTERM') {
    const ends = await Promise.all(this.nodes.filter((node) => node.running).map((node) => node.stop(signal)));
    return ends.find(([status, by]) => status !== 0 || by !== null) ?? ends[0];
  }

  get running() { return this.nodes.every((node) => node.running); }

  get log() { return this.nodes.flatMap(({ name, log = [] }) => log.map((line) => `${name}: ${line}`)); }

  async destroy() {
    this.ended = true;
    this.front?.close();
    await Promise.all(this.nodes.map((node) => node.destroy()));
    if (this.ownDir) await rm(this.dir, { recursive: true, force: true });
  }
}

// Spread is a cluster in the place of one Server: on one port, the clients spread over
// its nodes, which are started and stopped together.
export class Spread {
  static async start(t, options) {
    const spread = new Spread();
    const mesh = await Mesh.prepare(t, options);
    await mesh.run();
    return Object.assign(spread, { mesh, options, dir: mesh.dir });
  }

  get port() { return this.mesh.front.port; }

  get ready() { return this.mesh.nodes[0].ready; }

  get running() { return this.mesh.running; }

  get log() { return this.mesh.log; }

  get child() { return this.mesh.nodes[0].child; }

  run() { return this.mesh.run(); }

  stop(signal) { return this.mesh.stop(signal); }

  destroy() { return this.mesh.destroy(); }
}

// Front is one port for all nodes: each connection goes to the next node that
// is ready. It passes on bytes and ends, and is as slow as who is slow; nodes see the
// address that the client comes from.
class Front {
  static async start(nodes, port = 0) {
    const front = new Front();
    let next = 0;
    front.links = new Set();
    front.server = net.createServer({ allowHalfOpen: true }, async (client) => {
      client.on('error', () => {});
      // A node that starts turns all away.
      await Promise.any(nodes().filter((node) => node.running).map(({ started }) => started)).catch(() => {});
      if (client.destroyed) return;
      const open = nodes().filter((node) => node.running && node.ready);
      if (open.length === 0) {
        client.resetAndDestroy();
        return;
      }
      front.link(client, open[next++ % open.length].port);
    });
    front.server.listen(port, '127.0.0.1');
    await once(front.server, 'listening');
    front.port = front.server.address().port;
    return front;
  }

  link(client, port) {
    const local = client.remoteAddress !== '127.0.0.1' ? { localAddress: client.remoteAddress } : {};
    const node = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true, ...local });
    client.setNoDelay(true);
    for (const [side, other] of [[client, node], [node, client]]) {
      this.links.add(side);
      side.pipe(other);
      side.on('error', () => { if (!other.destroyed) other.resetAndDestroy(); });
      side.on('close', () => {
        this.links.delete(side);
        if (!other.destroyed && !side.readableEnded) other.destroy();
      });
    }
  }

  close() {
    this.server.close();
    for (const link of this.links) link.destroy();
  }
}
