// Waiting for what must happen; nothing here is a measurement.
const PATIENCE = 20_000;

export const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

// within rejects when a promise takes longer than a test's patience.
export function within(promise, what, patience = PATIENCE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`gave up waiting for ${what}`)), patience);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// Recorder keeps the first argument of each call of push and lets a test wait.
export class Recorder {
  constructor(name) {
    this.name = name;
    this.items = [];
    this.waiting = new Set();
    this.push = (item) => {
      this.items.push(item);
      for (const check of this.waiting) check();
    };
  }

  // count waits until there are n items and returns them.
  count(n) {
    return this.until((items) => items.length >= n && items, `${n} × ${this.name}`);
  }

  // until waits for a true result of test(items) and returns it.
  until(test, what = this.name) {
    return within(new Promise((resolve) => {
      const check = () => {
        const result = test(this.items);
        if (result) {
          this.waiting.delete(check);
          resolve(result);
        }
      };
      this.waiting.add(check);
      check();
    }), `${what} (got ${JSON.stringify(this.items)?.slice(0, 500)})`);
  }
}

// once waits for one event of anything with bind (pusher-js).
export function once(target, event) {
  return within(new Promise((resolve) => {
    const handler = (data) => {
      target.unbind(event, handler);
      resolve(data);
    };
    target.bind(event, handler);
  }), event);
}
