// What every attack of hostile/ begins with. Each file there is one attack, run in
// a thread of its own beside honest clients until it is terminated:
// forever(n, turn) repeats turn(i) in n loops at once.
import { workerData } from 'node:worker_threads';

export const { port } = workerData;

export function forever(n, turn) {
  for (let i = 0; i < n; i++) {
    (async () => {
      for (;;) {
        await turn(i);
        // Nothing may starve the other loops of this thread.
        await new Promise((resolve) => { setImmediate(resolve); });
      }
    })();
  }
}
