// Laravel applications with the package reecho/laravel, as Composer would have installed
// it: of the Laravel of this system, and of those of other systems in folders.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { listening } from './laravel.mjs';
import { freePort } from './server.mjs';
import { pause, Recorder, within } from './wait.mjs';

const e2e = path.join(import.meta.dirname, '..');

// PACKAGE is the folder of reecho/laravel.
export const PACKAGE = path.join(e2e, '../laravel');

// roots are where there is a Laravel: / is this system, others are of scripts/e2e/laravel/newer.
export const roots = ['/', ...(process.env.REECHO_E2E_LARAVEL_ROOTS ?? '').split(':').filter(Boolean)];

// versionOf is the version of the Laravel of a root.
export function versionOf(root) {
  return readFileSync(path.join(root, 'usr/share/php/Illuminate/Foundation/Application.php'), 'utf8').match(/VERSION = '([\d.]+)'/)[1];
}

export class Application {
  // constructor makes the folder of one. env is its .env.
  constructor(t, root, env) {
    this.root = root;
    const dir = mkdtempSync(path.join(root, 'tmp/reecho-e2e-app-'));
    this.children = [];
    t.after(async () => {
      for (const { child, exited } of this.children) {
        child.kill('SIGKILL');
        await exited;
      }
      rmSync(dir, { recursive: true, force: true });
    });
    cpSync(path.join(e2e, 'laravel/app'), dir, { recursive: true });
    for (const name of ['bootstrap/cache', 'pusher', 'vendor/composer', ...['logs', 'framework/sessions', 'framework/cache', 'framework/views'].map((name) => `storage/${name}`)]) {
      mkdirSync(path.join(dir, name), { recursive: true });
    }
    copyFileSync(path.join(e2e, 'laravel/Pusher.php'), path.join(dir, 'pusher/Pusher.php'));
    cpSync(PACKAGE, path.join(dir, 'vendor/reecho/laravel'), { recursive: true });
    const manifest = JSON.parse(readFileSync(path.join(PACKAGE, 'composer.json'), 'utf8'));
    this.dir = dir;
    this.inside = path.join('/', path.relative(root, dir)); // as PHP sees it
    this.write('vendor/composer/installed.json', JSON.stringify({ packages: [manifest] }));
    if (env !== undefined) this.write('.env', env);
  }

  write(name, text) { writeFileSync(path.join(this.dir, name), text); }

  read(name) {
    const file = path.join(this.dir, name);
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  }

  remove(name) { rmSync(path.join(this.dir, name), { force: true }); }

  // php is a command line of PHP in the folder.
  php(...args) {
    if (this.root === '/') return ['php', ...args];
    return ['chroot', this.root, 'sh', '-c', `cd ${this.inside} && exec php "$@"`, 'sh', ...args];
  }

  spawn(args, env = {}) {
    const [program, ...rest] = this.php(...args);
    const child = spawn(program, rest, { cwd: this.dir, env: { PATH: process.env.PATH, HOME: '/tmp', ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    this.children.push({ child, exited: once(child, 'exit') });
    return child;
  }

  // artisan runs a command to its end.
  artisan(...args) {
    const [program, ...rest] = this.php('artisan', ...args);
    const { status, stdout, stderr } = spawnSync(program, rest, { cwd: this.dir, env: { PATH: process.env.PATH, HOME: '/tmp' }, encoding: 'utf8' });
    return { status, said: stdout + stderr };
  }

  // start runs reecho:start and waits until the server is ready.
  async start(args = [], { php = [], env = {} } = {}) {
    const child = this.spawn([...php, 'artisan', 'reecho:start', ...args], env);
    const server = { child, log: [], exited: once(child, 'exit') };
    createInterface({ input: child.stderr }).on('line', (line) => server.log.push(line));
    const said = new Recorder('line');
    createInterface({ input: child.stdout }).on('line', said.push);
    const ended = server.exited.then(([code]) => { throw new Error(`reecho:start ended with ${code}:\n${[...said.items, ...server.log].join('\n')}`); });
    ended.catch(() => {});
    server.ready = await Promise.race([ended, said.until((lines) => lines.find((line) => line.startsWith('reecho is ready')), 'reecho to be ready')]);
    server.port = Number(server.ready.match(/:(\d+)/)[1]);
    return server;
  }

  // serve has PHP's own web server answer, with as many processes as a test needs at once.
  async serve(port) {
    port ??= await freePort();
    const child = this.spawn(['-S', `127.0.0.1:${port}`, '-t', 'public', 'public/index.php'], { PHP_CLI_SERVER_WORKERS: '4' });
    let log = '';
    child.stderr.on('data', (text) => { log += text; });
    child.stdout.resume();
    await listening(port, () => log);
    this.url = `http://127.0.0.1:${port}`;
  }

  // heard are the events that a listener has written down.
  get heard() {
    return this.read('storage/heard').split('\n').filter(Boolean).map((line) => JSON.parse(line));
  }

  // hears waits until test(heard) is true.
  async hears(test, what) {
    await within((async () => { while (!test(this.heard)) await pause(20); })(), what)
      .catch((error) => { throw new Error(`${error.message}; heard ${JSON.stringify(this.heard)}; the log: ${this.read('storage/logs/laravel.log').slice(0, 2000)}`); });
  }
}
