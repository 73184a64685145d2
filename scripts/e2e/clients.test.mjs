// Clients in other languages: the official one of Java, and of Python the one that is used most.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { authEndpoint, infoOf } from './lib/auth.mjs';
import { backend, client, subscribed } from './lib/clients.mjs';
import { clients, Program, without } from './lib/program.mjs';
import { app, Server } from './lib/server.mjs';
import { pause, Recorder } from './lib/wait.mjs';

const TEXT = 'é "1" &=% \\ 😀';

// start runs a client of a user, connected.
async function start(t, language, server, user) {
  const program = new Program(t, [...clients[language], String(server.port), app.key, await authEndpoint(t, server), user, app.secret]);
  await program.hears({ state: 'connected' });
  return program;
}

// join subscribes a client, and waits until it is told that it is.
async function join(program, channel, events = []) {
  const before = program.told.items.length;
  await program.call('subscribe', { channel, events });
  await program.told.until((all) => all.slice(before).some(({ subscribed: name }) => name === channel), `${channel} to be subscribed`);
}

// becomes asks until the answer is the wanted one.
async function becomes(ask, wanted) {
  let last;
  for (let i = 0; i < 400; i++) {
    last = await ask();
    if (JSON.stringify(last) === JSON.stringify(wanted)) return;
    await pause(50);
  }
  assert.deepEqual(last, wanted);
}

for (const language of Object.keys(clients)) {
  const skip = without(clients[language]);

  test(`${language} client: public, private, presence, cache, client events`, { skip }, async (t) => {
    const server = await Server.start(t);
    const hub = backend(server);
    const ask = async (path, params) => (await hub.get({ path, params })).json();
    const ada = await start(t, language, server, 'ada');
    const bob = client(t, server, { user: { id: 'bob', info: infoOf('bob') } });

    await join(ada, 'match.1', ['score']);
    await hub.trigger('match.1', 'score', { n: 1, text: TEXT });
    assert.deepEqual(JSON.parse((await ada.hears({ channel: 'match.1', event: 'score' })).data), { n: 1, text: TEXT });

    await hub.trigger('cache-table', 'row', { n: 2 });
    await join(ada, 'cache-table', ['row']);
    assert.deepEqual(JSON.parse((await ada.hears({ channel: 'cache-table', event: 'row' })).data), { n: 2 });

    const chat = await subscribed(bob, 'private-chat');
    const typing = new Recorder('typing');
    chat.bind('client-typing', typing.push);
    await join(ada, 'private-chat', ['client-typing', 'said']);
    await ada.call('trigger', { channel: 'private-chat', event_name: 'client-typing', data: { text: TEXT } });
    assert.deepEqual(await typing.count(1), [{ text: TEXT }]);
    chat.trigger('client-typing', { by: 'bob' });
    const { data } = await ada.hears({ channel: 'private-chat', event: 'client-typing' });
    assert.deepEqual(typeof data === 'string' ? JSON.parse(data) : data, { by: 'bob' });
    await hub.trigger('private-chat', 'said', { n: 3 });
    await ada.hears({ channel: 'private-chat', event: 'said' });
    assert.equal(ada.told.items.filter(({ event }) => event === 'client-typing').length, 1, 'its own came back');

    const lobby = await subscribed(bob, 'presence-lobby');
    const changes = new Recorder('change');
    for (const event of ['added', 'removed']) lobby.bind(`pusher:member_${event}`, (user) => changes.push([event, user]));
    const whispers = new Recorder('whisper');
    lobby.bind('client-hello', (what, { user_id: from }) => whispers.push([what, from]));
    await join(ada, 'presence-lobby', ['client-hello']);
    for (const id of ['ada', 'bob']) assert.deepEqual(JSON.parse((await ada.hears({ channel: 'presence-lobby', here: id })).info), infoOf(id));
    assert.deepEqual(await changes.count(1), [['added', { id: 'ada', info: infoOf('ada') }]]);
    const eve = client(t, server, { user: { id: 'eve', info: infoOf('eve') } });
    await subscribed(eve, 'presence-lobby');
    assert.deepEqual(JSON.parse((await ada.hears({ channel: 'presence-lobby', joining: 'eve' })).info), infoOf('eve'));
    await ada.call('trigger', { channel: 'presence-lobby', event_name: 'client-hello', data: { n: 4 } });
    assert.deepEqual(await whispers.count(1), [[{ n: 4 }, 'ada']]);
    eve.disconnect();
    await ada.hears({ channel: 'presence-lobby', leaving: 'eve' });
    await becomes(async () => (await ask('/channels/presence-lobby/users')).users.map(({ id }) => id).sort(), ['ada', 'bob']);

    await ada.call('unsubscribe', { channel: 'presence-lobby' });
    assert.deepEqual((await changes.count(4)).at(-1), ['removed', { id: 'ada', info: infoOf('ada') }]);
    await ada.call('unsubscribe', { channel: 'private-chat' });
    await becomes(() => ask('/channels/private-chat', { info: 'subscription_count' }), { occupied: true, subscription_count: 1 });
    assert.deepEqual(ada.told.items.filter(({ error, refused }) => error || refused), []);
    assert.equal(await ada.end(), 0);
    await becomes(() => ask('/channels/match.1'), { occupied: false });
  });

  test(`${language} client: comes back by itself after a restart`, { skip }, async (t) => {
    const server = await Server.start(t);
    const ada = await start(t, language, server, 'ada');
    await join(ada, 'match.1', ['score']);
    await backend(server).trigger('match.1', 'score', { n: 1 });
    await ada.hears({ channel: 'match.1', event: 'score' });
    const before = ada.told.items.length;
    assert.deepEqual(await server.stop(), [0, null]);
    await server.run();
    await ada.told.until((all) => all.slice(before).some(({ subscribed: name }) => name === 'match.1'), 'match.1 again');
    await backend(server).trigger('match.1', 'score', { n: 2 });
    const scores = await ada.told.until((all) => {
      const got = all.filter(({ event }) => event === 'score');
      return got.length > 1 && got;
    });
    assert.deepEqual(scores.map(({ data }) => JSON.parse(data)), [{ n: 1 }, { n: 2 }]);
  });
}

test('Java client: encrypted channels, sign-in, a channel that it may not have', { skip: without(clients.Java) }, async (t) => {
  const server = await Server.start(t);
  const hub = backend(server);
  const ada = await start(t, 'Java', server, 'ada');
  await join(ada, 'private-encrypted-vault');
  await hub.trigger('private-encrypted-vault', 'opened', { text: TEXT });
  assert.deepEqual(JSON.parse((await ada.hears({ channel: 'private-encrypted-vault', event: 'opened' })).data), { text: TEXT });

  await ada.call('signin');
  const mail = setInterval(() => hub.sendToUser('ada', 'mail', { n: 1 }).catch(() => {}), 200);
  t.after(() => clearInterval(mail));
  assert.deepEqual(JSON.parse((await ada.hears({ event: 'mail' })).data), { n: 1 });

  await ada.call('subscribe', { channel: 'private-secret' });
  await ada.told.until((all) => all.some(({ refused }) => /403/.test(refused)), 'the refusal');
});
