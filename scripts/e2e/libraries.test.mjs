// Official server libraries.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { backend, client, subscribed } from './lib/clients.mjs';
import { libraries, library, without } from './lib/program.mjs';
import { hooked, Receiver, verifies } from './lib/receiver.mjs';
import { app, Server } from './lib/server.mjs';
import { pause, Recorder } from './lib/wait.mjs';

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

// What a library has no call for.
const lacks = { Java: ['send_to_user', 'authenticate'] };

for (const [language, program] of Object.entries(libraries)) {
  const has = (call) => !lacks[language]?.includes(call);

  test(`${language} library: every call (145)`, { skip: without(program) }, async (t) => {
    const receiver = await Receiver.start(t);
    // Without webhooks of encrypted channels: pusher-http-go 5.1.1 decrypts what has no data, and fails.
    const endpoint = { url: receiver.url, channel_prefix: 'presence-', events: ['channel_occupied', 'member_added', 'client_event'] };
    const server = await Server.start(t, { apps: [hooked(endpoint)] });
    const hub = library(t, program, server);
    // It signs for this client, too.
    const handler = (call, args) => ({
      customHandler: ({ channelName, socketId }, callback) => {
        hub.call(call, { socket_id: socketId, ...args(channelName) }).then((answer) => callback(null, answer), callback);
      },
    });
    const pusher = client(t, server, {
      channelAuthorization: handler('authorize', (channel) => ({
        channel, ...(channel.startsWith('presence-') ? { user: { user_id: '42', user_info: { name: 'Zoë' } } } : {}),
      })),
      userAuthentication: handler('authenticate', () => ({ user_data: { id: 'u-7', name: 'Ada' } })),
    });
    const got = new Recorder('event');
    for (const name of ['chat', 'private-chat', 'presence-lobby', 'private-encrypted-vault']) {
      const channel = await subscribed(pusher, name);
      channel.bind('x', (data) => got.push([name, data]));
    }
    assert.deepEqual(pusher.channel('presence-lobby').members.me, { id: '42', info: { name: 'Zoë' } });

    const text = 'é "1" &=% \\ 😀';
    assert.deepEqual(await hub.call('trigger', { channels: ['chat'], event_name: 'x', data: { n: 1, text } }), {});
    assert.deepEqual(await hub.call('trigger', { channels: ['private-chat', 'presence-lobby'], event_name: 'x', data: { n: 2 } }), {});
    await hub.call('trigger', { channels: ['chat'], event_name: 'x', data: { n: 0 }, socket_id: pusher.connection.socket_id });
    assert.deepEqual(await hub.call('batch', { batch: [3, 4].map((n) => ({ channel: 'chat', name: 'x', data: { n } })) }), {});
    assert.deepEqual(await hub.call('trigger', { channels: ['private-encrypted-vault'], event_name: 'x', data: { n: 5, text } }), {});
    await hub.call('batch', { batch: [{ channel: 'private-encrypted-vault', name: 'x', data: { n: 6 } }, { channel: 'chat', name: 'x', data: { n: 7 } }] });
    // Of each channel in its order.
    const events = await got.count(8);
    const on = (name) => events.filter(([channel]) => channel === name).map(([, data]) => data);
    assert.deepEqual(on('chat'), [{ n: 1, text }, { n: 3 }, { n: 4 }, { n: 7 }]);
    assert.deepEqual(on('private-chat'), [{ n: 2 }]);
    assert.deepEqual(on('presence-lobby'), [{ n: 2 }]);
    assert.deepEqual(on('private-encrypted-vault'), [{ n: 5, text }, { n: 6 }]);

    assert.deepEqual(Object.keys((await hub.call('channels')).channels).sort(), ['chat', 'presence-lobby', 'private-chat', 'private-encrypted-vault']);
    assert.deepEqual(await hub.call('channels', { prefix: 'presence-', info: ['user_count'] }), { channels: { 'presence-lobby': { user_count: 1 } } });
    assert.deepEqual(await hub.call('channel', { channel: 'presence-lobby', info: ['user_count', 'subscription_count'] }), { occupied: true, user_count: 1, subscription_count: 1 });
    assert.deepEqual(await hub.call('channel', { channel: 'nobody' }), { occupied: false });
    assert.deepEqual(await hub.call('users', { channel: 'presence-lobby' }), { users: [{ id: '42' }] });

    if (has('authenticate')) {
      pusher.signin();
      await pusher.user.signinDonePromise;
      assert.equal(pusher.user.user_data.id, 'u-7');
    }
    if (has('send_to_user')) {
      const mail = new Recorder('mail');
      pusher.user.bind('mail', mail.push);
      while (!pusher.user.serverToUserChannel?.subscribed) await pause(20);
      assert.deepEqual(await hub.call('send_to_user', { user_id: 'u-7', event_name: 'mail', data: { n: 1 } }), {});
      assert.deepEqual(await mail.count(1), [{ n: 1 }]);
    }

    await assert.rejects(hub.call('trigger', { channels: ['chat'], event_name: 'x', data: `${'y'.repeat(10_239)}zzz` }), /10240|10242/);
    const wrong = library(t, program, server, { secret: 'wrong' });
    await assert.rejects(wrong.call('trigger', { channels: ['chat'], event_name: 'x', data: { n: 8 } }), /signature/i);

    pusher.channel('presence-lobby').trigger('client-typing', { text });
    await receiver.until((all) => endpoint.events.every((name) => all.some((e) => e.name === name)), 'the webhooks');
    await verifies(hub, receiver.got.items);
    assert.equal(await hub.end(), 0);
  });
}

test('a Laravel .env is understood as it stands', async (t) => {
  const { writeFile, mkdtemp } = await import('node:fs/promises');
  const { tmpdir } = await import('node:os');
  const dir = await mkdtemp(`${tmpdir()}/reecho-e2e-`);
  await writeFile(`${dir}/.env`, `APP_NAME=Laravel\nBROADCAST_CONNECTION=reverb\n\nREVERB_APP_ID=${app.id}\nREVERB_APP_KEY="${app.key}"\nREVERB_APP_SECRET='${app.secret}' # comment\nREVERB_HOST="localhost"\nVITE_REVERB_APP_KEY="\${REVERB_APP_KEY}"\nPUSHER_APP_ID=\nPUSHER_APP_KEY=\nPUSHER_APP_SECRET=\n`);
  const server = await Server.start(t, { dir, noConfig: true, args: ['--env-file', `${dir}/.env`] });
  assert.deepEqual(await json(backend(server).trigger('chat', 'x', 1)), {});
});
