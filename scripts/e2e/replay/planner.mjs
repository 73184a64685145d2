// What makes a list of steps from a seed: all that is random comes from it.
import { random } from './random.mjs';

export class Planner {
  // themes are those of which a seed has one: it decides on what a round has besides
  // the steps that all have.
  constructor(seed, themes) {
    this.rng = random(seed);
    this.theme = themes[seed % themes.length];
    this.clients = [];
    this.away = new Set();
  }

  is(...names) { return names.includes(this.theme) || this.theme === 'mixed'; }

  // trouble is what happens to the connection of a client, or that one comes back. It
  // only breaks with a chance of breaks, else it stays away. more is what else a step
  // has.
  trouble(client, breaks, more = {}) {
    const { rng } = this;
    if (this.away.delete(client)) return { do: 'back', client, ...more };
    const how = rng.pick(['reset', 'drop', 'cut', 'swallow']);
    const bytes = how === 'cut' ? { bytes: 1 + rng.below(3000) } : {};
    if (rng.chance(breaks)) return { do: 'break', client, how, ...more, ...bytes };
    this.away.add(client);
    return { do: 'away', client, how: rng.pick([how, 'stall']), ...bytes };
  }
}
