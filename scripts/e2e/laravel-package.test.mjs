// The Composer package reecho/laravel in real Laravel applications: artisan commands,
// webhooks that become events, and many channels authorised in one request.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHmac, randomBytes } from 'node:crypto';
import { chmodSync, copyFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { withReplay } from '../../replay/client/replay.mjs';
import { Application, PACKAGE, roots, versionOf } from './lib/application.mjs';
import { backend, client, connected, masterKey, subscribed } from './lib/clients.mjs';
import { hooked } from './lib/receiver.mjs';
import { app, freePort, Server } from './lib/server.mjs';
import { once, Recorder } from './lib/wait.mjs';

const appKey = `APP_KEY=base64:${randomBytes(32).toString('base64')}`;
const GRACE = '500ms';

// configured is an .env with the app of these tests.
const configured = `${appKey}
BROADCAST_CONNECTION=pusher
PUSHER_APP_ID=${app.id}
PUSHER_APP_KEY=${app.key}
PUSHER_APP_SECRET=${app.secret}
PUSHER_HOST=127.0.0.1
ENCRYPTION_MASTER_KEY=${masterKey}
`;

// variables are those of an .env, as they stand there.
const variables = (text) => Object.fromEntries([...text.matchAll(/^([A-Z_]+)=(.*)$/gm)].map(([, name, value]) => [name, value]));

if (roots.length === 1) {
  test('a newer Laravel', { skip: 'scripts/e2e/laravel/newer makes a folder with one' }, () => {});
}

test('every file of the package is PHP', () => {
  const files = readdirSync(PACKAGE, { recursive: true }).filter((name) => name.endsWith('.php'));
  assert.ok(files.length > 10, files.join(' '));
  for (const file of files) execFileSync('php', ['-l', path.join(PACKAGE, file)], { encoding: 'utf8' });
});

for (const root of roots) {
  const name = `Laravel ${versionOf(root)}`;
  const major = Number.parseInt(versionOf(root), 10);
  // Laravel has a driver of the name since 10.47.
  const product = major < 10 ? 'PUSHER' : 'REVERB';
  const connection = major < 11 ? 'BROADCAST_DRIVER' : 'BROADCAST_CONNECTION';

  test(`${name}: reecho:install`, (t) => {
    const before = `# of the shop\nAPP_NAME="A Shop"\r\n${appKey}\nAPP_URL=http://shop.test\n${connection}=log\n${product}_APP_KEY=\nMAIL_HOST=x`;
    const laravel = new Application(t, root, before);
    laravel.write('.gitignore', '/vendor\n');
    const first = laravel.artisan('reecho:install', '--webhooks');
    assert.equal(first.status, 0, first.said);
    const text = laravel.read('.env');
    const got = variables(text);
    assert.match(got[`${product}_APP_ID`], /^\d{6}\r?$/);
    assert.match(got[`${product}_APP_KEY`], /^[a-z0-9]{20}\r?$/);
    const secret = got[`${product}_APP_SECRET`].trim();
    assert.match(secret, /^[a-z0-9]{20}$/);
    assert.ok(!first.said.includes(secret), 'the secret was printed');
    assert.match(first.said, new RegExp(`written +${product}_APP_SECRET`));
    assert.equal(got[connection].trim(), product.toLowerCase());
    assert.equal(got[`VITE_${product}_APP_KEY`].trim(), `"\${${product}_APP_KEY}"`);
    assert.equal(got.REECHO_APP_WEBHOOKS.trim(), `'[{"url":"http://shop.test/reecho/webhooks","allow_private":true}]'`);
    for (const line of ['# of the shop', 'APP_NAME="A Shop"', 'MAIL_HOST=x']) assert.ok(text.includes(line), line);
    assert.equal(laravel.read('.gitignore'), '/vendor\n/reecho-data\n');

    const second = laravel.artisan('reecho:install', '--webhooks');
    assert.equal(second.status, 0, second.said);
    assert.ok(!second.said.includes('written'), second.said);
    assert.equal(laravel.read('.env'), text);
    assert.equal(laravel.read('.gitignore'), '/vendor\n/reecho-data\n');

    assert.equal(laravel.artisan('reecho:install', '--force').status, 0);
    const forced = variables(laravel.read('.env'));
    assert.notEqual(forced[`${product}_APP_SECRET`].trim(), secret);
    assert.equal(Object.keys(forced).length, Object.keys(got).length);

    laravel.write('.env', `${connection}=ably\n`);
    const refused = laravel.artisan('reecho:install');
    assert.equal(refused.status, 1);
    assert.match(refused.said, new RegExp(`${connection} is ably`));
    assert.equal(laravel.read('.env'), `${connection}=ably\n`);
    laravel.remove('.env');
    assert.match(laravel.artisan('reecho:install').said, /cannot be read.*cp \.env\.example/);
  });

  test(`${name}: reecho:install keeps Pusher's credentials and leads away from Pusher's hosts`, (t) => {
    const laravel = new Application(t, root, `${connection}=pusher\nPUSHER_APP_ID=1\nPUSHER_APP_KEY=k\nPUSHER_APP_SECRET="s e c"\nPUSHER_HOST=\nPUSHER_PORT=443\nPUSHER_SCHEME=https\n`);
    assert.equal(laravel.artisan('reecho:install').status, 0);
    const got = variables(laravel.read('.env'));
    assert.deepEqual([got.PUSHER_APP_ID, got.PUSHER_APP_KEY, got.PUSHER_APP_SECRET, got.PUSHER_HOST, got.PUSHER_PORT, got.PUSHER_SCHEME], ['1', 'k', '"s e c"', '"localhost"', '6001', 'http']);
  });

  test(`${name}: install, start, and a page that comes and goes`, async (t) => {
    const [port, web] = [await freePort(), await freePort()];
    const laravel = new Application(t, root, `${appKey}\nAPP_URL=http://127.0.0.1:${web}\nREECHO_WEBHOOK_GRACE=${GRACE}\n${product}_APP_KEY=${app.key}\n`);
    assert.equal(laravel.artisan('reecho:install', '--webhooks').status, 0);
    const missing = laravel.artisan('reecho:start');
    assert.equal(missing.status, 1);
    assert.match(missing.said, /no program reecho in .*vendor\/bin, .* and PATH[^]*go build -o .*\/reecho \.[^]*REECHO_BINARY in \.env/);
    const wrong = laravel.artisan('reecho:start', '--binary', 'artisan');
    assert.deepEqual([wrong.status, /artisan, named by --binary or REECHO_BINARY, is not a program that can be run/.test(wrong.said)], [1, true], wrong.said);
    laravel.write('broken-build', 'no program');
    chmodSync(path.join(laravel.dir, 'broken-build'), 0o755);
    assert.match(laravel.artisan('reecho:start', '--binary=./broken-build').said, /broken-build cannot be run: Exec format error/);

    copyFileSync(process.env.REECHO_E2E_BINARY, path.join(laravel.dir, 'reecho'));
    await laravel.serve(web);
    const server = await laravel.start(['--host=127.0.0.1', `--port=${port}`, '--debug']);
    assert.equal(server.port, port);
    assert.ok(server.log.some((line) => line.includes('variables of other servers are used')), server.log.join('\n'));
    const pusher = client(t, server);
    await subscribed(pusher, 'match.1');
    await laravel.hears((events) => events.length === 1, 'the channel to be occupied');
    pusher.disconnect();
    await laravel.hears((events) => events.length === 2, 'the channel to be vacated');
    assert.deepEqual(laravel.heard.map((event) => [event.class, event.channel, event.appKey]), [['ChannelOccupied', 'match.1', app.key], ['ChannelVacated', 'match.1', app.key]]);

    // The process that was started is the server itself.
    server.child.kill('SIGTERM');
    assert.deepEqual(await server.exited, [0, null]);
    assert.ok(server.log.some((line) => line.includes('stopping')), server.log.join('\n'));
    assert.match(laravel.read('.env'), /^APP_KEY/);
    assert.ok(readdirSync(path.join(laravel.dir, 'reecho-data')).length > 0);
  });

  test(`${name}: reecho:start gives arguments, the environment and the status on`, async (t) => {
    const laravel = new Application(t, root, `${configured}`);
    copyFileSync(process.env.REECHO_E2E_BINARY, path.join(laravel.dir, 'renamed'));
    const bad = laravel.artisan('reecho:start', '--binary=renamed-not', '--', '--nonsense');
    assert.equal(bad.status, 1);
    const usage = laravel.artisan('reecho:start', '--binary=./renamed', '--', '--nonsense');
    assert.equal(usage.status, 2, usage.said);
    assert.match(usage.said, /nonsense/);
    // A wrong value is said with its line, which it is not if it comes of the environment.
    laravel.write('.env', `${configured}LARAVEL_WEBSOCKETS_PORT=http\nREECHO_BINARY=${laravel.inside}/renamed\n`);
    const line = laravel.artisan('reecho:start');
    assert.equal(line.status, 2, line.said);
    assert.match(line.said, /\.env, line \d+: LARAVEL_WEBSOCKETS_PORT is "http"/);
    // Without pcntl PHP waits for the server.
    laravel.write('.env', configured);
    const port = await freePort();
    const php = ['-d', 'disable_functions=pcntl_exec'];
    const server = await laravel.start(['--binary=./renamed', '--', '--listen', `127.0.0.1:${port}`], { php });
    assert.equal(server.port, port);
    process.kill(Number(execFileSync('pgrep', ['-f', `renamed .*--listen 127.0.0.1:${port}$`, '-n'], { encoding: 'utf8' })), 'SIGINT');
    assert.deepEqual(await server.exited, [0, null]);
  });

  test(`${name}: every webhook becomes an event`, async (t) => {
    const laravel = new Application(t, root, configured);
    await laravel.serve();
    const server = await Server.start(t, { apps: [hooked({ url: `${laravel.url}/reecho/webhooks` })], args: ['--webhook-grace', GRACE] });
    const ada = client(t, server, { user: { id: 'ada é "1"' } });
    const room = await subscribed(ada, 'presence-room.1');
    const has = (name) => (events) => events.some((event) => event.class === name);
    await laravel.hears(has('MemberJoined'), 'the member');
    room.trigger('client-typing', { n: [1, 'ü'] });
    await laravel.hears(has('ClientEvent'), 'the whisper');
    await subscribed(ada, 'cache-a');
    await laravel.hears(has('CacheMissed'), 'the miss');
    await laravel.hears((events) => events.some((event) => event.class === 'SubscriptionCount' && event.channel === 'cache-a'), 'the count');
    ada.disconnect();
    await laravel.hears((events) => events.filter((event) => event.class === 'ChannelVacated').length === 2, 'all to be gone');
    const { heard } = laravel;
    const of = (name, channel = 'presence-room.1') => heard.filter((event) => event.class === name && event.channel === channel);
    for (const wanted of ['ChannelOccupied', 'MemberJoined', 'ClientEvent', 'MemberLeft', 'ChannelVacated']) assert.equal(of(wanted).length, 1, wanted);
    const about = ({ id, time }) => ({ id, time, appKey: app.key, channel: 'presence-room.1', again: true });
    assert.deepEqual(of('ClientEvent')[0], {
      ...about(of('ClientEvent')[0]), class: 'ClientEvent', event: 'client-typing', data: '{"n":[1,"ü"]}', json: { n: [1, 'ü'] },
      socketId: of('ClientEvent')[0].socketId, userId: 'ada é "1"',
    });
    assert.match(of('ClientEvent')[0].socketId, /^\d+\.\d+$/);
    assert.deepEqual(of('MemberLeft')[0], { ...about(of('MemberLeft')[0]), class: 'MemberLeft', userId: 'ada é "1"', json: null });
    assert.deepEqual(of('SubscriptionCount', 'cache-a').at(0).count, 1);
    assert.ok(heard.every((event) => Math.abs(event.time - Date.now()) < 600_000 && event.id !== ''));
    assert.equal(new Set(heard.map((event) => event.id)).size, heard.length, 'something was heard twice');
    const order = heard.filter((event) => event.channel === 'presence-room.1' && event.class !== 'SubscriptionCount').map((event) => event.class);
    assert.deepEqual(order, ['ChannelOccupied', 'MemberJoined', 'ClientEvent', 'MemberLeft', 'ChannelVacated']);
  });

  test(`${name}: a listener that fails has its event again, and the others once`, async (t) => {
    const laravel = new Application(t, root, configured);
    laravel.write('storage/broken', 'MemberJoined');
    await laravel.serve();
    const server = await Server.start(t, { apps: [hooked({ url: `${laravel.url}/reecho/webhooks`, events: ['channel_occupied', 'member_added'], batch_time: '500ms' })], args: ['--webhook-grace', '30s'] });
    await subscribed(client(t, server, { user: { id: 'ada' } }), 'presence-room.1');
    const failures = () => laravel.read('storage/logs/laravel.log').split('the listener of MemberJoined is broken').length - 1;
    await laravel.hears(() => failures() > 1, 'the listener to fail again');
    assert.deepEqual(laravel.heard.map((event) => event.class), ['ChannelOccupied']);
    laravel.remove('storage/broken');
    await laravel.hears((events) => events.length === 2, 'the member');
    await subscribed(client(t, server, { user: { id: 'bob' } }), 'presence-room.1');
    await laravel.hears((events) => events.length === 3, 'the other member');
    assert.deepEqual(laravel.heard.map((event) => event.userId), [undefined, 'ada', 'bob']);
  });

  test(`${name}: an event is heard again when the process of its listener has died`, async (t) => {
    const laravel = new Application(t, root, `${configured}REECHO_WEBHOOK_LISTENER_SECONDS=1\n`);
    laravel.write('storage/deadly', '');
    await laravel.serve();
    const server = await Server.start(t, { apps: [hooked({ url: `${laravel.url}/reecho/webhooks`, events: ['channel_occupied'] })] });
    await subscribed(client(t, server), 'match.1');
    await laravel.hears(() => laravel.read('storage/deaths').length > 1, 'a second death');
    laravel.remove('storage/deadly');
    await laravel.hears((events) => events.length === 1, 'the channel');
  });

  test(`${name}: what is forged, malformed or comes again`, async (t) => {
    const laravel = new Application(t, root, configured);
    await laravel.serve();
    const occupied = (channel) => ({ name: 'channel_occupied', channel });
    const send = async (content, { key = app.key, secret = app.secret, ids = 'a', signed = content, headers = {} } = {}) => {
      const text = typeof content === 'string' ? content : JSON.stringify(content);
      const over = typeof signed === 'string' ? signed : JSON.stringify(signed);
      const answer = await fetch(`${laravel.url}/reecho/webhooks`, {
        method: 'POST', body: text, redirect: 'manual', headers: {
          'Content-Type': 'application/json', 'X-Pusher-Key': key, 'X-Reecho-Event-Ids': ids,
          'X-Pusher-Signature': createHmac('sha256', secret).update(over).digest('hex'), ...headers,
        },
      });
      return `${answer.status} ${(await answer.json()).message}`;
    };
    const body = { time_ms: Date.now(), events: [occupied('match.1')] };
    assert.match(await send(body, { secret: 'another' }), /^401 X-Pusher-Signature/);
    assert.match(await send(body, { signed: { ...body, time_ms: 1 } }), /^401 X-Pusher-Signature/);
    assert.match(await send(body, { headers: { 'X-Pusher-Signature': '' } }), /^401 X-Pusher-Signature/);
    assert.match(await send(body, { key: 'nobody' }), /^401 X-Pusher-Key/);
    assert.match(await send(body, { key: '', secret: '' }), /^401 X-Pusher-Key/);
    assert.match(await send('{"events":'), /^400 The body is not JSON/);
    for (const wrong of ['[]', '"x"', '{}', { events: [] }, { time_ms: 'x', events: [] }, { time_ms: 1, events: 7 }]) assert.match(await send(wrong), /^400 The body has no time_ms and events/);
    assert.match(await send({ time_ms: 1, events: [7] }), /^400 Event 0 is not an object/);
    assert.match(await send({ time_ms: 1, events: [{ name: 'channel_occupied' }] }), /^400 Event 0 must have channel, a text/);
    assert.match(await send({ time_ms: 1, events: [{ name: 'member_added', channel: 'x', user_id: 7 }] }), /^400 Event 0 must have user_id, a text/);
    assert.match(await send({ time_ms: 1, events: [{ name: 'subscription_count', channel: 'x', subscription_count: '7' }] }), /^400 Event 0 must have subscription_count, a whole number/);
    const twice = { ...body, events: [occupied('match.1'), occupied('match.2')] };
    assert.match(await send(twice, { ids: 'a,a' }), /^400 X-Reecho-Event-Ids must have an id of its own for each of the 2 events/);
    for (const ids of ['', 'a,b', 'a,']) assert.match(await send(body, { ids }), /^400 X-Reecho-Event-Ids must have an id of its own for each of the 1 events/);
    assert.deepEqual(laravel.heard, []);

    assert.equal(await send(body), '200 ok');
    assert.equal(await send(body), '200 ok');
    const more = { time_ms: Date.now(), events: [occupied('match.1'), { name: 'of_the_future', channel: 'x' }, occupied('match.2')] };
    assert.equal(await send(more, { ids: 'a,f,b' }), '200 ok');
    assert.deepEqual(laravel.heard.map(({ id, channel }) => [id, channel]), [['a', 'match.1'], ['b', 'match.2']]);
    assert.match(laravel.read('storage/logs/laravel.log'), /does not know.*of_the_future/);

    // While its listeners run, it is neither heard again nor taken as done.
    laravel.write('storage/slow', '');
    const slow = send(body, { ids: 'c' });
    await laravel.hears(() => readdirSync(path.join(laravel.dir, 'storage/framework/cache'), { recursive: true }).filter((file) => /[0-9a-f]{40}$/.test(file)).length === 3, 'the claim');
    assert.match(await send(body, { ids: 'c' }), /^503 The listeners of .*ChannelOccupied are running/);
    laravel.remove('storage/slow');
    assert.equal(await slow, '200 ok');
    assert.equal(await send(body, { ids: 'c' }), '200 ok');
    assert.deepEqual(laravel.heard.map(({ id }) => id), ['a', 'b', 'c']);
  });

  test(`${name}: many channels in one request`, async (t) => {
    const laravel = new Application(t, root, configured);
    await laravel.serve();
    const server = await Server.start(t);
    const login = await fetch(`${laravel.url}/login/ada`);
    assert.equal(await login.text(), 'ada');
    const cookie = login.headers.getSetCookie().map((text) => text.split(';')[0]).join('; ');
    const call = async (where, content, headers = { cookie }) => {
      const json = typeof content === 'string';
      const answer = await fetch(`${laravel.url}${where}`, {
        method: 'POST', redirect: 'manual', body: json ? content : new URLSearchParams(content),
        headers: { ...headers, ...(json ? { 'Content-Type': 'application/json' } : {}), Accept: 'application/json' },
      });
      return { status: answer.status, body: await answer.json().catch(() => null) };
    };
    const form = (socketId, names) => [['socket_id', socketId], ...names.map((name) => ['channel_names[]', name])];
    const pusher = client(t, server, { user: { id: 'nobody' } });
    await connected(pusher);
    const { socket_id: socketId } = pusher.connection;

    const names = ['private-chat.1', 'presence-room.1', 'private-encrypted-vault', 'private-chat.secret', 'private-gated', 'private-unknown', 'public', '0', 'private-broken'];
    const { status, body } = await call('/broadcasting/auth/batch', form(socketId, names));
    assert.equal(status, 200);
    const statuses = Object.fromEntries(Object.entries(body.channels).map(([name, answer]) => [name, answer.status]));
    assert.deepEqual(statuses, {
      'private-chat.1': 200, 'presence-room.1': 200, 'private-encrypted-vault': 200, 'private-chat.secret': 403, 'private-gated': 403,
      'private-unknown': 403, public: 403, 0: 403, 'private-broken': 500,
    });
    assert.match(laravel.read('storage/logs/laravel.log'), /the callback is broken/);
    // Each is what Laravel's own route answers, and what the official library does.
    for (const name of names) {
      const single = await call('/broadcasting/auth', { socket_id: socketId, channel_name: name });
      assert.equal(single.status, statuses[name], name);
      if (single.status === 200) assert.deepEqual(body.channels[name], { status: 200, ...single.body }, name);
      else assert.deepEqual(body.channels[name], { status: single.status });
    }
    const signer = backend(server);
    assert.deepEqual(body.channels['private-encrypted-vault'], { status: 200, ...signer.authorizeChannel(socketId, 'private-encrypted-vault') });
    assert.deepEqual(await call('/broadcasting/auth/batch', JSON.stringify({ socket_id: socketId, channel_names: names, callback: 'f' })), { status: 200, body });

    // The server takes them.
    pusher.config.channelAuthorizer = ({ channelName }, callback) => callback(null, body.channels[channelName]);
    for (const channel of ['private-chat.1', 'presence-room.1', 'private-encrypted-vault']) await subscribed(pusher, channel);
    assert.deepEqual(pusher.channel('presence-room.1').members.me, { id: 'ada', info: { name: 'name of ada' } });

    assert.equal((await call('/broadcasting/auth/batch', form(socketId, names), {})).status, 401);
    // Each route of Broadcast::routes() has a batch with its own middleware.
    const stateless = await call('/stateless/broadcasting/auth/batch', form(socketId, ['presence-room.1', 'private-chat.secret']), { 'X-User': 'bob' });
    assert.equal(stateless.status, 200);
    assert.equal(JSON.parse(stateless.body.channels['presence-room.1'].channel_data).user_id, 'bob');
    assert.deepEqual(stateless.body.channels['private-chat.secret'], { status: 403 });
    assert.equal((await call('/stateless/broadcasting/auth/batch', form(socketId, names), {})).status, 401);

    const many = (n) => Array.from({ length: n }, (_, i) => `private-chat.${i}`);
    const hundred = await call('/broadcasting/auth/batch', form(socketId, many(100)));
    assert.equal(Object.keys(hundred.body.channels).length, 100);
    const refused = async (content) => {
      const answer = await call('/broadcasting/auth/batch', content);
      assert.equal(answer.status, 422, JSON.stringify(answer));
      assert.deepEqual(answer.body.message, Object.values(answer.body.errors)[0][0]);
      return answer.body.message;
    };
    assert.match(await refused(form(socketId, many(101))), /channel_names has 101 channels, the limit is 100/);
    assert.match(await refused(form(socketId, [])), /channel_names must be a list/);
    assert.match(await refused(form(socketId, ['private-chat.1', ''])), /channel_names must be names/);
    assert.match(await refused([['socket_id', socketId], ['channel_names', 'private-chat.1']]), /channel_names must be a list/);
    assert.match(await refused(form('1.2:x', ['private-chat.1'])), /socket_id must be/);
    assert.match(await refused(JSON.stringify({ socket_id: socketId, channel_names: [['x']] })), /channel_names must be names/);
    assert.match(await refused('{'), /socket_id must be/);
  });

  test(`${name}: a page with the plugin asks once, and not again after a restart of the server`, async (t) => {
    const laravel = new Application(t, root, configured);
    await laravel.serve();
    const server = await Server.start(t);
    // Node's XMLHttpRequest sends no cookies.
    const channelAuthorization = { transport: 'ajax', endpoint: `${laravel.url}/stateless/broadcasting/auth`, headers: { 'X-User': 'bob' } };
    const pusher = withReplay(client(t, server, { channelAuthorization }));
    const names = ['private-chat.1', 'presence-room.1', 'private-encrypted-vault'];
    const subscriptions = new Recorder('subscriptions');
    for (const channel of [...names, 'private-chat.secret']) {
      for (const event of ['subscription_succeeded', 'subscription_error']) {
        pusher.subscribe(channel).bind(`pusher:${event}`, ({ status }) => subscriptions.push(`${channel} ${status ?? 'succeeded'}`));
      }
    }
    await subscriptions.count(4);
    assert.deepEqual(subscriptions.items.sort(), ['presence-room.1 succeeded', 'private-chat.1 succeeded', 'private-chat.secret 403', 'private-encrypted-vault succeeded']);
    await server.stop('SIGKILL');
    await server.run();
    await subscriptions.until((items) => names.every((channel) => items.filter((item) => item === `${channel} succeeded`).length === 2));
    assert.deepEqual(pusher.channel('presence-room.1').members.me, { id: 'bob', info: { name: 'name of bob' } });
    // The one that was refused is asked for alone.
    const posts = laravel.read('storage/posts').split('\n').filter((post) => post && post !== '/stateless/broadcasting/auth');
    assert.deepEqual(posts, ['/stateless/broadcasting/auth/batch']);
  });

  test(`${name}: routes are where the configuration says, and cached`, async (t) => {
    const laravel = new Application(t, root, `${configured}REECHO_WEBHOOK_PATH=hooks/reecho\nREECHO_BATCH_CHANNELS=2\n`);
    const list = laravel.artisan('route:list');
    assert.match(list.said, /hooks\/reecho/);
    assert.match(list.said, /broadcasting\/auth\/batch/);
    for (const command of ['config:cache', 'route:cache']) {
      const { status, said } = laravel.artisan(command);
      assert.equal(status, 0, said);
    }
    await laravel.serve();
    const hook = await fetch(`${laravel.url}/hooks/reecho`, { method: 'POST' });
    assert.equal(hook.status, 401);
    const login = await fetch(`${laravel.url}/login/ada`);
    const cookie = login.headers.getSetCookie().map((text) => text.split(';')[0]).join('; ');
    const answer = await fetch(`${laravel.url}/broadcasting/auth/batch`, { method: 'POST', headers: { cookie }, body: new URLSearchParams([['socket_id', '1.2'], ['channel_names[]', 'a'], ['channel_names[]', 'b'], ['channel_names[]', 'c']]) });
    assert.equal(answer.status, 422);
    assert.match(laravel.artisan('reecho:install').said, /configuration is cached/);
    // Laravel itself reads none then.
    laravel.write('.env', 'A B=1\n');
    assert.match(laravel.artisan('reecho:install').said, /\.env cannot be read as Laravel reads it: .*invalid name/);
  });
}
