// What a client must have seen of a channel on which numbers were published in
// order, one after the other.

// COPIES_OWE says what is owed where a copy of the data was put back: also what
// was stored behind the copy, to who had seen nothing of that. False: only what
// positions that the copy never gave prove.
const COPIES_OWE = true;

// Published is what happened to the numbers of one channel: 'stored' was
// answered 200, 'unknown' may be stored or not.
export class Published {
  constructor() {
    this.fate = []; // by number; [0] is unused
    this.excluded = []; // by number: the client that must not get it, if any
  }

  get next() { return Math.max(1, this.fate.length); }

  // begin returns the next number, whose fate is unknown until stored is called.
  begin() {
    const n = this.next;
    this.fate[n] = 'unknown';
    return n;
  }

  stored(n) { this.fate[n] = 'stored'; }

  // required lists the stored numbers from a to b, both left out, that a client
  // must get.
  required(a, b, client) {
    const list = [];
    for (let n = a + 1; n < b; n++) {
      if (this.fate[n] === 'stored' && !this.excluded[n]?.clients.has(client)) list.push(n);
    }
    return list;
  }
}

// History is what one client saw of one channel, in order: {n}, {gap: reason},
// {resumed}, {reconnect: true}; and {copy: n, until: m} where the server came back,
// before m was published, with a copy of its data that was made before n was.
export class History {
  constructor(client, kind) {
    this.client = client;
    this.kind = kind; // plugin, session, stream or stock
    this.seen = [];
    this.from = undefined; // everything from this number on is owed
  }

  // begin says that the client was subscribed when n was the next number.
  begin(n) { this.from ??= n; }
}

// check returns what is wrong with a history, one sentence each.
export function check(published, history) {
  const problems = [];
  const at = (i) => `${history.kind} ${history.client}, entry ${i}`;
  let last = history.from - 1; // everything up to it was delivered or was not owed
  let rewind = false; // a session may go back here, or who is on another node that has less
  let open = false; // a gap was told: what follows is not owed until the next number
  let lost; // the copy that is there, and what was there behind it
  let voided = false; // its position is one that the log which is there never gave
  const had = new Set(); // what a session that goes back to an older log need not get again
  history.seen.forEach((entry, i) => {
    if (entry.reconnect) {
      rewind = ['session', 'stock'].includes(history.kind);
      return;
    }
    if (entry.copy) {
      lost = entry;
      // What a session has confirmed is in the log, not with the client.
      voided ||= history.kind !== 'session' && last >= entry.copy;
      return;
    }
    if (voided && entry.gap !== 'epoch_changed') {
      problems.push(`${at(i)}: not epoch_changed, but ${JSON.stringify(entry)}, after a position that the log never gave`);
    }
    voided = false;
    if (entry.gap) {
      open = true;
      return;
    }
    const { n } = entry;
    if (n === undefined) return;
    if (entry.damaged) problems.push(`${at(i)}: ${n} is not what was published`);
    if (!published.fate[n]) problems.push(`${at(i)}: ${n} was never published`);
    if (published.excluded[n]?.never === history.client) problems.push(`${at(i)}: ${n} was not meant for it`);
    if (n <= last) {
      if (n < history.from && last < history.from) return; // before the subscription was known
      if (!rewind) problems.push(`${at(i)}: ${n} after ${last}: ${history.seen.some((e, j) => j < i && e.n === n) ? 'a repeat' : 'out of order'}`);
    } else if (!open) {
      const missed = published.required(last, n, history.client).filter((each) => !lost || !(had.has(each) || (!COPIES_OWE && each >= lost.copy && each < lost.until)));
      if (missed.length > 0) problems.push(`${at(i)}: ${missed} missing before ${n}`);
    }
    rewind = false;
    open = false;
    last = n;
    had.add(n);
  });
  return problems;
}

// numbers are those from one to another.
export const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
