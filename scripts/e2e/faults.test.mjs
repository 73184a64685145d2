// Many rounds of trouble (see replay/round.mjs). More of them by hand:
// REECHO_REPLAY_ROUNDS=5000 scripts/e2e/run ./faults.test.mjs
// REECHO_REPLAY_SEED is the seed of the first round.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { firstSeed } from './lib/seed.mjs';
import { Server } from './lib/server.mjs';
import { check, History, Published } from './replay/checker.mjs';
import { Round } from './replay/round.mjs';

const ROUNDS = Number(process.env.REECHO_REPLAY_ROUNDS ?? 200);
const FIRST = firstSeed('REPLAY');
const AT_ONCE = 16;

function published(n, excluded = {}) {
  const p = new Published();
  for (let i = 0; i < n; i++) p.stored(p.begin());
  Object.assign(p.excluded, excluded);
  return p;
}

function saw(kind, ...entries) {
  const history = new History('ada', kind);
  history.begin(1);
  history.seen = entries.map((e) => (typeof e === 'number' ? { n: e } : e === '|' ? { reconnect: true } : e.copy ? e : { gap: e }));
  return history;
}

test('the checker finds what it is there to find', () => {
  const five = published(5);
  for (const kind of ['plugin', 'session', 'stream']) {
    assert.deepEqual(check(five, saw(kind, 1, 2, 3, 4, 5)), []);
    assert.deepEqual(check(five, saw(kind, 1, '|', 2, 3, '|', 4, 5)), []);
    assert.deepEqual(check(five, saw(kind, 1, 'trimmed_by_age', 4, 5)), []);
    assert.match(check(five, saw(kind, 1, 2, 4, 5))[0], /3 missing before 4/);
    assert.match(check(five, saw(kind, 2, 3, 4, 5))[0], /1 missing before 2/);
    assert.match(check(five, saw(kind, 1, '|', 3, 4, 5))[0], /2 missing before 3/);
    assert.match(check(five, saw(kind, 1, 3, 2, 4, 5)).join(), /out of order/);
    assert.match(check(five, saw(kind, 1, 2, 2, 3, 4, 5))[0], /a repeat/);
    assert.match(check(five, saw(kind, 1, 2, 3, 4, 5, 6))[0], /never published/);
    assert.match(check(five, saw(kind, 1, 'x', 4, 3, 5)).join(), /out of order/);
  }
  assert.deepEqual(check(five, saw('session', 1, 2, 3, '|', 2, 3, 4, 5)), []);
  assert.match(check(five, saw('plugin', 1, 2, 3, '|', 2, 3, 4, 5))[0], /a repeat/);
  assert.match(check(five, saw('stream', 1, 2, 3, '|', 3, 4, 5))[0], /a repeat/);
  assert.match(check(five, saw('session', 1, 2, 3, '|', 1, 3, 4, 5))[0], /2 missing/);
  assert.match(check(five, saw('session', 1, 2, 3, '|', 2, 3, 2, 3, 4, 5))[0], /a repeat/);
  const excluded = published(3, { 2: { clients: new Set(['ada']), never: 'ada' } });
  assert.deepEqual(check(excluded, saw('plugin', 1, 3)), []);
  assert.match(check(excluded, saw('plugin', 1, 2, 3))[0], /not meant for it/);
  // A copy that was made before 3 came in the place of what had 4.
  const copy = { copy: 3, until: 5 };
  for (const kind of ['plugin', 'stream']) {
    assert.deepEqual(check(five, saw(kind, 1, 2, 3, copy, 'epoch_changed', 5)), []);
    assert.deepEqual(check(five, saw(kind, 1, copy, 2, 'epoch_changed', 5)), []);
    assert.match(check(five, saw(kind, 1, 2, 3, copy, 'unavailable', 5))[0], /not epoch_changed/);
    assert.match(check(five, saw(kind, 1, 2, 3, 4, copy, 5))[0], /not epoch_changed/);
    assert.match(check(five, saw(kind, 1, 2, copy, 5))[0], /3,4 missing before 5/);
  }
  assert.deepEqual(check(five, saw('session', 1, 2, 3, 4, copy, '|', 1, 2, 5)), []);
  assert.match(check(five, saw('session', 1, 2, 3, copy, '|', 1, 2, 5))[0], /4 missing before 5/);
  const unknown = published(3);
  unknown.fate[2] = 'unknown';
  assert.deepEqual(check(unknown, saw('plugin', 1, 3)), []);
  assert.deepEqual(check(unknown, saw('plugin', 1, 2, 3)), []);
});

test(`${ROUNDS} rounds of trouble from seed ${FIRST}`, { timeout: 600_000 + ROUNDS * 3000 }, async (t) => {
  const shared = await Server.start(t);
  const seeds = Array.from({ length: ROUNDS }, (_, i) => (FIRST + i) >>> 0);
  const failures = [];
  let events = 0;
  const worker = async () => {
    for (let seed = seeds.shift(); seed !== undefined; seed = seeds.shift()) {
      const trouble = ['none', 'none', 'none', 'none', 'none', 'none', 'restart', 'restart', 'kill', 'kill'][seed % 10];
      const own = trouble === 'none' ? undefined : await Server.start();
      const round = new Round(own ?? shared, seed, trouble);
      try {
        const problems = await round.run();
        if (problems.length > 0) failures.push(round.report(problems));
      } catch (error) {
        failures.push(round.report([error.stack]));
      } finally {
        await own?.destroy();
      }
      events += round.entries;
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, ROUNDS) }, worker));
  t.diagnostic(`${events} entries of clients' histories checked`);
  assert.equal(failures.length, 0, `${failures.length} of ${ROUNDS} rounds failed\n${failures.slice(0, 5).join('\n\n')}`);
});
