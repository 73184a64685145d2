// How often an application is asked, over a model of pusher-js: all real in
// scripts/e2e/grants.test.mjs, which leaves out what is about moments.
//   REECHO_TEST_SEED=17   the texts again
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { random } from '../../../scripts/e2e/replay/random.mjs';
import { authorization } from '../authorize.mjs';
import { hmac } from '../sha256.mjs';

const SEED = Number(process.env.REECHO_TEST_SEED ?? Math.floor(Math.random() * 1e9));

test(`sha256.mjs is what crypto has, seed ${SEED}`, () => {
  const draw = random(SEED);
  const text = (length) => Array.from({ length }, () => String.fromCharCode(32 + draw.below(95))).join('');
  for (let length = 0; length < 300; length++) {
    const [key, message] = [text(length % 65), text(length)];
    assert.equal(hmac(key, message), createHmac('sha256', key).update(message).digest('hex'), JSON.stringify([key, message]));
  }
});

// Page is a pusher-js as far as it is authorised: asked are the requests to its application.
class Page {
  asked = [];
  given = [];

  constructor() {
    const handler = (kind) => ({ socketId, channelName = '' }, callback) => {
      this.asked.push(`${kind}${channelName}`);
      this.answer = (error) => callback(error ?? null, error ? null : { auth: `k:${socketId}${channelName}`, shared_secret: 's' });
      if (!this.slow) this.answer();
    };
    this.pusher = { connection: { socket_id: '1.1' }, channel() {}, config: { channelAuthorizer: handler('c '), userAuthenticator: handler('u') } };
    this.authorized = authorization(this.pusher, {}, false);
  }

  // ask has pusher-js ask for a channel, or sign in, and returns what goes along.
  ask(channelName) {
    const { config, connection: { socket_id: socketId } } = this.pusher;
    const callback = (error, data) => {
      this.given.push(error ? 'error' : data.auth);
      delete data?.shared_secret; // as encrypted channels do
      this.claim = this.authorized.claim(channelName);
    };
    if (channelName) config.channelAuthorizer({ socketId, channelName }, callback);
    else config.userAuthenticator({ socketId }, callback);
    return this.claim;
  }

  hear(data, channel) { this.authorized.hear({ channel, data: JSON.stringify(data) }); }

  // taken is what was asked and given since the last time.
  taken() { return [this.asked.splice(0), this.given.splice(0)]; }
}

test('what is kept is of the connection before, and used once', () => {
  const page = new Page();
  assert.deepEqual([page.ask('private-a'), page.ask('')], [{}, {}]);
  assert.equal(page.authorized.claim('public'), undefined);
  page.hear({ token: 't1', key: 'k1' });
  // The same connection: something is wrong with what there is.
  page.ask('private-a');
  assert.deepEqual(page.taken(), [['c private-a', 'u', 'c private-a'], ['k:1.1private-a', 'k:1.1', 'k:1.1private-a']]);
  page.pusher.connection.socket_id = '2.2';
  const proof = hmac('k1', '2.2');
  assert.deepEqual(page.ask('private-a'), { token: 't1', proof, earlier: true });
  assert.deepEqual(page.ask(''), { token: 't1', proof, earlier: true });
  page.hear({ token: 't2', key: 'k2' });
  assert.deepEqual(page.ask('private-b'), { token: 't1', proof, earlier: false });
  page.hear({ auth: 'k:again' }, 'private-a');
  page.hear({ auth: 'unasked' }, 'private-c');
  assert.deepEqual(page.taken(), [['c private-b'], ['k:1.1private-a', 'k:1.1', 'k:2.2private-b']]);
  // The sign-in was not answered before the connection broke, the channel was left.
  page.pusher.connection.socket_id = '3.3';
  page.authorized.drop('private-b');
  for (const each of ['private-a', '', 'private-b', 'private-c']) page.ask(each);
  assert.deepEqual(page.taken(), [['u', 'c private-b', 'c private-c'], ['k:again', 'k:3.3', 'k:3.3private-b', 'k:3.3private-c']]);
});

test('what is refused is asked for, and what the application refused is not kept', () => {
  const page = new Page();
  page.ask('private-a');
  page.hear({ token: 't1', key: 'k1' });
  page.pusher.connection.socket_id = '2.2';
  page.ask('private-a');
  page.hear({ token: 't2', key: 'k2' });
  page.slow = true;
  page.hear({ refused: 'why' }, 'private-a');
  page.hear({ refused: 'why' }, 'private-a'); // said twice, asked once
  assert.deepEqual(page.taken(), [['c private-a', 'c private-a'], ['k:1.1private-a', 'k:1.1private-a']]);
  page.answer(new Error('no'));
  page.slow = false;
  page.pusher.connection.socket_id = '3.3';
  page.ask('private-a');
  assert.deepEqual(page.taken(), [['c private-a'], ['error', 'k:3.3private-a']]);
});

test('what many ask for at once is one request, and a connection that is over is not asked for', async () => {
  const page = new Page();
  const requests = [];
  const fetch = globalThis.fetch;
  globalThis.fetch = async (url, { body }) => {
    requests.push([url, body]);
    return { status: 200, json: async () => ({ channels: { 'private-a': { status: 200, auth: 'A' }, 'private-b': { status: 200, auth: 'B' } } }) };
  };
  try {
    page.pusher.config.channelAuthorizer = (params, callback) => { page.asked.push(params.channelName); callback(null, { auth: 'single' }); };
    authorization(page.pusher, { authEndpoint: '/auth?x=1#y' }, undefined);
    page.ask('private-lost');
    page.pusher.connection.socket_id = '2.2';
    for (const each of ['private-a', 'private-b', 'private-a']) page.ask(each);
    const deadline = Date.now() + 20_000;
    while (page.given.length < 3 && Date.now() < deadline) await new Promise((resolve) => { setTimeout(resolve, 5); });
    assert.deepEqual(page.taken(), [[], ['A', 'A', 'B']]);
    assert.deepEqual(requests, [['/auth/batch?x=1#y', 'socket_id=2.2&channel_names%5B%5D=private-a&channel_names%5B%5D=private-b']]);
  } finally {
    globalThis.fetch = fetch;
  }
});
