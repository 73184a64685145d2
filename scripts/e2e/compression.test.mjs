// Compression (permessage-deflate, RFC 7692) with the clients that have it: ws for Node,
// Chromium, Python's websockets, and pusher-js over ws. Beside them are clients
// without it, and all get the same.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once as emitted } from 'node:events';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { constants, deflateRawSync } from 'node:zlib';
import { chromium } from 'playwright-core';
import Pusher from 'pusher-js';
import WebSocket from 'ws';
import { withReplay } from '../../replay/client/replay.mjs';
import { backend, client, connected, subscribed } from './lib/clients.mjs';
import { PATH } from './lib/raw.mjs';
import { app, Server } from './lib/server.mjs';
import { Recorder, within } from './lib/wait.mjs';

const packing = { ...app, compression: true, limits: { event_data_bytes: '1MiB', client_event_data_bytes: '60KiB' } };
const start = (t, changes) => Server.start(t, { apps: [{ ...packing, ...changes }] });

// ANSWER is what every offer gets that does not limit our window.
const ANSWER = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover';

// text is JSON as applications have it, of about so many bytes; it compresses well, and
// repeats over more than any window.
function text(bytes, seed = 1) {
  let state = seed;
  const random = (n) => { state = (state * 1_103_515_245 + 12_345) % 2_147_483_648; return state % n; };
  const items = [];
  for (let size = 0; size < bytes; size += 64) items.push({ sku: `SKU-${random(100_000)}`, name: ['Blue shirt', 'Grüße', 'Red shoes'][random(3)], price: random(50_000) / 100 });
  return JSON.stringify(items);
}

// Raw is a client of ws that shows every message, and how many bytes came for it.
class Raw {
  static async open(t, server, perMessageDeflate = { threshold: 0 }, path = PATH) {
    const raw = new Raw();
    raw.ws = new WebSocket(`ws://127.0.0.1:${server.port}${path}`, { perMessageDeflate });
    raw.messages = new Recorder('message');
    raw.closed = new Promise((resolve) => { raw.ws.on('close', (code, reason) => resolve({ code, reason: String(reason) })); });
    raw.ws.on('error', () => {}); // a close follows
    raw.ws.on('upgrade', (response) => { raw.answer = response.headers['sec-websocket-extensions']; });
    raw.ws.on('message', (data) => raw.messages.push(JSON.parse(data)));
    t.after(() => raw.ws.terminate());
    const established = await raw.messages.until((all) => all[0], 'the first frame');
    assert.equal(established.event, 'pusher:connection_established');
    raw.socketId = JSON.parse(established.data).socket_id;
    return raw;
  }

  get received() { return this.ws._socket.bytesRead; }

  send(message, options) { this.ws.send(JSON.stringify(message), options); }

  async subscribe(server, channel) {
    const { auth } = channel.startsWith('private-') ? backend(server).authorizeChannel(this.socketId, channel) : {};
    this.send({ event: 'pusher:subscribe', data: { channel, auth } });
    await this.event('pusher_internal:subscription_succeeded', channel);
    return this;
  }

  // event waits for the nth event of a name.
  event(name, channel, n = 1) {
    return this.messages.until((all) => all.filter((m) => m.event === name && m.channel === channel)[n - 1], `${name} on ${channel}`);
  }
}

// over makes pusher-js use ws with compression, or its own sockets.
async function over(deflated, make) {
  const own = Pusher.Runtime.createWebSocket;
  const sockets = [];
  if (deflated) {
    Pusher.Runtime.createWebSocket = (url) => {
      const ws = new WebSocket(url, { perMessageDeflate: { threshold: 0 } });
      sockets.push(ws);
      return ws;
    };
  }
  try {
    const pusher = make();
    await connected(pusher);
    if (deflated) assert.equal(sockets.at(-1).extensions, 'permessage-deflate');
    return pusher;
  } finally {
    Pusher.Runtime.createWebSocket = own;
  }
}

