// wss and HTTPS on the one port, with a certificate of the test's own CA.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import { test } from 'node:test';
import { setGlobalCA } from './lib/ca.mjs';
import { app, Server } from './lib/server.mjs';
import { once, Recorder } from './lib/wait.mjs';

const dir = mkdtempSync(path.join(tmpdir(), 'reecho-e2e-tls-'));
const openssl = (...args) => execFileSync('openssl', args, { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] });

// certificate makes a certificate of the CA for 127.0.0.1 with a serial number.
function certificate(name, serial) {
  writeFileSync(path.join(dir, 'ext'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
  openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', '/CN=localhost');
  openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-set_serial', String(serial), '-days', '2', '-extfile', 'ext', '-out', `${name}.pem`);
}

openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=reecho test CA');
certificate('one', 11);
certificate('two', 22);
const ca = path.join(dir, 'ca.pem');
const { backend, client, subscribed, versions } = await setGlobalCA(ca, () => import('./lib/clients.mjs'));
const { default: Echo } = await import('laravel-echo');

async function startTLS(t, apps) {
  const own = mkdtempSync(path.join(dir, 'server-'));
  for (const kind of ['pem', 'key']) copyFileSync(path.join(dir, `one.${kind}`), path.join(own, `cert.${kind}`));
  const server = await Server.start(t, { apps, args: ['--tls-cert', path.join(own, 'cert.pem'), '--tls-key', path.join(own, 'cert.key')] });
  return Object.assign(server, { certificates: own });
}

test('pusher-js, Echo and the server library with TLS', async (t) => {
  const server = await startTLS(t);
  assert.match(server.ready, /https:\/\//);
  const hub = backend(server, { useTLS: true, port: String(server.port) });
  const pusher = client(t, server, { forceTLS: true });
  const channel = await subscribed(pusher, 'private-chat.1');
  const echo = new Echo({ broadcaster: 'reverb', key: app.key, Pusher: versions[8], wsHost: '127.0.0.1', wssPort: server.port, forceTLS: true, enabledTransports: ['ws', 'wss'] });
  t.after(() => echo.disconnect());
  const ready = new Recorder('subscribed');
  const got = new Recorder('event');
  channel.bind('x', got.push);
  echo.channel('match.1').subscribed(ready.push).listen('.x', got.push);
  await ready.count(1);
  await hub.trigger(['private-chat.1', 'match.1'], 'x', 'over TLS');
  assert.deepEqual(await got.count(2), ['over TLS', 'over TLS']);
  // The same port still speaks plain HTTP and ws to whoever wants it.
  assert.equal((await fetch(`http://127.0.0.1:${server.port}/health`)).status, 200);
  await subscribed(client(t, server), 'chat');
});

test('a TLS-only app sends a plain client to wss (14)', async (t) => {
  const server = await startTLS(t, [{ ...app, tls_only: true }]);
  const pusher = client(t, server, { forceTLS: false });
  const errors = new Recorder('error');
  pusher.connection.bind('error', errors.push);
  const channel = await subscribed(pusher, 'chat');
  assert.ok(errors.items.some((e) => (e.data?.code ?? e.error?.data?.code) === 4000), JSON.stringify(errors.items));
  const got = new Recorder('event');
  channel.bind('x', got.push);
  await backend(server, { useTLS: true, port: String(server.port) }).trigger('chat', 'x', 1);
  await got.count(1);
});

test('a new certificate is used without a restart', async (t) => {
  const server = await startTLS(t);
  const serial = () => new Promise((resolve, reject) => {
    const socket = tls.connect(server.port, '127.0.0.1', { rejectUnauthorized: false }, () => {
      resolve(parseInt(socket.getPeerCertificate().serialNumber, 16));
      socket.destroy();
    }).on('error', reject);
  });
  const pusher = client(t, server, { forceTLS: true });
  await once(pusher.connection, 'connected');
  assert.equal(await serial(), 11);
  for (const kind of ['pem', 'key']) copyFileSync(path.join(dir, `two.${kind}`), path.join(server.certificates, `cert.${kind}`));
  const serials = new Recorder('serial');
  const poll = setInterval(() => serial().then(serials.push, () => {}), 200);
  t.after(() => clearInterval(poll));
  await serials.until((all) => all.at(-1) === 22);
  assert.equal(pusher.connection.state, 'connected');
});
