// Finds the fewest steps that still fail (delta debugging, Zeller and Hildebrandt
// 2002): chunks of steps are left out, then single ones, then what is in a step is
// left out or made smaller.

// shrink returns steps of which nothing can be left out any more, and how often it
// ran them. fails(steps) resolves to whether they fail. Timing varies, so each
// candidate is run `again` times before it counts as one that does not; there are at
// most `tries` runs in all.
export async function shrink(steps, fails, { tries = 150, again = 3 } = {}) {
  let runs = 0;
  const passed = new Set();
  const still = async (candidate) => {
    const text = JSON.stringify(candidate);
    if (passed.has(text)) return false;
    const count = Math.min(again, tries - runs);
    runs += count;
    const tried = Array.from({ length: count }, () => fails(candidate));
    const failed = (await Promise.all(tried)).includes(true);
    if (!failed) passed.add(text);
    return failed;
  };
  let best = await fewer(steps, still);
  for (let before; before !== best && runs < tries;) {
    before = best;
    best = await smaller(best, still);
    best = await fewer(best, still);
  }
  return { steps: best, runs };
}

// fewer leaves out chunks of a list, of half of it at first and of one at last.
async function fewer(list, still) {
  for (let size = Math.ceil(list.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    // From the end: what comes late depends on what came before.
    for (let at = list.length - size; at > -size; at -= size) {
      const candidate = list.toSpliced(Math.max(0, at), Math.min(size, size + at));
      if (candidate.length < list.length && await still(candidate)) list = candidate;
    }
  }
  return list;
}

// smaller tries what each step can do without, and lower numbers.
async function smaller(steps, still) {
  for (let i = 0; i < steps.length; i++) {
    const withStep = (step) => steps.with(i, step);
    const better = await smallerValue(steps[i], (step) => still(withStep(step)));
    if (better !== steps[i]) steps = withStep(better);
  }
  return steps;
}

// verbs say what a step or a harm is: without, it is none.
const verbs = new Set(['do', 'harm']);

async function smallerValue(value, still) {
  if (Array.isArray(value)) {
    value = await fewer(value, still);
    for (let i = 0; i < value.length; i++) {
      const better = await smallerValue(value[i], (each) => still(value.with(i, each)));
      if (better !== value[i]) value = value.with(i, better);
    }
    return value;
  }
  if (typeof value === 'object' && value !== null) {
    for (const key of Object.keys(value).filter((each) => !verbs.has(each))) {
      const { [key]: _, ...rest } = value;
      if (await still(rest)) {
        value = rest;
        continue;
      }
      const better = await smallerValue(value[key], (each) => still({ ...value, [key]: each }));
      if (better !== value[key]) value = { ...value, [key]: better };
    }
    return value;
  }
  if (Number.isInteger(value) && value > 1) return smallerNumber(value, still);
  return value;
}

async function smallerNumber(number, still) {
  if (await still(1)) return 1;
  for (let half = Math.floor(number / 2); half > 1 && await still(half); half = Math.floor(number / 2)) number = half;
  return number;
}
