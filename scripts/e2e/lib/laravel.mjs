// Laravel's broadcasting, behind PHP's own web server.
import { spawn } from 'node:child_process';
import { once as emitted } from 'node:events';
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import { freePort } from './server.mjs';
import { within } from './wait.mjs';

// laravel runs the PHP application, which is told by env where the server is; it
// returns its base URL.
export async function laravel(t, env) {
  const port = await freePort();
  const php = spawn('php', ['-S', `127.0.0.1:${port}`, fileURLToPath(new URL('../laravel/index.php', import.meta.url))], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  php.stderr.on('data', (chunk) => { log += chunk; });
  t.after(() => php.kill());
  await listening(port, () => log);
  return `http://127.0.0.1:${port}`;
}

// listening waits until somebody listens on a port; log() is what it said.
export function listening(port, log) {
  return within((async () => {
    for (;;) {
      const socket = net.connect(port, '127.0.0.1');
      const [outcome] = await Promise.race([emitted(socket, 'connect').then(() => [true]), emitted(socket, 'error').then(() => [false])]).catch(() => [false]);
      socket.destroy();
      if (outcome) return;
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
  })(), 'PHP to listen').catch((error) => { throw new Error(`${error.message}: ${log()}`); });
}

export async function post(url, body, headers = {}) {
  const response = await fetch(url, { method: 'POST', body: JSON.stringify(body), headers: { 'Content-Type': 'application/json', ...headers } });
  return { status: response.status, body: await response.json() };
}
