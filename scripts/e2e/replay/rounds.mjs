// Many lists of steps: performs some at once, and makes of those that fail the fewest
// steps that still do.
import assert from 'node:assert/strict';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { shrink } from './shrink.mjs';

// SHRUNK is how many failures are shrunk, each of another kind.
const SHRUNK = 3;

// sorts are the kinds of problems: a list that is shrunk must not turn from one
// into another.
const sorts = {
  lost: /missing before|answered 200 and not in the log/,
  silent: /no last number|gave up waiting|nothing can be published/,
  order: /out of order|a repeat/,
  twice: /twice in the log/,
  differs: /the log of .* differs/,
  foreign: /never published|not meant for it|not what was published/,
  again: /^lost again/,
  unvoided: /not epoch_changed/,
  gap: /: gap, /,
  answer: /a publish was answered/,
  members: /^member |^members and counts/,
  died: /the server ended|server ended with|panic/,
};

// sortsOf are those of problems, with the kind of client that has them; what
// belongs to none is one of its own.
export function sortsOf(found) {
  return new Set(found.map((text) => {
    const [line] = text.split('\n');
    const sort = Object.keys(sorts).find((name) => sorts[name].test(line)) ?? 'other';
    return [/: (plugin|session|stream|stock) /.exec(line)?.[1], sort].filter(Boolean).join(' ');
  }));
}

// saved reads the lists of a folder, or of one file, by URL or path. awaited says why one of them still
// fails.
export async function saved(url) {
  const read = async (file, name) => {
    const text = JSON.parse(await readFile(file, 'utf8'));
    return { name: `${name}, ${text.what ?? ''}`, awaited: text.awaited, steps: text.steps ?? text };
  };
  if (typeof url === 'string') {
    if (!(await stat(url)).isDirectory()) return [await read(url, url)];
    return saved(pathToFileURL(join(url, '/')));
  }
  const files = (await readdir(url).catch(() => [])).filter((file) => file.endsWith('.json')).sort();
  return Promise.all(files.map((file) => read(new URL(file, url), file)));
}

function text({ name, round, steps, from }) {
  return `${name}:\n  ${round.report()}\nsteps${from ? ` (fewest of ${from})` : ''}:\n[\n${steps.map((step) => `  ${JSON.stringify(step)}`).join(',\n')}\n]`;
}

export class Rounds {
  // perform does a list of steps and returns the round; atOnce lists are performed at
  // once. tries is how often the steps of a failure are run to shrink them.
  constructor(perform, { atOnce, tries = 150, again }) {
    Object.assign(this, { perform, atOnce, tries, again, rounds: [] });
  }

  // performAll performs lists and returns those that failed.
  async performAll(t, lists) {
    const waiting = [...lists];
    const failures = [];
    let steps = 0;
    let entries = 0;
    const worker = async () => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        const round = await this.perform(next.steps);
        this.rounds.push(round);
        steps += next.steps.length;
        entries += round.entries;
        if (round.found.length > 0) failures.push({ ...next, round });
      }
    };
    await Promise.all(Array.from({ length: this.atOnce }, worker));
    t.diagnostic(`${lists.length} rounds, ${steps} steps, ${entries} entries of clients' histories checked`);
    return failures;
  }

  // none performs lists of which none may fail but those that are awaited.
  async none(t, lists) {
    const all = await this.performAll(t, lists);
    const failures = all.filter(({ awaited }) => !awaited);
    for (const { name, awaited } of lists.filter((list) => list.awaited)) {
      t.diagnostic(`${name}: ${all.some((failure) => failure.name === name) ? 'fails' : 'PASSES'}, awaited: ${awaited}`);
    }
    assert.equal(failures.length, 0, failures.map(text).join('\n\n'));
  }

  // tell performs lists, shrinks those that fail, of each kind one, and fails.
  async tell(t, lists) {
    const failures = await this.performAll(t, lists);
    const told = new Map();
    for (const failure of failures) {
      const [sort] = sortsOf(failure.round.found);
      if (!told.has(sort) && told.size < SHRUNK) told.set(sort, await this.shrunk(failure));
    }
    const names = failures.map(({ name, round }) => `${name} (${[...sortsOf(round.found)]})`);
    assert.equal(failures.length, 0, `${failures.length} of ${lists.length} failed: ${names.join(', ')}\n${[...told.values()].map(text).join('\n\n')}`);
  }

  // shrunk makes the steps of a failure as few as they can be.
  async shrunk(failure) {
    const [wanted] = sortsOf(failure.round.found);
    let { round } = failure;
    const { steps, runs } = await shrink(failure.steps, async (candidate) => {
      const again = await this.perform(candidate);
      const same = sortsOf(again.found).has(wanted);
      if (same) round = again;
      return same;
    }, { tries: this.tries, again: this.again });
    return { ...failure, round, steps, from: `${failure.steps.length}, in ${runs} runs` };
  }
}