test('compression is off by default: offers are declined, and a compressed message is a violation', async (t) => {
  const server = await Server.start(t);
  const raw = await Raw.open(t, server);
  assert.equal(raw.answer, undefined);
  assert.equal(raw.ws.extensions, '');
  raw.ws._socket.write(masked(0xc1, deflated('{"event":"pusher:ping","data":{}}')));
  assert.equal((await within(raw.closed, 'close')).code, 1002);
});

test('an app that has it, and one that has not, on one server', async (t) => {
  const other = { id: '78', key: 'other-key', secret: 'other-secret' };
  const server = await Server.start(t, { apps: [packing, other] });
  assert.equal((await Raw.open(t, server)).answer, ANSWER);
  assert.equal((await Raw.open(t, server, { threshold: 0 }, '/app/other-key?protocol=7')).answer, undefined);
  assert.equal((await Raw.open(t, server, { threshold: 0 }, `/session/${crypto.randomUUID()}${PATH}`)).answer, ANSWER);
  assert.equal((await Raw.open(t, server, false)).answer, undefined);
});

test('events of every size reach clients with compression and without', async (t) => {
  const server = await start(t);
  const [packed, plain] = [await Raw.open(t, server), await Raw.open(t, server, false)];
  for (const raw of [packed, plain]) await raw.subscribe(server, 'orders');
  let n = 0;
  for (const bytes of [1, 16, 64, 128, 256, 1024, 4096, 8192, 16_384, 32_768, 65_536, 200_000, 500_000]) {
    n++;
    const data = text(bytes, n);
    const before = [packed.received, plain.received];
    await backend(server).trigger('orders', 'text', data);
    for (const raw of [packed, plain]) assert.equal((await raw.event('text', 'orders', n)).data, data, `${bytes} bytes`);
    const [small, large] = [packed.received - before[0], plain.received - before[1]];
    if (bytes >= 1024) assert.ok(small < large / 2, `${bytes} bytes: ${small} came with compression and ${large} without`);
    if (bytes <= 64) assert.equal(small, large, 'below compression_min_bytes nothing is compressed');
  }
});

test('compression_min_bytes is kept', async (t) => {
  const server = await start(t, { compression_min_bytes: '4KiB' });
  const raw = await (await Raw.open(t, server)).subscribe(server, 'orders');
  for (const [n, bytes, packed] of [[1, 3000, false], [2, 5000, true]]) {
    const before = raw.received;
    const data = text(bytes);
    await backend(server).trigger('orders', 'text', data);
    await raw.event('text', 'orders', n);
    assert.equal(raw.received - before < data.length / 2, packed, `${bytes} bytes`);
  }
});

// The cases of the Autobahn suite, 12 and 13: what the client wants of both sides, and
// messages of sizes up to what a message may have, whole and in fragments, from one
// client to the other and back.
const wishes = [
  { clientMaxWindowBits: true },
  { serverNoContextTakeover: true, clientNoContextTakeover: true },
  { serverNoContextTakeover: true, clientMaxWindowBits: 9 },
  { clientMaxWindowBits: 8 },
  { serverMaxWindowBits: 12 },
  { serverMaxWindowBits: 15, clientMaxWindowBits: 15 },
  { serverMaxWindowBits: 13, serverNoContextTakeover: true, clientMaxWindowBits: 10 },
];

