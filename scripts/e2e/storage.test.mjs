// Rounds of trouble with storage: kill -9, a full disk, no descriptors, files that
// are damaged, missing or older, copies put back. See replay/storage.mjs for what a
// step does. By hand:
//   REECHO_STORAGE_ROUNDS=1000 scripts/e2e/run ./storage.test.mjs
//   REECHO_STORAGE_SEED=17 REECHO_STORAGE_ROUNDS=1   a round again
//   REECHO_STORAGE_STEPS=file.json                   these steps again
// A round that fails is shrunk, and its steps are printed. They belong into
// replay/found/ when the fault is found: what is there runs first, each time.
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { plan } from './replay/plan.mjs';
import { shrink } from './replay/shrink.mjs';
import { perform } from './replay/storage.mjs';

const STEPS = process.env.REECHO_STORAGE_STEPS;
const ROUNDS = Number(process.env.REECHO_STORAGE_ROUNDS ?? 40);
const FIRST = Number(process.env.REECHO_STORAGE_SEED ?? Math.floor(Math.random() * 1e9));
const AT_ONCE = 5;
// SHRUNK is how many failures are shrunk, each of another kind, in TRIES runs.
const SHRUNK = 3;
const TRIES = 150;

// sorts are the kinds of problems: a list that is shrunk must not turn from one
// into another.
const sorts = {
  lost: /missing before/,
  silent: /no last number|gave up waiting|nothing can be published/,
  order: /out of order|a repeat/,
  foreign: /never published|not meant for it|not what was published/,
  again: /^lost again/,
  unvoided: /not epoch_changed/,
  gap: /: gap, /,
  died: /the server ended|server ended with|panic/,
};

// sortsOf are those of problems, with the kind of client that has them; what
// belongs to none is one of its own.
function sortsOf(found) {
  return new Set(found.map((text) => {
    const [line] = text.split('\n');
    const sort = Object.keys(sorts).find((name) => sorts[name].test(line)) ?? 'other';
    return [/: (plugin|session|stream) /.exec(line)?.[1], sort].filter(Boolean).join(' ');
  }));
}

// performAll runs some lists at once and returns those that failed.
async function performAll(t, lists) {
  const waiting = [...lists];
  const failures = [];
  let steps = 0;
  let entries = 0;
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const round = await perform(next.steps);
      steps += next.steps.length;
      entries += round.entries;
      if (round.found.length > 0) failures.push({ ...next, round });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  t.diagnostic(`${lists.length} rounds, ${steps} steps, ${entries} entries of clients' histories checked`);
  return failures;
}

function text({ name, round, steps, from }) {
  return `${name}:\n  ${round.report()}\nsteps${from ? ` (fewest of ${from})` : ''}:\n[\n${steps.map((step) => `  ${JSON.stringify(step)}`).join(',\n')}\n]`;
}

// shrunk makes the steps of a failure as few as they can be.
async function shrunk(failure) {
  const [wanted] = sortsOf(failure.round.found);
  let { round } = failure;
  const { steps, runs } = await shrink(failure.steps, async (candidate) => {
    const again = await perform(candidate);
    const same = sortsOf(again.found).has(wanted);
    if (same) round = again;
    return same;
  }, { tries: TRIES });
  return { ...failure, round, steps, from: `${failure.steps.length}, in ${runs} runs` };
}

// tell shrinks the failures that are not of the same kind as another, and fails.
async function tell(failures, lists) {
  const told = new Map();
  for (const failure of failures) {
    const [sort] = sortsOf(failure.round.found);
    if (!told.has(sort) && told.size < SHRUNK) told.set(sort, await shrunk(failure));
  }
  const names = failures.map(({ name, round }) => `${name} (${[...sortsOf(round.found)]})`);
  assert.equal(failures.length, 0, `${failures.length} of ${lists.length} failed: ${names.join(', ')}\n${[...told.values()].map(text).join('\n\n')}`);
}

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
  test(`the steps of ${STEPS}`, async (t) => {
    const text = JSON.parse(await readFile(STEPS, 'utf8'));
    const lists = [{ name: STEPS, steps: text.steps ?? text }];
    await tell(await performAll(t, lists), lists);
  });
} else {
  test('what was found before', async (t) => {
    const folder = new URL('replay/found/', import.meta.url);
    const files = (await readdir(folder)).filter((file) => file.endsWith('.json')).sort();
    const lists = await Promise.all(files.map(async (file) => {
      const { what, steps } = JSON.parse(await readFile(new URL(file, folder), 'utf8'));
      return { name: `${file}, ${what}`, steps };
    }));
    const failures = await performAll(t, lists);
    assert.equal(failures.length, 0, failures.map(text).join('\n\n'));
  });

  test(`${ROUNDS} rounds of trouble with storage from seed ${FIRST}`, { timeout: 1_800_000 + ROUNDS * 30_000 }, async (t) => {
    const lists = Array.from({ length: ROUNDS }, (_, i) => ({ name: `seed ${FIRST + i}`, steps: plan(FIRST + i) }));
    await tell(await performAll(t, lists), lists);
  });
}
