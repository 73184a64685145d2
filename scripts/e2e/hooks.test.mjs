// Echo's hooks for React and Vue, in a page that esbuild builds, in a real browser. There is
// no package of hooks for Svelte on npm.
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { build } from 'esbuild';
import { authEndpoint, infoOf } from './lib/auth.mjs';
import { launch } from './lib/browser.mjs';
import { backend, client, subscribed } from './lib/clients.mjs';
import { app, Server } from './lib/server.mjs';
import { pause, Recorder, within } from './lib/wait.mjs';
import { Proxy } from './replay/proxy.mjs';

const pages = { React: 'hooks/react.jsx', Vue: 'hooks/vue.mjs' };

const CHANNELS = ['match.1', 'presence-lobby', 'private-App.Models.Order.7', 'private-App.Models.User.7', 'private-chat.1'];

// bundle builds a page that connects to a port.
async function bundle(file, port) {
  const env = { VITE_REVERB_APP_KEY: app.key, VITE_REVERB_HOST: '127.0.0.1', VITE_REVERB_PORT: port, VITE_REVERB_SCHEME: 'http' };
  const { outputFiles: [{ text }] } = await build({
    entryPoints: [fileURLToPath(new URL(file, import.meta.url))], bundle: true, write: false, format: 'esm', jsx: 'automatic', logLevel: 'error',
    // The development build of React mounts all twice, as it does for developers.
    define: { 'import.meta.env': JSON.stringify(env), 'process.env.NODE_ENV': '"development"' },
  });
  return text;
}

for (const [framework, file] of Object.entries(pages)) {
  test(`${framework}: channels, members, whispers, notifications, a restart, and leaving`, async (t) => {
    const server = await Server.start(t);
    const hub = backend(server);
    const proxy = await Proxy.start(t, server.port);
    const endpoint = await authEndpoint(t, server, {
      '/': ['text/html', '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><div id="app"></div><script type="module" src="/page.js"></script>'],
      '/page.js': ['text/javascript', await bundle(file, proxy.port)],
    });
    const seen = new Recorder('report');
    const problems = [];
    const page = await (await launch(t)).newPage();
    page.on('pageerror', (error) => problems.push(String(error)));
    await page.exposeFunction('report', (kind, what) => seen.push([kind, what]));
    const of = (kind) => seen.items.filter(([name]) => name === kind).map(([, what]) => what);
    const hears = (kind, n = 1) => seen.until(() => of(kind).length >= n && of(kind), kind);
    const occupied = async (wanted) => {
      const ask = async () => Object.keys((await (await hub.get({ path: '/channels' })).json()).channels).sort();
      await within((async () => { while (String(await ask()) !== String(wanted)) await pause(20); })(), `the channels to be ${wanted}`);
    };

    await page.goto(`${new URL('/#ada', endpoint)}`);
    await seen.until(() => of('status').at(-1) === 'connected', 'connected');
    await occupied(CHANNELS);
    assert.match(await page.textContent('#socket'), /^\d+\.\d+$/);
    assert.deepEqual((await hears('here')).at(-1), [infoOf('ada')]);

    // As a backend does it.
    await hub.trigger('match.1', 'App\\Events\\ScoreChanged', { n: 1 });
    assert.deepEqual(await hears('score'), [{ n: 1 }]);
    await hub.trigger('private-chat.1', 'App\\Events\\MessageSent', { text: 'Zoë 😀' });
    await hub.trigger('private-chat.1', 'said', { text: 'by name' });
    assert.deepEqual(await hears('message', 2), [{ text: 'Zoë 😀' }, { text: 'by name' }]);
    await hub.trigger('presence-lobby', 'waved', { n: 2 });
    assert.deepEqual(await hears('waved'), [{ n: 2 }]);
    for (const type of ['App\\Notifications\\Other', 'App\\Notifications\\InvoicePaid']) {
      await hub.trigger('private-App.Models.User.7', 'Illuminate\\Notifications\\Events\\BroadcastNotificationCreated', { id: 'x', type, amount: 3 });
    }
    assert.deepEqual(await hears('notification'), [{ id: 'x', type: 'App\\Notifications\\InvoicePaid', amount: 3 }]);
    await hub.trigger('private-App.Models.Order.7', 'OrderUpdated', { model: { id: 7 }, connection: null, queue: null, afterCommit: false });
    assert.deepEqual((await hears('order')).map(({ model }) => model), [{ id: 7 }]);

    // As others see the page, and it sees them.
    const bob = client(t, server, { user: { id: 'bob', info: infoOf('bob') } });
    const lobby = await subscribed(bob, 'presence-lobby');
    assert.deepEqual(lobby.members.get('ada').info, infoOf('ada'));
    assert.deepEqual(await hears('joining'), [infoOf('bob')]);
    const chat = await subscribed(bob, 'private-chat.1');
    const typing = new Recorder('typing');
    chat.bind('client-typing', typing.push);
    await page.click('#whisper');
    assert.deepEqual(await typing.count(1), [{ by: 'ada' }]);
    chat.trigger('client-typing', { by: 'bob' });
    assert.deepEqual(await hears('typing'), [{ by: 'bob' }]);
    bob.disconnect();
    assert.deepEqual(await hears('leaving'), [infoOf('bob')]);

    // The server is restarted, and the page is late.
    const before = seen.items.length;
    proxy.hold();
    assert.deepEqual(await server.stop(), [0, null]);
    await seen.until((all) => all.slice(before).some(([kind, status]) => kind === 'status' && status !== 'connected'), 'the loss of the connection');
    await server.run();
    for (const n of [2, 3, 4]) await hub.trigger('match.1', 'App\\Events\\ScoreChanged', { n });
    proxy.release();
    await seen.until(() => of('status').at(-1) === 'connected', 'connected again');
    await occupied(CHANNELS);
    await hub.trigger('match.1', 'App\\Events\\ScoreChanged', { n: 5 });
    const scores = await seen.until(() => of('score').some(({ n }) => n === 5) && of('score'), 'the last score');
    // What a session has not confirmed may come again.
    assert.deepEqual([...new Set(scores.map(({ n }) => n))], [1, 2, 3, 4, 5]);

    // A component that is gone leaves its channels; one that is back hears each event once.
    await page.click('#toggle');
    await occupied([]);
    await page.click('#toggle');
    await occupied(CHANNELS);
    const then = of('score').length;
    for (const n of [6, 7]) await hub.trigger('match.1', 'App\\Events\\ScoreChanged', { n });
    assert.deepEqual((await hears('score', then + 2)).slice(then), [{ n: 6 }, { n: 7 }]);
    assert.deepEqual(problems, []);
  });
}
