// Hostile clients beside honest ones, on a server with its defaults. Each file of
// hostile/ is an attack, which goes on for a few seconds while events are
// published; a new client comes in its midst. The honest must notice nothing: no
// event is missing, late for good, twice or out of order, nobody is closed, all
// know who is there, and every publish is taken.
// By hand: REECHO_HOSTILE=ping-flood REECHO_HOSTILE_MS=60000 scripts/e2e/run ./hostile.test.mjs
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { backend } from './lib/clients.mjs';
import { Crowd } from './lib/honest.mjs';
import { app, Server } from './lib/server.mjs';

const TIME = Number(process.env.REECHO_HOSTILE_MS ?? 2500);
const HONEST = Number(process.env.REECHO_HONEST ?? 10);
// MEMORY is what the server may take at most, in MiB, whatever is done to it.
const MEMORY = 700;
// CHANNELS is more than the attackers' connections may have, of all together.
const CHANNELS = 3000;

const attacks = readdirSync(new URL('./hostile/', import.meta.url))
  .filter((file) => file.endsWith('.mjs') && (!process.env.REECHO_HOSTILE || file === `${process.env.REECHO_HOSTILE}.mjs`));

// memory is the most that the server has taken so far, where the system tells.
function memory(server) {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${server.child.pid}/status`, 'utf8'))[1]) / 1024;
  } catch {
    return 0;
  }
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

// fill makes the channels that some attacks want the past of.
async function fill(server) {
  const hub = backend(server);
  const data = 'x'.repeat(2000);
  for (let i = 0; i < 20; i++) {
    for (let n = 0; n < 10; n++) {
      await hub.triggerBatch(Array.from({ length: 10 }, () => ({ channel: `cold.${i}`, name: 'x', data })));
    }
  }
}

for (const file of attacks) {
  test(`honest clients beside ${file.replace('.mjs', '')}`, async (t) => {
    const server = await Server.start(t, { apps: [{ ...app, subscription_counts: true, watchlist: true }] });
    await fill(server);
    const crowd = await Crowd.start(t, server, HONEST);
    const stop = crowd.publish();
    const hostile = new Worker(new URL(`./hostile/${file}`, import.meta.url), { workerData: { port: server.port } });
    const failed = new Promise((_, reject) => { hostile.on('error', reject); });
    await Promise.race([pause(TIME / 2), failed]);
    await crowd.add('newcomer');
    await Promise.race([pause(TIME / 2), failed]);
    const { channels } = await (await backend(server).get({ path: '/channels' })).json();
    await stop();
    await hostile.terminate();
    await crowd.check();
    const used = memory(server);
    t.diagnostic(`${crowd.published} events to ${crowd.people.length} clients, server at most ${Math.round(used)} MiB`);
    assert.ok(Object.keys(channels).length < CHANNELS, `there were ${Object.keys(channels).length} channels`);
    assert.ok(used < MEMORY, `the server took ${used} MiB`);
  });
}
