// Rounds of trouble with a cluster: kill -9, restarts, frozen processes, networks that
// are slow, silent or cut, disks that are full or new. See replay/mesh.mjs for what a step
// does. There are 100 by default, about 20 minutes. By hand:
//   REECHO_MESH_ROUNDS=1000 scripts/e2e/run ./mesh-faults.test.mjs
//   REECHO_MESH_SEED=17 REECHO_MESH_ROUNDS=1   a round again
//   REECHO_MESH_STEPS=file.json                these steps again
// A round that fails is shrunk, and its steps are printed. They belong into
// replay/found-mesh/ when the fault is found: what is there runs first, each time.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { firstSeed } from './lib/seed.mjs';
import { History, Published } from './replay/checker.mjs';
import { Room } from './replay/members.mjs';
import { compare, endedWell, perform } from './replay/mesh.mjs';
import { plan } from './replay/mesh-plan.mjs';
import { Rounds, saved } from './replay/rounds.mjs';

const STEPS = process.env.REECHO_MESH_STEPS;
const ROUNDS = Number(process.env.REECHO_MESH_ROUNDS ?? 100);
const FIRST = firstSeed('MESH');
const AT_ONCE = Number(process.env.REECHO_MESH_AT_ONCE ?? 3);
// TRIES is how often the steps of a failure are run: a round takes half a minute.
const TRIES = Number(process.env.REECHO_MESH_TRIES ?? 30);

const rounds = new Rounds(perform, { atOnce: AT_ONCE, tries: TRIES, again: 2 });

// figures tells of rounds, for each kind of fault, how long publishes took at the
// longest, and until others knew that a member was gone. They are for who reads them: a
// busy machine has others.
function figures(t, all) {
  const stalls = gather(all.flatMap((round) => [...round.stalls]));
  for (const [fault, list] of stalls) {
    const sum = (key) => list.reduce((n, each) => n + each[key], 0);
    t.diagnostic(`${fault}: ${sum('calls')} publishes in ${list.length} rounds; the longest answered 200 ${spread(list.map(({ answered }) => answered))}; ${sum('refusals')} refused, the longest ${spread(list.map(({ refused }) => refused))}`);
  }
  for (const [signal, list] of gather(all.flatMap(({ room }) => room.took.map(({ why, ms }) => [why, ms])))) {
    t.diagnostic(`${signal}: ${list.length} times somebody was told that a member had gone with its node, after ${spread(list)}`);
  }
  t.diagnostic(`in the end all agreed on members and counts after ${spread(all.map(({ agreed }) => agreed ?? 0))}`);
  for (const [reason, list] of gather(all.flatMap(({ gaps }) => [...gaps]))) t.diagnostic(`${list.reduce((a, b) => a + b)} gaps that the steps explain: ${reason}`);
}

const gather = (entries) => entries.reduce((map, [key, value]) => map.set(key, [...(map.get(key) ?? []), value]), new Map());

function spread(list) {
  const sorted = [...list].sort((a, b) => a - b);
  return `${Math.round(sorted.at(-1) ?? 0)} ms (median ${Math.round(sorted[sorted.length >> 1] ?? 0)})`;
}

// saw makes a client that was told of each number, '|' for a reconnect, or a gap.
function saw(kind, from, ...entries) {
  const history = new History('ada', kind);
  history.begin(from);
  return { history, seen: entries.map((e) => (typeof e === 'number' ? { n: e } : e === '|' ? { reconnect: true } : { gap: e })) };
}