for (const wish of wishes) {
  test(`conformance: ${JSON.stringify(wish)}`, async (t) => {
    const server = await start(t, { client_events_per_second: 0, compression_min_bytes: 0 });
    const raw = await (await Raw.open(t, server, { threshold: 0, ...wish })).subscribe(server, 'private-echo');
    const plain = await (await Raw.open(t, server, false)).subscribe(server, 'private-echo');
    assert.equal(raw.answer, ANSWER + (wish.serverMaxWindowBits ? '; server_max_window_bits=12' : ''));
    let n = 0;
    for (const bytes of [1, 16, 64, 256, 1024, 4096, 8192, 16_384, 32_768, 50_000]) {
      for (const pieces of [1, 2, 7]) {
        n++;
        const data = text(bytes, n);
        const message = Buffer.from(JSON.stringify({ event: 'client-there', channel: 'private-echo', data }));
        for (let i = 0; i < pieces; i++) {
          const [from, to] = [i, i + 1].map((at) => Math.floor(message.length * at / pieces));
          raw.ws.send(message.subarray(from, to), { fin: i === pieces - 1, binary: false, compress: true });
        }
        assert.equal((await plain.event('client-there', 'private-echo', n)).data, data);
        plain.send({ event: 'client-back', channel: 'private-echo', data });
        assert.equal((await raw.event('client-back', 'private-echo', n)).data, data);
      }
    }
    // Compressed and not, in turn; a ping between fragments.
    raw.ws.send('{"event":"client-th', { fin: false, compress: true });
    const pong = emitted(raw.ws, 'pong');
    raw.ws.ping('between');
    raw.ws.send('ere","channel":"private-echo","data":"last"}', { fin: true, compress: true });
    assert.equal((await plain.event('client-there', 'private-echo', ++n)).data, 'last');
    assert.equal(String((await within(pong, 'pong'))[0]), 'between');
    raw.ws.send('{"event":"client-there","channel":"private-echo","data":"plain"}', { compress: false });
    assert.equal((await plain.event('client-there', 'private-echo', ++n)).data, 'plain');
  });
}

// offered opens a connection with an offer as it stands, and returns the answer.
async function offered(server, offer) {
  const { connect } = await import('node:net');
  const socket = connect(server.port, '127.0.0.1');
  const lines = createInterface({ input: socket });
  socket.write(`GET ${PATH} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n`
    + `Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${[offer].flat().map((o) => `Sec-WebSocket-Extensions: ${o}\r\n`).join('')}\r\n`);
  const head = [];
  for await (const line of lines) {
    if (line === '') break;
    head.push(line);
  }
  socket.destroy();
  assert.match(head[0], / 101 /);
  return head.find((line) => /^sec-websocket-extensions:/i.test(line))?.replace(/^[^:]*: */, '');
}

test('offers: those that cannot be kept are declined, and the next one is taken', async (t) => {
  const server = await start(t);
  for (const [offer, answer] of [
    ['permessage-deflate; server_max_window_bits=8', undefined],
    ['permessage-deflate; server_max_window_bits=8, permessage-deflate; client_max_window_bits', ANSWER],
    [['permessage-deflate; server_max_window_bits=11', 'permessage-deflate; server_max_window_bits=12'], `${ANSWER}; server_max_window_bits=12`],
    ['permessage-deflate; unknown', undefined],
    ['permessage-deflate; client_max_window_bits; client_max_window_bits', undefined],
    ['permessage-deflate; server_no_context_takeover=1', undefined],
    ['x-webkit-deflate-frame', undefined],
    ['permessage-deflate; client_max_window_bits="10', undefined],
  ]) {
    assert.equal(await offered(server, offer), answer, String(offer));
  }
});

// masked makes a frame of a first byte as it is.
function masked(first, payload) {
  const body = Buffer.from(payload);
  assert.ok(body.length < 65_536);
  const size = body.length < 126 ? [0x80 | body.length] : [0x80 | 126, body.length >> 8, body.length & 0xff];
  return Buffer.concat([Buffer.from([first, ...size, 0, 0, 0, 0]), body]);
}

const deflated = (data) => deflateRawSync(data, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);

