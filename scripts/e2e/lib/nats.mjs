// Runs nats-server as a process of its own, of a version that reecho has to work with.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { steadyPort } from './mesh.mjs';
import { pause, within } from './wait.mjs';

const top = path.join(import.meta.dirname, '../../..');

// Versions: the oldest that is let in, and the one that is built in.
export const OLDEST = '2.11.0';
export const NEWEST = /nats-server\/v2 v(\S+)/.exec(readFileSync(path.join(top, 'go.mod'), 'utf8'))[1];

// binary builds a version once.
const built = new Map();
function binary(version) {
  const bin = path.join(top, '.cache/e2e', `nats-${version}`);
  const file = path.join(bin, 'nats-server');
  if (existsSync(file)) return file;
  if (!built.has(version)) {
    const env = { ...process.env, GOBIN: bin };
    built.set(version, promisify(execFile)('go', ['install', `github.com/nats-io/nats-server/v2@v${version}`], { env, timeout: 500_000 }));
  }
  return built.get(version).then(() => file);
}

export class Nats {
  // start runs a server with a configuration, a text, and waits until it listens.
  // options: version, name, dir, port and env.
  static async start(t, conf, options) {
    const nats = await Nats.prepare(t, conf, options);
    await nats.run();
    return nats;
  }

  // prepare makes a server that does not run yet. conf may be a function of it.
  static async prepare(t, conf, { version = NEWEST, name = 'nats', env } = {}) {
    const nats = Object.assign(new Nats(), { version, name, env, log: [] });
    nats.dir = await mkdtemp(path.join(tmpdir(), 'reecho-e2e-nats-'));
    nats.port = await steadyPort();
    t.after(() => nats.destroy());
    nats.file = await binary(version);
    await mkdir(path.join(nats.dir, 'data'));
    nats.conf = conf;
    return nats;
  }

  get url() { return `nats://127.0.0.1:${this.port}`; }

  async run() {
    const file = path.join(this.dir, 'nats.conf');
    await writeFile(file, `server_name: ${this.name}\nlisten: "127.0.0.1:${this.port}"\n${typeof this.conf === 'function' ? this.conf(this) : this.conf}`);
    this.child = spawn(this.file, ['-c', file], { env: { PATH: process.env.PATH, ...this.env }, stdio: ['ignore', 'ignore', 'pipe'] });
    this.exited = once(this.child, 'exit');
    createInterface({ input: this.child.stderr }).on('line', (line) => this.log.push(line));
    await within(this.listens(), 'a NATS server to listen').catch((error) => {
      throw new Error(`${error.message}:\n${this.log.slice(-20).join('\n')}`);
    });
  }

  async listens() {
    for (;;) {
      const socket = net.connect({ port: this.port, host: '127.0.0.1' });
      socket.on('error', () => {});
      const open = await Promise.race([once(socket, 'connect').then(() => true, () => false), once(socket, 'close').then(() => false)]);
      socket.destroy();
      if (open) return;
      await pause(20);
    }
  }

  async stop(signal = 'SIGKILL') {
    this.child.kill(signal);
    await this.exited;
  }

  get running() { return this.child !== undefined && this.child.exitCode === null && this.child.signalCode === null; }

  async destroy() {
    if (this.running) await this.stop();
    await rm(this.dir, { recursive: true, force: true });
  }
}