test('a log and its clients are compared as they should', () => {
  const published = new Published();
  for (let i = 0; i < 6; i++) published.begin();
  for (const n of [1, 2, 3, 5, 6]) published.stored(n);
  const by = ['', 'a', 'b', 'a', 'a', 'b', 'a'];
  const find = (log, ...clients) => compare(log, published, by, clients, (gap) => gap === 'unavailable').map((problem) => problem.split('\n')[0]);
  // What was not answered may be there, anywhere; others' numbers have no order.
  for (const log of [[1, 2, 3, 5, 6], [2, 1, 3, 6, 5], [1, 2, 3, 5, 6, 4], [4, 1, 2, 3, 5, 6]]) {
    assert.deepEqual(find(log, saw('plugin', 1, ...log), saw('stream', 1, ...log)), []);
    assert.deepEqual(find(log, saw('session', 1, ...log.slice(0, 3), '|', ...log.slice(1))), []);
    assert.match(find(log, saw('plugin', 1, ...log.slice(0, 3), ...log.slice(1)))[0], /a repeat/);
    for (let i = 0; i < 4; i++) assert.match(find(log, saw('plugin', 1, ...log.toSpliced(i, 1)))[0], /missing before/, `${log} without ${log[i]}`);
    assert.match(find(log, saw('plugin', 1, log[1], log[0], ...log.slice(2))).join(), /missing before/);
    assert.deepEqual(find(log, saw('plugin', 1, ...log.slice(0, 2), 'unavailable', ...log.slice(4))), []);
    assert.match(find(log, saw('plugin', 1, ...log.slice(0, 2), 'epoch_changed', ...log.slice(4)))[0], /gap, epoch_changed/);
  }
  assert.match(find([1, 2, 5, 6])[0], /^3 answered 200 and not in the log/);
  assert.match(find([1, 2, 3, 3, 5, 6])[0], /^3 is twice in the log/);
  assert.match(find([3, 2, 1, 5, 6])[0], /out of order in the log/);
  assert.match(find([1, 2, 3, 5, 6], saw('plugin', 1, 1, 2, 3, 4, 5, 6))[0], /4 was never published/);
  // Who came later is owed what was published since.
  assert.deepEqual(find([1, 2, 3, 5, 6], saw('plugin', 5, 5, 6), saw('plugin', 5, 3, 5, 6), saw('plugin', 7)), []);
  assert.match(find([1, 2, 3, 5, 6], saw('plugin', 5, 6))[0], /missing before/);
  published.excluded[3] = { clients: new Set(['ada']), never: 'ada' };
  assert.deepEqual(find([1, 2, 3, 5, 6], saw('plugin', 1, 1, 2, 5, 6)), []);
  assert.match(find([1, 2, 3, 5, 6], saw('plugin', 1, 1, 2, 3, 5, 6))[0], /not meant for it/);
});

// told returns what is found where bob's client is told this of a channel: a list of
// members, who comes (+), or goes (-), or that the connection is over (|).
function told(...entries) {
  const room = new Room([]);
  const view = room.follow('bob-1', 'bob');
  for (const entry of entries) {
    if (entry === '|') view.end();
    else if (Array.isArray(entry)) view.take('pusher_internal:subscription_succeeded', { presence: { ids: entry } });
    else view.take(`pusher_internal:member_${entry[0] === '+' ? 'added' : 'removed'}`, { user_id: entry.slice(1) });
  }
  return { room, found: room.found.map((problem) => problem.split('\n')[0]).join() };
}

test('what clients are told of members is checked as it should', () => {
  assert.equal(told(['ada', 'bob'], '-ada', '+ada', '|', ['bob'], '+ada').found, '');
  assert.match(told(['ada']).found, /is not among the members/);
  assert.match(told(['bob', 'ada', 'ada']).found, /told of one twice/);
  assert.match(told(['bob'], '+ada', '+ada').found, /ada comes, who is there/);
  assert.match(told(['ada', 'bob'], '+ada').found, /ada comes, who is there/);
  assert.match(told(['bob'], '-ada').found, /ada goes, who is not there/);
  assert.match(told(['ada', 'bob'], '|', ['bob'], '-ada').found, /ada goes, who is not there/);
  assert.deepEqual(told(['ada', 'bob'], '-ada').room.differing(), []);
  assert.deepEqual(told(['ada', 'bob']).room.differing(), ['bob-1 has ada,bob']);
  assert.deepEqual(told(['bob'], '|').room.differing(), ['bob-1 has no connection']);
  // One who stands all the time is there, unless the nodes could not know.
  for (const [stood, troubles, found] of [
    [[0, Infinity], [], true], [[0, 12_000], [], false], [[9000, Infinity], [], false],
    [[0, Infinity], [[5000, Infinity]], false], [[0, Infinity], [[0, 9000]], false], [[0, Infinity], [[12_000, Infinity]], true],
  ]) {
    const { room } = told(['ada', 'bob']);
    room.follow('ada-1', 'ada').stood.push(stood);
    room.troubles.push(...troubles);
    room.removals.push({ view: room.views[0], id: 'ada', at: 10_000 });
    room.judge();
    assert.equal(room.found.length > 0, found, JSON.stringify([stood, troubles]));
  }
  const { room } = told(['ada', 'bob'], '-ada', '+ada');
  room.lose(['ada'], 'SIGKILL');
  assert.equal(room.unaware().length, 1);
  room.views[0].take('pusher_internal:member_removed', { user_id: 'ada' });
  assert.equal(room.unaware().length, 0);
  assert.equal(room.took[0].why, 'SIGKILL');
});

