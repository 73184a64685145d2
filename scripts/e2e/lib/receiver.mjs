// An endpoint for webhooks, which checks each as the official libraries do.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import http from 'node:http';
import { fileURLToPath } from 'node:url';
import { backend } from './clients.mjs';
import { app } from './server.mjs';
import { Recorder } from './wait.mjs';

// TAKEN is how an endpoint answers what it takes.
export const TAKEN = (request, response) => response.end();

// FAILED is how one answers that does not.
export const FAILED = (request, response) => response.writeHead(500).end('no');

export class Receiver {
  // start listens; answer(request, response, post) may be changed later.
  static async start(t, answer = TAKEN, port = 0) {
    const receiver = new Receiver();
    receiver.answer = answer;
    receiver.got = new Recorder('webhook'); // of requests, whatever was answered
    receiver.server = http.createServer((request, response) => receiver.take(request, response));
    receiver.server.listen(port, '127.0.0.1');
    await once(receiver.server, 'listening');
    t.after(() => receiver.stop());
    receiver.port = receiver.server.address().port;
    receiver.url = `http://127.0.0.1:${receiver.port}/hooks`;
    return receiver;
  }

  async stop() {
    this.server.closeAllConnections();
    this.server.close();
  }

  async take(request, response) {
    const chunks = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return; // the server was killed
    }
    const post = { at: Date.now(), headers: request.headers, raw: request.rawHeaders, body: Buffer.concat(chunks).toString() };
    const webhook = backend({ port: 1 }).webhook({ headers: post.headers, rawBody: post.body });
    assert.ok(webhook.isValid(), `not valid: ${JSON.stringify(post)}`);
    post.events = webhook.getEvents();
    post.made = webhook.getTime().getTime();
    post.ids = request.headers['x-reecho-event-ids'].split(',');
    assert.equal(post.ids.length, post.events.length);
    this.answer(request, response, post);
    this.got.push(post);
  }

  // events are all that came, without those that came again.
  get events() {
    return eventsOf(this.got.items);
  }

  // names waits until there are as many events as wanted, which must be these, in any
  // order if anyOrder.
  async names(wanted, { anyOrder = false } = {}) {
    const names = () => this.events.map((e) => nameOf(e));
    await this.got.until(() => names().length >= wanted.length, `${wanted.join(', ')} (got ${names().join(', ')})`);
    const sorted = (list) => (anyOrder ? [...list].sort() : list);
    assert.deepEqual(sorted(names()), sorted(wanted));
  }

  // until waits until test(events) is true.
  until(test, what) {
    return this.got.until(() => test(this.events), what);
  }
}

export function eventsOf(posts) {
  const seen = new Set();
  return posts.flatMap(({ events, ids }) => events.filter((_, i) => !seen.has(ids[i]) && seen.add(ids[i])));
}

// nameOf is an event in short: its name, channel, and what else identifies it.
export const nameOf = ({ name, channel, user_id: user, event, subscription_count: count }) => [name, channel, user, event, count].filter((x) => x !== undefined).join(' ');

// hooked is an app with endpoints.
export const hooked = (...webhooks) => ({ ...app, subscription_counts: true, webhooks: webhooks.map((w) => ({ allow_private: true, ...w })) });

const headersOf = ({ raw }) => Object.fromEntries(Array.from({ length: raw.length / 2 }, (_, i) => raw.slice(2 * i, 2 * i + 2)));

// verifies has a program with a library (see program.mjs) take webhooks, and refuse them when
// they were changed.
export async function verifies(program, posts) {
  for (const post of posts) {
    const headers = headersOf(post);
    assert.deepEqual(await program.call('webhook', { headers, body: post.body }), post.events);
    await assert.rejects(program.call('webhook', { headers, body: `${post.body} ` }), /valid/i);
  }
}

// phpLibrary is where pusher/pusher-php-server is, undefined if it is not here: it is on
// Packagist alone. The variable names a folder of it, or one with Composer's vendor.
export const phpLibrary = [process.env.REECHO_E2E_PHP_PUSHER].find((dir) => dir && existsSync(dir));

// verifyWithPHP has it verify webhooks, and returns the events of each. It gets each as a
// line of JSON and answers with a line.
export async function verifyWithPHP(posts) {
  const child = spawn('php', [fileURLToPath(new URL('../webhook.php', import.meta.url)), phpLibrary], { stdio: ['pipe', 'pipe', 'inherit'] });
  for (const post of posts) child.stdin.write(`${JSON.stringify({ key: app.key, secret: app.secret, headers: headersOf(post), body: post.body })}\n`);
  child.stdin.end();
  let said = '';
  child.stdout.on('data', (chunk) => { said += chunk; });
  const [status] = await once(child, 'close');
  assert.equal(status, 0, said);
  return said.trim().split('\n').map((line) => JSON.parse(line));
}