test('what must not be compressed, is damaged or too big closes the connection, and no other', async (t) => {
  const server = await start(t, { limits: { message_bytes: '5KiB' } });
  const witness = await (await Raw.open(t, server)).subscribe(server, 'orders');
  const ping = deflated('{"event":"pusher:ping","data":{}}');
  for (const [name, frames, code] of [
    ['a ping', [masked(0xc9, '')], 1002],
    ['a close', [masked(0xc8, '')], 1002],
    ['a continuation', [masked(0x41, ping.subarray(0, 5)), masked(0xc0, ping.subarray(5))], 1002],
    ['a continuation of a plain message', [masked(0x01, '{'), masked(0xc0, ping)], 1002],
    ['another reserved bit', [masked(0xe1, ping)], 1002],
    ['a reserved block', [masked(0xc1, Buffer.from([7]))], 1007],
    ['data cut off', [masked(0xc1, Buffer.from([0, 255, 255, 0, 0, 1]))], 1007],
    ['bad UTF-8', [masked(0xc1, deflated(Buffer.from([0xc3, 0x28])))], 1007],
    ['a bomb', [masked(0xc1, deflated(Buffer.alloc(20 << 20, 'x')))], 1009],
    ['a bomb in fragments', [masked(0x41, ''), masked(0x80, deflated(Buffer.alloc(20 << 20, 'x')))], 1009],
    ['a message above the limit of the app', [masked(0xc1, deflated(`{"event":"pusher:ping","data":"${'x'.repeat(5120)}"}`))], 1009],
  ]) {
    const raw = await Raw.open(t, server);
    raw.ws._socket.write(Buffer.concat(frames));
    assert.equal((await within(raw.closed, name)).code, code, name);
  }
  // Empty messages, in all their forms, are messages that are no JSON.
  const raw = await Raw.open(t, server);
  for (const frames of [[masked(0xc1, Buffer.from([0]))], [masked(0xc1, Buffer.from([2, 0]))], [masked(0x41, Buffer.from([0])), masked(0x80, '')]]) {
    const before = raw.messages.items.length;
    raw.ws._socket.write(Buffer.concat(frames));
    await raw.messages.until((all) => all.length > before && all.at(-1).event === 'pusher:error', 'an error');
  }
  await backend(server).trigger('orders', 'text', text(2000));
  assert.equal((await witness.event('text', 'orders')).data, text(2000));
  assert.equal(raw.ws.readyState, WebSocket.OPEN);
});

test('pusher-js with compression and without: presence, whispers, exclusion, order', async (t) => {
  const server = await start(t);
  const users = { alice: true, bob: false, carol: true };
  const rooms = {};
  for (const [id, packed] of Object.entries(users)) {
    const pusher = await over(packed, () => client(t, server, { user: { id, info: { about: text(600) } } }));
    rooms[id] = { pusher, room: await subscribed(pusher, 'presence-room'), got: new Recorder(id) };
    rooms[id].room.bind('text', rooms[id].got.push);
    rooms[id].room.bind('client-text', (data, metadata) => rooms[id].got.push([metadata.user_id, data]));
    for (const other of Object.values(rooms)) await until(() => other.room.members.count === Object.keys(rooms).length);
  }
  assert.equal(rooms.alice.room.members.get('carol').info.about, text(600));

  const whispers = { alice: { more: text(3000, 2) }, bob: { more: text(3000, 3) } };
  for (const [id, data] of Object.entries(whispers)) {
    assert.ok(rooms[id].room.trigger('client-text', data));
    for (const [other, { got }] of Object.entries(rooms)) {
      if (other !== id) assert.deepEqual((await got.until((all) => all.some(([from]) => from === id) && all)).at(-1), [id, data]);
    }
  }
  // One after the other, small and large in turn; alice is left out of some.
  const expected = { alice: [], bob: [], carol: [] };
  for (let n = 0; n < 30; n++) {
    const data = { n, more: n % 3 ? text(100 * n, n) : '' };
    const exclude = n % 5 === 0 ? { socket_id: rooms.alice.pusher.connection.socket_id } : {};
    await backend(server).trigger('presence-room', 'text', data, exclude);
    for (const id of Object.keys(users)) if (id !== 'alice' || !exclude.socket_id) expected[id].push(data);
  }
  for (const [id, { got }] of Object.entries(rooms)) {
    const events = await got.until((all) => { const own = all.filter((e) => !Array.isArray(e)); return own.length >= expected[id].length && own; });
    assert.deepEqual(events, expected[id], id);
  }
});

async function until(test) {
  for (const end = Date.now() + 20_000; !test();) {
    assert.ok(Date.now() < end, 'gave up waiting');
    await new Promise((resolve) => { setTimeout(resolve, 10); });
  }
}

