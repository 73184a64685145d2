// Who is on a presence channel, as each of its connections is told: of all at first,
// then of each who comes and of each who goes, once. Whatever happens to the nodes, no
// connection is told that one comes whom it has, or goes whom it has not.

// HELD is how long before and after it was told that a user is gone a connection of that
// user must have stood, on a network that is whole, to prove that it was not.
const HELD = 3000;

// QUIET is how long before that the network must have been whole: it takes a while until
// all nodes know of each other again.
const QUIET = 15_000;

const now = () => performance.now();

// View is what one connection after the other of a client is told.
class View {
  constructor(room, client, user) {
    // stood are the times, [from, to], of its connections.
    Object.assign(this, { room, client, user, members: undefined, stood: [], told: [] });
  }

  // take takes a frame as it came.
  take(event, data) {
    switch (event) {
      case 'pusher_internal:subscription_succeeded': return this.begin(data.presence.ids);
      case 'pusher_internal:member_added': return this.came(String(data.user_id));
      case 'pusher_internal:member_removed': return this.went(String(data.user_id));
      default: return undefined;
    }
  }

  begin(ids) {
    this.end();
    this.members = new Set(ids.map(String));
    this.stood.push([now(), Infinity]);
    this.told.push(`[${ids}]`);
    if (this.members.size !== ids.length) this.problem(`is told of one twice at first`);
    if (!this.members.has(this.user)) this.problem(`is not among the members that it is told of`);
  }

  came(id) {
    this.told.push(`+${id}`);
    if (this.members?.has(id)) this.problem(`is told that ${id} comes, who is there`);
    this.members?.add(id);
  }

  went(id) {
    this.told.push(`-${id}`);
    if (this.members && !this.members.delete(id)) this.problem(`is told that ${id} goes, who is not there`);
    this.room.gone(this, id);
  }

  // end: the connection is over.
  end() {
    if (!this.members) return;
    this.members = undefined;
    this.stood.at(-1)[1] = now();
    this.told.push('|');
  }

  problem(what) { this.room.found.push(`member ${this.client}: ${what}\n    was told ${this.told.slice(-100).join(' ')}`); }
}

export class Room {
  constructor(found) {
    Object.assign(this, { found, views: [], removals: [], troubles: [], lost: new Map(), took: [] });
  }

  // follow begins with a client.
  follow(client, user) {
    const view = new View(this, client, user);
    this.views.push(view);
    return view;
  }

  get users() { return new Set(this.views.map(({ user }) => user)); }

  // trouble: from now on until peace, who is there may not be known everywhere.
  trouble() { if (!this.troubled) this.troubles.push([now(), Infinity]); }

  peace() { if (this.troubled) this.troubles.at(-1)[1] = now(); }

  get troubled() { return this.troubles.at(-1)?.[1] === Infinity; }

  gone(view, id) {
    const at = now();
    this.removals.push({ view, id, at });
    const since = this.lost.get(id);
    if (since) this.took.push({ ...since, ms: at - since.at });
  }

  // lose says that users have lost their last connection, for a reason, and that they
  // stay away.
  lose(users, why) { for (const user of users) this.lost.set(user, { at: now(), why }); }

  // find: they are looked for no more.
  find() { this.lost.clear(); }

  // unaware are the connections that have users as members who are lost.
  unaware() { return this.views.filter(({ members }) => members && [...this.lost.keys()].some((user) => members.has(user))); }

  // judge looks for users who were told to be gone while they were there.
  judge() {
    for (const { view, id, at } of this.removals) {
      if (this.troubles.some(([from, to]) => from < at + 1000 && to > at - QUIET)) continue;
      const there = this.views.find((other) => other.user === id && other.stood.some(([from, to]) => from < at - HELD && to > at + HELD));
      if (there) view.problem(`is told that ${id} goes, while ${there.client} is there`);
    }
  }

  // differing are the clients that have other members than there are, with what they
  // have.
  differing() {
    const want = [...this.users].sort().join();
    return this.views.map(({ client, members }) => [client, members && [...members].sort().join()]).filter(([, have]) => have !== want)
      .map(([client, have]) => `${client} has ${have ?? 'no connection'}`);
  }
}
