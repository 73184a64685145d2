// Official server libraries.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once as emitted } from 'node:events';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { backend, client, subscribed } from './lib/clients.mjs';
import { app, Server } from './lib/server.mjs';
import { Recorder } from './lib/wait.mjs';

const json = async (response) => (await response).json();

test('Node library: every call (127, 129, 133, 134, 135, 137, 141, 144, 145)', async (t) => {
  const server = await Server.start(t);
  const hub = backend(server);
  const pusher = client(t, server, { user: { id: '42' } });
  const chat = await subscribed(pusher, 'chat');
  await subscribed(pusher, 'presence-lobby');
  const got = new Recorder('event');
  chat.bind('x', got.push);

  assert.deepEqual(await json(hub.trigger('chat', 'x', 1)), {});
  assert.deepEqual(await json(hub.trigger(['chat', 'presence-lobby'], 'x', 2, { info: 'user_count,subscription_count' })),
    { channels: { chat: { subscription_count: 1 }, 'presence-lobby': { user_count: 1, subscription_count: 1 } } });
  assert.deepEqual(await json(hub.triggerBatch([{ channel: 'chat', name: 'x', data: 3 }, { channel: 'chat', name: 'x', data: 4, info: 'subscription_count' }])),
    { batch: [{}, { subscription_count: 1 }] });
  assert.deepEqual(await got.count(4), [1, 2, 3, 4]);
  assert.deepEqual(await json(hub.get({ path: '/channels' })), { channels: { chat: {}, 'presence-lobby': {} } });
  assert.deepEqual(await json(hub.get({ path: '/channels', params: { filter_by_prefix: 'presence-', info: 'user_count' } })),
    { channels: { 'presence-lobby': { user_count: 1 } } });
  assert.deepEqual(await json(hub.get({ path: '/channels/presence-lobby', params: { info: 'user_count,subscription_count' } })),
    { occupied: true, user_count: 1, subscription_count: 1 });
  assert.deepEqual(await json(hub.get({ path: '/channels/presence-lobby/users' })), { users: [{ id: '42' }] });
  assert.deepEqual(await json(hub.terminateUserConnections('nobody here')), {});
  assert.deepEqual(await json(hub.sendToUser('u-7', 'x', {})), {});

  await assert.rejects(hub.trigger('chat', 'x', 'y'.repeat(10_241)), (e) => e.status === 413 && /content of this event/.test(e.body));
  await assert.rejects(hub.triggerBatch(Array.from({ length: 11 }, () => ({ channel: 'chat', name: 'x', data: 0 }))),
    (e) => e.status === 400 && /Batch too large/.test(e.body));
  await assert.rejects(backend(server, { secret: 'wrong' }).trigger('chat', 'x', 0), (e) => e.status === 401);
  await assert.rejects(backend(server, { key: 'wrong' }).trigger('chat', 'x', 0), (e) => e.status === 401);
  await assert.rejects(backend(server, { appId: '78', key: 'wrong' }).trigger('chat', 'x', 0), (e) => e.status === 404);
});

test('Node library: the history of a channel, page by page', async (t) => {
  const server = await Server.start(t);
  const hub = backend(server);
  const page = async (params) => json(hub.get({ path: '/channels/private-chat.1/events', params }));
  assert.deepEqual(await page({}), { events: [], more: false });
  const all = Array.from({ length: 25 }, (_, i) => ({ n: i + 1, text: `é "${i}" &=%` }));
  for (const data of all) await hub.trigger('private-chat.1', 'Message\\Sent', data);
  const seen = [];
  for (let after, more = true; more;) {
    const got = await page({ limit: 10, ...(after ? { after } : {}) });
    for (const { position, time, event, data } of got.events) {
      assert.equal(event, 'Message\\Sent');
      assert.ok(Math.abs(Date.now() - Date.parse(time)) < 3_600_000, time);
      seen.push(JSON.parse(data));
      after = position;
    }
    ({ more } = got);
  }
  assert.deepEqual(seen, all);
  const back = [];
  for (let before, more = true; more;) {
    const got = await page({ order: 'desc', limit: 10, ...(before ? { before } : {}) });
    back.push(...got.events.map(({ data }) => JSON.parse(data)));
    before = got.events.at(-1).position;
    ({ more } = got);
  }
  assert.deepEqual(back.reverse(), all);
  assert.equal((await page({ since: new Date(Date.now() + 3_600_000).toISOString() })).events.length, 0);
  const [{ position }] = (await page({ limit: 1 })).events;
  await assert.rejects(page({ after: `0${position.slice(1)}` }), (e) => e.status === 410 && /epoch_changed/.test(e.body));
  await assert.rejects(hub.get({ path: '/channels/other/events', params: { after: position } }), (e) => e.status === 400 && /another channel/.test(e.body));
});

test('Python library: every call (145)', async (t) => {
  const server = await Server.start(t);
  const pusher = client(t, server, { user: { id: '42' } });
  const chat = await subscribed(pusher, 'chat');
  await subscribed(pusher, 'presence-lobby');
  const got = new Recorder('event');
  chat.bind('x', got.push);
  const python = spawn(process.env.REECHO_E2E_PYTHON, [fileURLToPath(new URL('library.py', import.meta.url)), String(server.port), app.id, app.key, app.secret],
    { stdio: ['ignore', 'inherit', 'pipe'] });
  let errors = '';
  python.stderr.on('data', (chunk) => { errors += chunk; });
  const [status] = await emitted(python, 'exit');
  assert.equal(status, 0, errors);
  assert.deepEqual(await got.count(4), [{ n: 1 }, { n: 2 }, { n: 3 }, { n: 4 }]);
});

test('a Laravel .env is understood as it stands', async (t) => {
  const { writeFile, mkdtemp } = await import('node:fs/promises');
  const { tmpdir } = await import('node:os');
  const dir = await mkdtemp(`${tmpdir()}/reecho-e2e-`);
  await writeFile(`${dir}/.env`, `APP_NAME=Laravel\nBROADCAST_CONNECTION=reverb\n\nREVERB_APP_ID=${app.id}\nREVERB_APP_KEY="${app.key}"\nREVERB_APP_SECRET='${app.secret}' # comment\nREVERB_HOST="localhost"\nVITE_REVERB_APP_KEY="\${REVERB_APP_KEY}"\nPUSHER_APP_ID=\nPUSHER_APP_KEY=\nPUSHER_APP_SECRET=\n`);
  const server = await Server.start(t, { dir, noConfig: true, args: ['--env-file', `${dir}/.env`] });
  assert.deepEqual(await json(backend(server).trigger('chat', 'x', 1)), {});
});
