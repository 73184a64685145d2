// Rounds of trouble with storage: kill -9, a full disk, no descriptors, files that
// are damaged, missing or older, copies put back. See replay/storage.mjs for what a
// step does. By hand:
//   REECHO_STORAGE_ROUNDS=1000 scripts/e2e/run ./storage.test.mjs
//   REECHO_STORAGE_SEED=17 REECHO_STORAGE_ROUNDS=1   a round again
//   REECHO_STORAGE_STEPS=file.json                   these steps again, or those of a folder
// A round that fails is shrunk, and its steps are printed. They belong into
// replay/found/ when the fault is found: what is there runs first, each time.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { firstSeed } from './lib/seed.mjs';
import { plan } from './replay/plan.mjs';
import { Rounds, saved } from './replay/rounds.mjs';
import { shrink } from './replay/shrink.mjs';
import { perform } from './replay/storage.mjs';

const STEPS = process.env.REECHO_STORAGE_STEPS;
const ROUNDS = Number(process.env.REECHO_STORAGE_ROUNDS ?? 40);
const FIRST = firstSeed('STORAGE');
const AT_ONCE = 5;
const rounds = new Rounds(perform, { atOnce: AT_ONCE });

test('steps are shrunk to those that matter', async () => {
  const harmless = Array.from({ length: 12 }, (_, i) => ({ do: 'pause', ms: i }));
  const steps = [
    ...harmless, { do: 'publish', events: 100, channel: 'public', batch: 7 }, ...harmless,
    { do: 'restart', signal: 'SIGKILL', harms: [{ harm: 'flip', at: 0.5 }, { harm: 'cut', at: 0.3, of: 'EVENTS' }, { harm: 'copy' }] }, ...harmless,
  ];
  let runs = 0;
  // It fails where more than 20 events are published before a cut, two times of
  // three.
  const fails = async (list) => {
    const cut = list.findIndex((step) => step.harms?.some(({ harm, at }) => harm === 'cut' && at > 0.2));
    const published = list.findIndex((step) => step.do === 'publish' && step.events > 20);
    return published >= 0 && published < cut && ++runs % 3 !== 0;
  };
  assert.deepEqual((await shrink(steps, fails, { tries: 1000 })).steps, [
    { do: 'publish', events: 25 }, { do: 'restart', harms: [{ harm: 'cut', at: 0.3 }] },
  ]);
  // It never does more than it may, and never returns what does not fail.
  for (const tries of [0, 1, 5, 20]) {
    let tried = 0;
    const result = await shrink(steps, async (list) => {
      tried++;
      return fails(list);
    }, { tries });
    assert.ok(tried <= tries && result.runs === tried, `${tried} of ${tries}`);
    runs = 0;
    assert.ok(await fails(result.steps));
  }
});

test('a seed gives the same steps each time', () => {
  for (let seed = 0; seed < 200; seed++) assert.deepEqual(plan(seed), plan(seed));
  assert.notDeepEqual(plan(1), plan(9));
});

if (STEPS) {
  test(`the steps of ${STEPS}`, async (t) => rounds.tell(t, await saved(STEPS)));
} else {
  test('what was found before', async (t) => rounds.none(t, await saved(new URL('replay/found/', import.meta.url))));

  test(`${ROUNDS} rounds of trouble with storage from seed ${FIRST}`, { timeout: 1_800_000 + ROUNDS * 30_000 }, async (t) => {
    await rounds.tell(t, Array.from({ length: ROUNDS }, (_, i) => ({ name: `seed ${FIRST + i}`, steps: plan(FIRST + i) })));
  });
}
