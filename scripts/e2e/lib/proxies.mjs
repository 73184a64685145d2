// Real proxies, run for a test.
import { spawn } from 'node:child_process';
import { once as emitted } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { freePort } from './server.mjs';
import { within } from './wait.mjs';

// start runs a proxy with a configuration until the test ends, and waits until
// it listens.
async function start(t, port, name, config, args) {
  const dir = await mkdtemp(path.join(tmpdir(), `reecho-e2e-${name}-`));
  const file = path.join(dir, 'conf');
  await writeFile(file, config(dir));
  const proxy = spawn(name, args(dir, file), { stdio: ['ignore', 'ignore', 'pipe'] });
  const log = [];
  proxy.stderr.on('data', (text) => log.push(String(text)));
  const gone = emitted(proxy, 'exit');
  t.after(async () => {
    proxy.kill('SIGKILL');
    await gone;
    await rm(dir, { recursive: true, force: true });
  });
  const ended = gone.then(([code]) => { throw new Error(`${name} ended with ${code}: ${log.join('')}`); });
  ended.catch(() => {});
  const listens = async () => {
    for (;;) {
      const probe = net.connect(port, '127.0.0.1');
      const up = await new Promise((resolve) => probe.once('connect', () => resolve(true)).once('error', () => resolve(false)));
      probe.destroy();
      if (up) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  await within(Promise.race([listens(), ended]), `${name} to listen`);
  return port;
}

// nginx runs nginx with what stands in its http block; ${port} is where its
// server is to listen.
export async function nginx(t, block) {
  const port = await freePort();
  return start(t, port, 'nginx', (dir) => `
    pid ${dir}/pid; error_log stderr; daemon off; master_process off;
    events { }
    http {
      access_log off; client_body_temp_path ${dir}/b; proxy_temp_path ${dir}/p; fastcgi_temp_path ${dir}/f; uwsgi_temp_path ${dir}/u; scgi_temp_path ${dir}/s;
      ${block(port)}
    }`, (dir, file) => ['-p', dir, '-c', file]);
}

// haproxy runs HAProxy with what stands behind its defaults.
export async function haproxy(t, config) {
  const port = await freePort();
  return start(t, port, 'haproxy', () => `
    defaults
      timeout connect 5s
      timeout client 1m
      timeout server 1m
      timeout tunnel 1h
${config(port)}
`, (dir, file) => ['-db', '-f', file]);
}
