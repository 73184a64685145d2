// Rounds of trouble with a cluster: kill -9, restarts, frozen processes, networks that
// are slow, silent or cut. See replay/mesh.mjs for what a step does. By hand:
//   REECHO_MESH_ROUNDS=1000 scripts/e2e/run ./mesh-faults.test.mjs
//   REECHO_MESH_SEED=17 REECHO_MESH_ROUNDS=1   a round again
//   REECHO_MESH_STEPS=file.json                these steps again
// A round that fails is shrunk, and its steps are printed. They belong into
// replay/found-mesh/ when the fault is found: what is there runs first, each time.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { perform } from './replay/mesh.mjs';
import { plan } from './replay/mesh-plan.mjs';
import { Rounds, saved } from './replay/rounds.mjs';

const STEPS = process.env.REECHO_MESH_STEPS;
const ROUNDS = Number(process.env.REECHO_MESH_ROUNDS ?? 8);
const FIRST = Number(process.env.REECHO_MESH_SEED ?? Math.floor(Math.random() * 1e9));
const AT_ONCE = Number(process.env.REECHO_MESH_AT_ONCE ?? 3);
// TRIES is how often the steps of a failure are run: a round takes half a minute.
const TRIES = Number(process.env.REECHO_MESH_TRIES ?? 30);

const rounds = new Rounds(perform, { atOnce: AT_ONCE, tries: TRIES, again: 2 });

// figures tells, for each kind of fault, how long publishes took at the longest. They
// are for who reads them: a busy machine has others.
function figures(t) {
  const all = new Map();
  const gaps = new Map();
  for (const round of rounds.rounds) {
    for (const [fault, stall] of round.stalls) {
      const sum = all.get(fault) ?? { answered: [], refused: 0, calls: 0, refusals: 0 };
      sum.answered.push(stall.answered);
      sum.refused = Math.max(sum.refused, stall.refused);
      sum.calls += stall.calls;
      sum.refusals += stall.refusals;
      all.set(fault, sum);
    }
    for (const [reason, count] of round.gaps) gaps.set(reason, (gaps.get(reason) ?? 0) + count);
  }
  for (const [fault, { answered, refused, calls, refusals }] of all) {
    answered.sort((a, b) => a - b);
    t.diagnostic(`${fault}: ${calls} publishes in ${answered.length} rounds; the longest answered 200 ${Math.round(answered.at(-1))} ms (median of rounds ${Math.round(answered[answered.length >> 1])}); ${refusals} refused, the longest ${Math.round(refused)} ms`);
  }
  for (const [reason, count] of gaps) t.diagnostic(`${count} gaps that the steps explain: ${reason}`);
}

test('a seed gives the same steps each time', () => {
  for (let seed = 0; seed < 200; seed++) assert.deepEqual(plan(seed), plan(seed));
  assert.notDeepEqual(plan(1), plan(9));
});

if (STEPS) {
  test(`the steps of ${STEPS}`, { timeout: 3_600_000 }, async (t) => rounds.tell(t, await saved(STEPS)));
} else {
  test('what was found before', { timeout: 3_600_000 }, async (t) => rounds.none(t, await saved(new URL('replay/found-mesh/', import.meta.url))));

  test(`${ROUNDS} rounds of trouble with a cluster from seed ${FIRST}`, { timeout: 3_600_000 + ROUNDS * 60_000 }, async (t) => {
    t.after(() => figures(t));
    await rounds.tell(t, Array.from({ length: ROUNDS }, (_, i) => ({ name: `seed ${FIRST + i}`, steps: plan(FIRST + i) })));
  });
}
