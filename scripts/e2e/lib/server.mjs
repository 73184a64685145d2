// Runs a real reecho server for a test. With REECHO_E2E_NODES=3 it is a cluster of
// three, and the clients are spread over them (see mesh.mjs).
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';

// BINARY is built by scripts/e2e/run.
const BINARY = process.env.REECHO_E2E_BINARY;

export const NODES = Number(process.env.REECHO_E2E_NODES ?? 1);

export const app = { id: '77', key: 'demo-key-01', secret: 'demo-secret-01' };

// freePort asks the system for a port that is free now.
export async function freePort() {
  const probe = net.createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

// isAlone says of options that they are for one process only, or one that cannot be
// asked whether it is ready.
const isAlone = ({ alone, bare, dataDir, through, args = [] }) => alone || bare || dataDir || through || args.includes('--listen') || args.includes('--proxy-protocol');

export class Server {
  // start runs a server with apps (default: one with the defaults). options:
  // apps, args, env, port, dir, noConfig, dataDir, through: a program with its
  // arguments that becomes the server, alone: it is never a cluster, and bare: it gets
  // args and no others, and runs in dir.
  static async start(t, options = {}) {
    if (NODES > 1 && !isAlone(options)) {
      const { Spread } = await import('./mesh.mjs');
      return Spread.start(t, { ...options, size: NODES });
    }
    const server = await Server.prepare(t, options);
    await server.run();
    return server;
  }

  // prepare makes a server that does not run yet.
  static async prepare(t, options = {}) {
    const server = new Server();
    server.ownDir = !options.dir;
    server.dir = options.dir ?? await mkdtemp(path.join(tmpdir(), 'reecho-e2e-'));
    server.port = options.port ?? await freePort();
    server.options = options;
    t?.after(() => server.destroy());
    return server;
  }

  // run starts the server and waits until it is ready.
  async run() {
    await this.launch();
    await this.started;
  }

  // launch starts the server; started tells when it is ready, or fails when it ends
  // before.
  async launch() {
    const { options } = this;
    const own = ['--listen', `127.0.0.1:${this.port}`, '--data-dir', options.dataDir ?? path.join(this.dir, 'data')];
    const args = [...(options.bare ? [] : own), ...(options.args ?? [])];
    if (!options.noConfig && !options.bare) {
      const config = path.join(this.dir, 'reecho.yaml');
      // JSON is YAML.
      await writeFile(config, JSON.stringify({ apps: options.apps ?? [app] }));
      args.push('--config', config);
    }
    this.log = [];
    this.ready = undefined;
    const [program, ...rest] = [...(options.through ?? []), BINARY, ...args];
    this.child = spawn(program, rest, { cwd: options.bare ? this.dir : undefined, env: { PATH: process.env.PATH, ...options.env }, stdio: ['ignore', 'pipe', 'pipe'] });
    // Then all that it said has been read.
    this.exited = once(this.child, 'close');
    const { log } = this;
    createInterface({ input: this.child.stderr }).on('line', (line) => log.push(line));
    const lines = createInterface({ input: this.child.stdout });
    const ready = once(lines, 'line');
    const ended = this.exited.then(([code]) => { throw new Error(`server ended with ${code}:\n${log.join('\n')}`); });
    ended.catch(() => {});
    this.started = Promise.race([ready, ended]).then(([line]) => { this.ready = line; });
    this.started.catch(() => {});
  }

  // stop ends the server with a signal and returns [status, signal].
  async stop(signal = 'SIGTERM') {
    this.child.kill(signal);
    return this.exited;
  }

  get running() { return this.child !== undefined && this.child.exitCode === null && this.child.signalCode === null; }

  async destroy() {
    if (this.running) {
      await this.stop('SIGKILL');
    }
    if (this.ownDir) {
      await rm(this.dir, { recursive: true, force: true });
    }
  }
}
