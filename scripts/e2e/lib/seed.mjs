// firstSeed is the seed that a randomised test begins with: REECHO_<name>_SEED, else
// REECHO_TEST_SEED, which the unit tests take too, else another one at each run.
export function firstSeed(name) {
  for (const variable of [`REECHO_${name}_SEED`, 'REECHO_TEST_SEED']) {
    const text = process.env[variable];
    if (text === undefined) continue;
    if (!/^\d{1,15}$/.test(text)) throw new Error(`${variable} is ${JSON.stringify(text)}: should be a number of 15 digits at most`);
    return Number(text);
  }
  return Math.floor(Math.random() * 1e9);
}