test('how servers end is judged as it should', () => {
  const said = 'time=1 level=ERROR msg="the server did not stop cleanly" error="the data folder was not closed cleanly and will be read whole at the next start: the NATS server had failed: no space"';
  for (const [by, log, filled, well] of [
    [0, ['time=1 level=INFO msg=stopping'], false, true], [1, [said], true, true], ['SIGTERM', [], false, true],
    [1, [said], false, false], [1, ['time=1 level=INFO msg=stopping'], true, false], [2, [said], true, false], ['SIGTERM', [said], true, false], ['SIGKILL', [], true, false],
  ]) assert.equal(endedWell(by, { log, filled }), well, JSON.stringify([by, log, filled]));
});

test('a seed gives the same steps each time', () => {
  for (let seed = 0; seed < 200; seed++) assert.deepEqual(plan(seed), plan(seed));
  assert.notDeepEqual(plan(1), plan(9));
});

// clients are some of each kind, and somebody who publishes all the time.
const clients = [
  ...['plugin-1', 'session-1', 'stream-1', 'stock-ada-1', 'stock-bob-1', 'stock-cid-1'].map((client, node) => ({ do: 'join', client, node })),
  { do: 'publishAlong', ms: 5 }, { do: 'pause', ms: 1000 },
];

// calmly has some time pass after each of some steps.
const calmly = (...steps) => steps.flatMap((step) => [step, { do: 'pause', ms: 2000 }]);

// alone performs steps with nothing else under way, and tells figures.
async function alone(t, name, steps) {
  const one = new Rounds(perform, { atOnce: 1 });
  try {
    await one.none(t, [{ name, steps }]);
  } finally {
    figures(t, one.rounds);
  }
}

if (STEPS) {
  test(`the steps of ${STEPS}`, { timeout: 3_600_000 }, async (t) => rounds.tell(t, await saved(STEPS)));
} else {
  // No step explains a gap here, and who connects to a node that nothing is done to is let in.
  test('a rolling restart of all nodes under load', { timeout: 600_000 }, async (t) => alone(t, 'rolling', [
    { do: 'setup', settings: { partitions: 8 } }, ...clients, { do: 'knockAlong' },
    ...calmly({ do: 'rolling', signal: 'SIGTERM' }, { do: 'rolling', signal: 'SIGTERM', ms: 1000 }),
  ]));

  test('what a fault costs by itself', { timeout: 600_000 }, async (t) => alone(t, 'one fault after the other', [
    { do: 'setup', settings: { partitions: 1, 'log-level': 'debug' }, disk: 1 }, ...clients,
    ...calmly(
      ...['SIGTERM', 'SIGTERM', 'SIGKILL', 'SIGKILL', 'SIGKILL'].map((signal) => ({ do: 'restart', node: 'leader', signal })),
      { do: 'freeze', node: 'leader', ms: 3000 }, { do: 'isolate', node: 'leader' }, { do: 'heal' }, { do: 'slow', node: 'leader', ms: 25 }, { do: 'heal' },
      { do: 'fill' }, { do: 'free' }, { do: 'replace', node: 'leader' },
      ...['SIGKILL', 'SIGTERM'].flatMap((signal) => [
        ...['stock-ada-1', 'stock-bob-1', 'plugin-1'].map((client, to) => ({ do: 'break', client, to })),
        { do: 'lose', signal, clients: ['stock-ada-1'] }, { do: 'back', client: 'stock-ada-1' }, { do: 'start' },
      ]),
    ),
  ]));

  test('what was found before', { timeout: 3_600_000 }, async (t) => rounds.none(t, await saved(new URL('replay/found-mesh/', import.meta.url))));

  test(`${ROUNDS} rounds of trouble with a cluster from seed ${FIRST}`, { timeout: 3_600_000 + ROUNDS * 60_000 }, async (t) => {
    t.after(() => figures(t, rounds.rounds));
    await rounds.tell(t, Array.from({ length: ROUNDS }, (_, i) => ({ name: `seed ${FIRST + i}`, steps: plan(FIRST + i) })));
  });
}