test('replay over compressed connections: positions, what was missed, and nothing twice', async (t) => {
  const server = await start(t);
  const clients = [];
  for (const packed of [true, false, true]) {
    const pusher = await over(packed, () => withReplay(client(t, server)));
    const channel = await subscribed(pusher, 'match.1');
    const got = new Recorder('event');
    channel.bind('text', got.push);
    clients.push({ pusher, got, packed });
  }
  const all = [];
  const publish = async (count) => {
    for (let i = 0; i < count; i++) {
      all.push({ n: all.length, more: text(700, all.length + 1) });
      await backend(server).trigger('match.1', 'text', all.at(-1));
    }
  };
  await publish(5);
  for (const { got } of clients) assert.deepEqual(await got.count(5), all);
  clients[0].pusher.disconnect();
  clients[1].pusher.disconnect();
  await publish(5);
  // The first comes back with compression, the second gets it now.
  for (const { pusher } of clients.slice(0, 2)) {
    await over(true, () => {
      pusher.connect();
      return pusher;
    });
  }
  for (const { got } of clients) await got.count(10);
  await publish(5);
  for (const { got } of clients) assert.deepEqual(await got.count(15), all);
});

test('Chromium negotiates it, and both ways are right', async (t) => {
  const server = await Server.start(t, { apps: [packing], args: ['--demo'] });
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'] });
  t.after(() => browser.close());
  const page = await browser.newPage();
  page.setDefaultTimeout(30_000);
  await page.goto(`http://127.0.0.1:${server.port}/demo`);
  const { extensions, socketId } = await page.evaluate((url) => new Promise((resolve, reject) => {
    const ws = new WebSocket(url);
    window.ws = ws;
    window.events = [];
    ws.onerror = () => reject(new Error('the connection failed'));
    ws.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      window.events.push(message);
      if (message.event === 'pusher:connection_established') resolve({ extensions: ws.extensions, socketId: JSON.parse(message.data).socket_id });
    };
  }), `ws://127.0.0.1:${server.port}${PATH}`);
  assert.match(extensions, /^permessage-deflate/);
  const plain = await (await Raw.open(t, server, false)).subscribe(server, 'private-page');
  const { auth } = backend(server).authorizeChannel(socketId, 'private-page');
  await page.evaluate((auth) => window.ws.send(JSON.stringify({ event: 'pusher:subscribe', data: { channel: 'private-page', auth } })), auth);
  await page.waitForFunction(() => window.events.some((e) => e.event === 'pusher_internal:subscription_succeeded'));
  for (const [n, bytes] of [[1, 10], [2, 500], [3, 5000], [4, 50_000]]) {
    await backend(server).trigger('private-page', 'text', text(bytes, n));
    await page.waitForFunction((count) => window.events.filter((e) => e.event === 'text').length === count, n);
    assert.equal(await page.evaluate(() => window.events.at(-1).data), text(bytes, n));
    await page.evaluate((data) => window.ws.send(JSON.stringify({ event: 'client-back', channel: 'private-page', data })), text(bytes, n));
    assert.equal((await plain.event('client-back', 'private-page', n)).data, text(bytes, n));
  }
});

test("Python's websockets, with its windows of 12 bits, both ways", async (t) => {
  const server = await start(t);
  const plain = await (await Raw.open(t, server, false)).subscribe(server, 'private-py');
  const python = spawn(process.env.REECHO_E2E_PYTHON, [fileURLToPath(new URL('compression.py', import.meta.url)), String(server.port), app.key, app.secret, 'private-py'],
    { stdio: ['ignore', 'pipe', 'pipe'] });
  t.after(() => python.kill());
  let errors = '';
  python.stderr.on('data', (chunk) => { errors += chunk; });
  const ended = emitted(python, 'exit');
  await within(Promise.race([emitted(python.stdout, 'data'), ended.then(() => { throw new Error(errors); })]), 'the client');
  for (const [n, bytes] of [[1, 100], [2, 3000], [3, 20_000], [4, 50_000]]) {
    await backend(server).trigger('private-py', 'text', text(bytes, n));
    assert.equal((await plain.event('client-back', 'private-py', n)).data, text(bytes, n), errors);
  }
  await backend(server).trigger('private-py', 'end', {});
  const [status] = await within(ended, 'the end');
  assert.equal(status, 0, errors);
});
