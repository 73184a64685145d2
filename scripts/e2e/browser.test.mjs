// A person's view: the demo page in a real browser.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { launch } from './lib/browser.mjs';
import { backend } from './lib/clients.mjs';
import { app, Server } from './lib/server.mjs';

test('the demo: a live score is broadcast, a whisper passes between two pages', async (t) => {
  const server = await Server.start(t, { args: ['--demo'] });
  const browser = await launch(t);
  const pages = await Promise.all([browser.newPage(), browser.newPage()]);
  const problems = [];
  for (const page of pages) {
    page.setDefaultTimeout(30_000);
    page.on('pageerror', (error) => problems.push(String(error)));
    page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
    await page.goto(`http://127.0.0.1:${server.port}/demo`);
    await page.waitForSelector('#state[data-state="connected"]');
    await page.waitForSelector('#message:enabled');
  }
  const shows = (page, home, away) => page.waitForFunction(
    ([h, a]) => document.getElementById('home-score').textContent === h && document.getElementById('away-score').textContent === a,
    [home, away],
  );
  // As a backend does it, with an official library.
  await backend(server).trigger('match.1', 'score', { home: 'Lyon', away: 'Turin', home_score: 2, away_score: 1 });
  for (const page of pages) {
    await shows(page, '2', '1');
    assert.equal(await page.textContent('#home'), 'Lyon');
  }
  // As a person does it.
  await pages[0].click('[data-goal="away"]');
  for (const page of pages) await shows(page, '2', '2');

  await pages[0].locator('#message').pressSequentially('hello');
  await pages[1].waitForFunction(() => document.getElementById('typing').textContent.endsWith('is typing…'));
  assert.equal(await pages[0].textContent('#typing'), '');
  if (process.env.REECHO_E2E_SCREENSHOT) await pages[1].screenshot({ path: process.env.REECHO_E2E_SCREENSHOT });
  assert.deepEqual(problems, []);
});

test('the demo signs and publishes for itself only', async (t) => {
  const server = await Server.start(t, { args: ['--demo'] });
  const post = (path, form, headers = {}) => fetch(`http://127.0.0.1:${server.port}${path}`, { method: 'POST', body: new URLSearchParams(form), headers });
  assert.equal((await post('/demo/auth', { socket_id: '1.2', channel_name: 'private-chat.1' })).status, 403);
  assert.equal((await post('/demo/auth', { socket_id: '1.2:private-chat.1', channel_name: 'private-demo' })).status, 403);
  const { auth } = await (await post('/demo/auth', { socket_id: '1.2', channel_name: 'private-demo' })).json();
  assert.equal(auth, backend(server).authorizeChannel('1.2', 'private-demo').auth);
  assert.equal((await post('/demo/score', { home: 'x'.repeat(31), away: 'b', home_score: 0, away_score: 0 })).status, 400);
  assert.equal((await post('/demo/score', { home: 'a', away: 'b', home_score: 0, away_score: 0 }, { 'Sec-Fetch-Site': 'cross-site' })).status, 403);
  const page = await (await fetch(`http://127.0.0.1:${server.port}/demo`)).text();
  assert.ok(page.includes(app.key) && !page.includes(app.secret));
  const plain = await Server.start(t);
  assert.equal((await fetch(`http://127.0.0.1:${plain.port}/demo`)).status, 404);
});
