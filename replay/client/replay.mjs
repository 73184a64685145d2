// Keeps positions for a stock pusher-js (7 or 8), so that a client that comes
// back gets exactly what it missed. See replay/README.md.

// storagePeriod is how often, in ms, what is kept is renewed while messages
// arrive: a position that was good a moment ago says more than an old one.
const storagePeriod = 30000;
// maxExcept is how many earlier socket ids the server takes.
const maxExcept = 32;
// maxPages is of how many page loads a storage holds places, the newest. maxPlaces
// is how many a page takes over from the one before it.
const maxPages = 50;
const maxPlaces = 1000;

const wrapped = new WeakSet();
// By storage: which slots the instances of this page have.
const slots = new WeakMap();

/**
 * Adds replay to pusher-js. target is the options for `new Pusher(key, …)`, of
 * which a copy is returned, or a Pusher instance, which is returned itself.
 */
export function withReplay(target, settings = target.replay) {
  return target.connection ? wrap(target, settings) : catching(target, settings);
}

// pusher-js gives options no way to reach the instance. But its constructor
// reads activityTimeout right before it assigns this.config, and does nothing
// else between: so the read sets a trap for that one assignment, which is gone
// at the latest when the constructor has ended.
function catching(options, settings) {
  const untrap = () => delete Object.prototype.config;
  return {
    ...options,
    get activityTimeout() {
      Object.defineProperty(Object.prototype, 'config', {
        configurable: true,
        set(value) {
          untrap();
          this.config = value;
          queueMicrotask(() => wrap(this, settings));
        },
      });
      queueMicrotask(untrap);
      return options.activityTimeout;
    },
  };
}

// A position is a line and a sequence on it.
const split = (position) => position.match(/(.*)-(.*)/);
// A storage may be full, forbidden or absent: then positions live as long as the
// page.
const attempt = (action) => {
  try {
    return action();
  } catch { /* see above */ }
};

function wrap(pusher, settings = {}) {
  if (wrapped.has(pusher)) return pusher;
  wrapped.add(pusher);
  const { storage } = settings;
  const { send_event: send, unsubscribe, connection: manager } = pusher;
  // What a page keeps is one item, under a name that is new with each load, so
  // that it is never another page's. sessionStorage, which is the tab's, knows the
  // name of the load before, with a copy of whose item this one begins; a
  // duplicated tab does so too. Without one the storage belongs to one page. Each
  // instance in a page has a slot of its own.
  const tab = attempt(() => sessionStorage);
  const used = slots.get(storage) || new Set();
  if (storage) slots.set(storage, used);
  let slot = 0;
  while (used.has(slot)) slot++;
  const prefix = `reecho:${pusher.key}:`;
  const name = `reecho${slot}:${pusher.key}`;
  const page = tab ? prefix + Date.now() + Math.random() : name;
  // ids are the socket ids that the page had, the newest last.
  const [ids, places] = attempt(() => {
    const kept = storage.getItem(tab ? tab.getItem(name) : name);
    if (tab) tab.setItem(name, page);
    const pages = Object.keys(storage).filter((each) => each.startsWith(prefix));
    pages.sort().slice(0, -maxPages).forEach((each) => storage.removeItem(each));
    return JSON.parse(kept);
  }) || [[], []];
  // By channel: its position, how many missed events are still to come, and
  // the connection on which nothing was missing, whose seen is when anything
  // last came over it.
  const entries = new Map(places.slice(-maxPlaces));
  // By channel that asked for what comes after a position: what moves its place
  // when a gap was heard. Told in a success it moves nothing.
  const heard = new Map();
  let stored = 0;
  // The id of a connection that stands is not kept: to who begins with a copy,
  // what this page sends is news.
  let standing;

  const save = () => attempt(() => storage.setItem(page, JSON.stringify([ids.filter((id) => id != standing), [...entries]])));
  const leave = () => {
    standing = 0;
    used.delete(slot);
    save();
  };

  const ask = (channel) => {
    const id = manager.socket_id;
    if (ids.at(-1) != id && ids.push(id) > maxExcept + 1) ids.shift();
    const entry = entries.get(channel);
    const { after, last, since } = entry ? { after: entry.position } : (settings.call ? settings(channel) : settings) || {};
    heard.set(channel, after && (() => {}));
    return {
      after, last, since,
      seen: Math.max(0, (Date.now() - entry?.connection.seen) / 1000) || undefined,
      except: after && ids.slice(0, -1),
    };
  };

  pusher.send_event = (event, data, channel) =>
    send.call(pusher, event, event == 'pusher:subscribe' ? { ...data, replay: ask(data.channel) } : data, channel);
  pusher.unsubscribe = (channel) => {
    entries.delete(channel);
    heard.delete(channel);
    save();
    return unsubscribe.call(pusher, channel);
  };

  const listen = () => {
    const { socket } = manager.connection.transport;
    if (wrapped.has(socket)) return;
    wrapped.add(socket);
    standing = tab && manager.socket_id;
    used.add(slot);
    const connection = {};
    const handle = socket.onmessage;
    const move = (channel, position, missed, since) => {
      entries.set(channel, { position, missed, connection: missed > 0 ? since : connection });
      heard.delete(channel);
      save();
    };
    socket.onmessage = (message) => {
      const now = (connection.seen = Date.now());
      let moved;
      if (/position|reecho:gap/.test(message.data)) {
        const { event, channel, position, data } = JSON.parse(message.data);
        const known = entries.get(channel);
        if (/^pusher_internal:/.test(event)) {
          // Only a success has it.
          const { replay } = JSON.parse(data);
          // Until the missed events are here, nobody has seen the channel whole.
          const step = () => move(channel, replay.position, replay.events, { ...known?.connection });
          if (replay) replay.complete || !heard.get(channel) ? step() : heard.set(channel, step);
        } else if (/reecho:gap$/.test(event)) {
          moved = () => heard.get(channel)?.();
        } else if (position && known) {
          const [, line, sequence] = split(position);
          const [, knownLine, knownSequence] = split(known.position);
          if (line == knownLine && +sequence <= +knownSequence) return;
          moved = () => known == entries.get(channel) && move(channel, position, known.missed - 1, known.connection);
        }
      }
      try {
        handle.call(socket, message);
      } finally {
        // Only now have the application's handlers seen it.
        moved?.();
      }
      if (now > stored + storagePeriod) {
        stored = now;
        save();
      }
    };
  };
  manager.bind('connected', listen);
  manager.bind('disconnected', leave);
  globalThis.addEventListener?.('pagehide', leave);
  if (manager.state == 'connected') listen();
  save();
  return pusher;
}
