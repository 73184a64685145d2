// Laravel's own broadcast() and channel authorisation, and Laravel Echo.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import Echo2 from 'laravel-echo';
import Echo1 from 'laravel-echo-1';
import { authEndpoint } from './lib/auth.mjs';
import { backend, client, versions } from './lib/clients.mjs';
import { laravel, post } from './lib/laravel.mjs';
import { app, Server } from './lib/server.mjs';
import { once, Recorder } from './lib/wait.mjs';

const echoes = { 2: Echo2, 1: Echo1 };

const inEnvironment = (server) => ({ PUSHER_APP_ID: app.id, PUSHER_APP_KEY: app.key, PUSHER_APP_SECRET: app.secret, PUSHER_HOST: '127.0.0.1', PUSHER_PORT: String(server.port) });

function echo(t, server, { version = 2, broadcaster = 'reverb', user = '7', ...options }) {
  const Echo = echoes[version].default ?? echoes[version];
  const instance = new Echo({
    broadcaster, key: app.key, Pusher: versions[8], wsHost: '127.0.0.1', wsPort: server.port, wssPort: server.port,
    forceTLS: false, enabledTransports: ['ws', 'wss'], ...(broadcaster === 'pusher' ? { cluster: '' } : {}),
    auth: { headers: { 'X-User': user } }, ...options,
  });
  t.after(() => instance.disconnect());
  return instance;
}

for (const version of [2, 1]) {
  for (const broadcaster of ['pusher', 'reverb']) {
    test(`Echo ${version} as ${broadcaster}: listen, join, whisper, leave (167, 168, 169, 173, 46)`, async (t) => {
      const server = await Server.start(t);
      const endpoint = await authEndpoint(t, server);
      const options = { version, broadcaster, authEndpoint: endpoint };
      const [ada, bob] = [echo(t, server, { ...options, user: 'ada' }), echo(t, server, { ...options, user: 'bob' })];

      const scores = new Recorder('ScoreChanged');
      const succeeded = new Recorder('subscribed');
      ada.channel('match.1').subscribed(succeeded.push).listen('ScoreChanged', scores.push).listen('.named', scores.push);
      await succeeded.count(1);
      const hub = backend(server);
      await hub.trigger('match.1', 'App\\Events\\ScoreChanged', { home: 1 });
      await hub.trigger('match.1', 'named', { home: 2 });
      assert.deepEqual(await scores.count(2), [{ home: 1 }, { home: 2 }]);

      const [here, joining, leaving] = ['here', 'joining', 'leaving'].map((n) => new Recorder(n));
      ada.join('lobby').here(here.push).joining(joining.push).leaving(leaving.push);
      assert.deepEqual(await here.count(1), [[{ name: 'name of ada' }]]);
      const bobHere = new Recorder('here');
      bob.join('lobby').here(bobHere.push);
      assert.deepEqual(await joining.count(1), [{ name: 'name of bob' }]);
      assert.equal((await bobHere.count(1))[0].length, 2);

      const typing = new Recorder('typing');
      const ready = new Recorder('ready');
      ada.private('chat.1').listenForWhisper('typing', typing.push).subscribed(ready.push);
      const room = bob.private('chat.1').subscribed(ready.push);
      await ready.count(2);
      room.whisper('typing', { name: 'bob' });
      assert.deepEqual(await typing.count(1), [{ name: 'bob' }]);

      const refused = new Recorder('error');
      bob.private('secret').error(refused.push);
      assert.equal((await refused.count(1))[0].status, 403);

      bob.leave('lobby');
      assert.deepEqual(await leaving.count(1), [{ name: 'name of bob' }]);
      bob.leave('chat.1');
      const channels = new Recorder('channels');
      while (channels.items.at(-1) !== 'match.1 presence-lobby private-chat.1') {
        assert.ok(channels.items.length < 400, channels.items.at(-1));
        const answer = await (await hub.get({ path: '/channels' })).json();
        channels.push(Object.keys(answer.channels).sort().join(' '));
      }
    });
  }
}

test('Echo encryptedPrivate decrypts (174)', async (t) => {
  const server = await Server.start(t);
  const ada = echo(t, server, { authEndpoint: await authEndpoint(t, server) });
  const got = new Recorder('event');
  const ready = new Recorder('subscribed');
  ada.encryptedPrivate('vault').listen('.opened', got.push).subscribed(ready.push);
  await ready.count(1);
  await backend(server).trigger('private-encrypted-vault', 'opened', { by: 'Zoë' });
  assert.deepEqual(await got.count(1), [{ by: 'Zoë' }]);
});

