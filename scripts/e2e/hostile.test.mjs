// Hostile clients beside honest ones, on a server with its defaults. Each file of
// hostile/ is an attack, which goes on for a few seconds while events are
// published; in its midst a new client comes, somebody whispers, and others lose
// their connection. The honest must notice nothing: no event is missing, late for
// good, twice or out of order, nobody is closed, who comes back gets what it
// missed, all know who is there, and every publish is taken.
// By hand: REECHO_HOSTILE=ping-flood REECHO_HOSTILE_MS=60000 scripts/e2e/run ./hostile.test.mjs
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { Absent } from './lib/absent.mjs';
import { backend } from './lib/clients.mjs';
import { Crowd } from './lib/honest.mjs';
import { app, Server } from './lib/server.mjs';
import { pause } from './lib/wait.mjs';

const TIME = Number(process.env.REECHO_HOSTILE_MS ?? 2500);
const HONEST = Number(process.env.REECHO_HONEST ?? 10);
// MEMORY is what the server may take at most, in MiB, whatever is done to it.
const MEMORY = 400;
// DISK is what it may write, in MiB a second of an attack.
const DISK = 16;
// CHANNELS is more than the attackers' connections may have, of all together.
const CHANNELS = 3000;
// PAGES is how many pages come back that were closed before, half of them in the
// midst, half after the attack.
const PAGES = 10;

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

// written is what the server has written to the disk so far, in MiB, where the
// system tells.
function written(server) {
  try {
    return Number(/^write_bytes: (\d+)/m.exec(readFileSync(`/proc/${server.child.pid}/io`, 'utf8'))[1]) / 2 ** 20;
  } catch {
    return 0;
  }
}

// What one process takes is measured.
const alone = { alone: true };

// prepare makes a data folder with channels that some attacks want the past of,
// and with what absent pages missed.
async function prepare(t) {
  const server = await Server.start(t, alone);
  const absent = new Absent(PAGES);
  await absent.leave(t, server);
  const hub = backend(server);
  const data = 'x'.repeat(500);
  await Promise.all(Array.from({ length: 20 }, async (_, i) => {
    for (let n = 0; n < 100; n++) {
      await hub.triggerBatch(Array.from({ length: 10 }, () => ({ channel: `cold.${i}`, name: 'x', data })));
    }
  }));
  await server.stop();
  const dir = await mkdtemp(path.join(tmpdir(), 'reecho-e2e-hostile-'));
  await cp(path.join(server.dir, 'data'), path.join(dir, 'data'), { recursive: true });
  // A copy that is known to be one tells everybody of a gap.
  const known = path.join(dir, 'data', 'streams.json');
  await writeFile(known, JSON.stringify({ ...JSON.parse(await readFile(known, 'utf8')), born: 0 }));
  return { dir, kept: absent.kept };
}

let prepared;
before(async (t) => { prepared = await prepare(t); });
after(() => prepared && rm(prepared.dir, { recursive: true, force: true }));

for (const file of attacks) {
  test(`honest clients beside ${file.replace('.mjs', '')}`, async (t) => {
    const dir = await mkdtemp(path.join(tmpdir(), 'reecho-e2e-hostile-'));
    await cp(prepared.dir, dir, { recursive: true });
    const server = await Server.start(t, { ...alone, dir, apps: [{ ...app, subscription_counts: true, watchlist: true }] });
    t.after(() => rm(dir, { recursive: true, force: true })); // once it has ended
    const absent = new Absent(PAGES, prepared.kept);
    const crowd = await Crowd.start(t, server, HONEST);
    const stop = crowd.publish();
    const began = Date.now();
    const hostile = new Worker(new URL(`./hostile/${file}`, import.meta.url), { workerData: { port: server.port } });
    const failed = new Promise((_, reject) => { hostile.on('error', reject); });
    await Promise.race([pause(TIME / 2), failed]);
    await Promise.race([Promise.all([crowd.midst(), absent.comeBack(t, server, PAGES / 2)]), failed]);
    await Promise.race([pause(TIME / 2), failed]);
    const { channels } = await (await backend(server).get({ path: '/channels' })).json();
    await stop();
    await hostile.terminate();
    const seconds = (Date.now() - began) / 1000;
    await Promise.all([crowd.check(), absent.comeBack(t, server, PAGES / 2)]);
    const used = memory(server);
    const wrote = written(server);
    t.diagnostic(`${crowd.published} events to ${crowd.people.length} clients, server at most ${Math.round(used)} MiB, ${Math.round(wrote)} MiB to the disk`);
    assert.ok(Object.keys(channels).length < CHANNELS, `there were ${Object.keys(channels).length} channels`);
    assert.ok(used < MEMORY, `the server took ${used} MiB`);
    assert.ok(wrote < DISK * seconds, `the server wrote ${wrote} MiB in ${seconds} s`);
  });
}