test('Laravel broadcast() reaches Echo; /broadcasting/auth; toOthers; 250 channels; errors (170, 171, 172)', async (t) => {
  const server = await Server.start(t);
  const url = await laravel(t, inEnvironment(server));
  const options = { authEndpoint: `${url}/broadcasting/auth` };
  const [ada, bob] = [echo(t, server, { ...options, user: '7' }), echo(t, server, { ...options, user: '8' })];
  const [toAda, toBob] = [new Recorder('to ada'), new Recorder('to bob')];
  const ready = new Recorder('subscribed');
  ada.private('chat.1').listen('.App\\ScoreChanged', toAda.push).subscribed(ready.push);
  bob.private('chat.1').listen('.App\\ScoreChanged', toBob.push).subscribed(ready.push);
  await ready.count(2);

  assert.deepEqual(await post(`${url}/broadcast`, { text: 'to all', channels: ['private-chat.1'] }), { status: 200, body: {} });
  const others = { text: 'to others', channels: ['private-chat.1'], toOthers: true };
  assert.deepEqual(await post(`${url}/broadcast`, others, { 'X-Socket-ID': ada.socketId() }), { status: 200, body: {} });
  assert.equal((await post(`${url}/broadcast`, { text: 'end', channels: ['private-chat.1'] })).status, 200);
  assert.deepEqual((await toBob.count(3)).map((d) => d.text), ['to all', 'to others', 'end']);
  assert.deepEqual((await toAda.count(2)).map((d) => d.text), ['to all', 'end']);

  const here = new Recorder('here');
  ada.join('lobby').here(here.push);
  assert.deepEqual(await here.count(1), [[{ name: 'Ada' }]]);
  assert.deepEqual(await (await fetch(`${url}/channels`)).json(), { channels: { 'presence-lobby': { user_count: 1, subscription_count: 1 } } });

  const refused = new Recorder('error');
  ada.private('chat.secret').error(refused.push);
  assert.equal((await refused.count(1))[0].status, 403);

  // One connection may have 200 channels (channels_per_connection).
  const wide = [client(t, server), client(t, server)];
  const names = Array.from({ length: 250 }, (_, i) => `wide-${i}`);
  const got = new Recorder('wide');
  await Promise.all(names.map((name, i) => {
    const channel = wide[i % 2].subscribe(name);
    channel.bind('App\\ScoreChanged', () => got.push(name));
    return once(channel, 'pusher:subscription_succeeded');
  }));
  // PusherBroadcaster of Laravel 8 makes one request for all channels; newer
  // ones split them by 100.
  for (let i = 0; i < names.length; i += 100) {
    assert.equal((await post(`${url}/broadcast`, { text: 'wide', channels: names.slice(i, i + 100) })).status, 200);
  }
  assert.deepEqual([...(await got.count(250))].sort(), [...names].sort());

  const large = await post(`${url}/broadcast`, { text: 'x'.repeat(11_000), channels: ['chat'] });
  assert.equal(large.body.class, 'Illuminate\\Broadcasting\\BroadcastException');
  assert.match(large.body.message, /data content of this event exceeds the allowed maximum \(10240 bytes\)/);
});

test('Echo comes back by itself after a restart (175)', async (t) => {
  const server = await Server.start(t);
  const ada = echo(t, server, {});
  const ready = new Recorder('subscribed');
  const got = new Recorder('event');
  for (const name of ['match.1', 'match.2']) ada.channel(name).subscribed(() => ready.push(name)).listen('.x', (d) => got.push([name, d]));
  await ready.count(2);
  assert.deepEqual(await server.stop(), [0, null]);
  // Of several nodes that stop, the last one may have taken its channels once more.
  const { connection } = ada.connector.pusher;
  while (connection.state === 'connected') await once(connection, 'state_change');
  const before = ready.items.length;
  await server.run();
  // Up to 15 s after a refused port.
  await ready.count(before + 2);
  await backend(server).trigger(['match.1', 'match.2'], 'x', 1);
  assert.deepEqual((await got.count(2)).sort(), [['match.1', 1], ['match.2', 1]]);
});
