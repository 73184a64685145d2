// Keeps positions for a stock pusher-js (7 or 8), so that a client that comes
// back gets exactly what it missed. See replay/README.md.
import { authorization } from './authorize.mjs';

// storagePeriod is how often, in ms, what is kept is renewed while messages
// arrive: a position that was good a moment ago says more than an old one.
const storagePeriod = 30000;
// maxExcept is how many earlier socket ids the server takes.
const maxExcept = 32;
// maxPages is of how many page loads a storage holds places, the newest. maxPlaces
// is how many a page takes over from the one before it.
const maxPages = 50;
const maxPlaces = 1000;
// maxQueued is how many messages of a channel wait for its load. What is above is asked
// for again.
const maxQueued = 1000;
// Pauses, in ms, after a load that failed: each is twice as long, and random in its
// second half.
const firstPause = 1000;
const maxPause = 30000;

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
          queueMicrotask(() => wrap(this, settings, options));
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

// isBehind says that a position is at or behind another one: of two lines nobody knows.
const isBehind = (position, other) => {
  const [, line, sequence] = split(position) || [];
  const [, otherLine, otherSequence] = split(other || '') || [];
  return line && line == otherLine && +sequence >= +otherSequence;
};

// apart has what an application throws not end what is done for it.
const apart = (action) => {
  try {
    action();
  } catch (error) {
    setTimeout(() => { throw error; });
  }
};

// options are those of the constructor, which version 7 does not keep.
function wrap(pusher, settings = {}, options = pusher.options) {
  if (wrapped.has(pusher)) return pusher;
  wrapped.add(pusher);
  const { storage } = settings;
  const { send_event: send, unsubscribe, connection: manager } = pusher;
  const authorized = authorization(pusher, options, settings.authBatch);
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
  // By channel that is subscribed: what the application wants of it, and where its load
  // is. The channel is loading from its first success, or a gap, until the state was
  // given to the application; meanwhile queue has what came. start is where that
  // begins, if it is known. value is what was loaded, once it is. pending: it was
  // asked for, and the answer is not here; what it had is asked for again. resumed: it is
  // asked for from the position of the state on, and cut, that some of the queue is missing.
  const wishes = new Map();
  // Those that are loading.
  const busy = new Set();
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

  const emit = (channel, event, data) => apart(() => pusher.channel(channel)?.emit(event, data));

  // stop ends a load under way.
  const stop = (wish) => {
    busy.delete(wish);
    wish.abort?.abort();
    clearTimeout(wish.timer);
  };

  // again loads after a pause, the longer the more often there was one.
  const again = (channel, wish) => {
    const pause = Math.min(maxPause, firstPause * 2 ** wish.tries++) * (1 + Math.random()) / 2;
    wish.timer = setTimeout(() => {
      // Who has disconnected is asked when it is back.
      if (manager.state == 'disconnected') wish.waits = true;
      else run(channel, wish);
    }, pause);
    return pause;
  };

  const run = async (channel, wish) => {
    const { signal } = wish.abort = new AbortController();
    wish.waits = false;
    let value;
    try {
      value = await wish.load(channel, { signal });
      const position = value?.position;
      if (position != null && !split(String(position))) throw new TypeError(`load returned ${position}, which is no position`);
    } catch (error) {
      if (!signal.aborted) {
        const wait = again(channel, wish);
        emit(channel, 'reecho:load_failed', { error, tries: wish.tries, wait });
      }
      return;
    }
    if (signal.aborted) return;
    wish.value = [value];
    settle(channel, wish);
  };

  // begin loads a channel, anew if it does already. start is as above. A state that the
  // server cannot go on from is loaded again after a pause.
  const begin = (channel, wish, start) => {
    stop(wish);
    const { resumed } = wish;
    busy.add(wish);
    Object.assign(wish, { begun: true, start, queue: [], cut: false, value: undefined, resumed: false });
    if (resumed) again(channel, wish);
    else run(channel, wish);
  };

  // settle gives the application its state and what came since, if both are there. A
  // state of before what is queued, or of another life of the server, is gone on from as
  // after a lost connection.
  const settle = (channel, wish) => {
    const { value, queue, start } = wish;
    if (!value || wish.pending) return;
    const position = value[0]?.position;
    const entry = entries.get(channel);
    if (!wish.resumed) {
      const whole = !position || isBehind(position, start) || isBehind(position, queue.find((each) => each.position)?.position);
      if (wish.cut || !whole) {
        wish.resumed = true;
        entries.set(channel, { ...entry, position: position || entry.position, missed: 0, connection: {} });
        save();
        wish.pending = true;
        const subscribed = pusher.channel(channel);
        subscribed.unsubscribe();
        subscribed.subscribe();
        return;
      }
      if (position) entries.set(channel, { ...entry, position });
    }
    busy.delete(wish);
    Object.assign(wish, { tries: 0, queue: [], value: undefined, resumed: false });
    save();
    emit(channel, 'reecho:loaded', value[0]);
    for (const { receive } of queue) apart(receive);
  };

  // succeeded is told of each success that was not a gap, and where the channel begins by it.
  const succeeded = (channel, wish, start) => {
    if (wish != wishes.get(channel)) return;
    if (!wish.begun) {
      begin(channel, wish, start);
    } else if (busy.has(wish)) {
      wish.start = start;
      if (wish.waits) run(channel, wish);
      settle(channel, wish);
    }
  };

  const wishOf = (channel) => {
    let wish = wishes.get(channel);
    if (!wish) wishes.set(channel, wish = { tries: 0, queue: [] });
    if (!wish.begun && !(wish.load && entries.has(channel))) Object.assign(wish, settings.call ? settings(channel) : settings);
    return wish;
  };

  const ask = (channel) => {
    const id = manager.socket_id;
    if (ids.at(-1) != id && ids.push(id) > maxExcept + 1) ids.shift();
    const wish = wishOf(channel);
    // What the page had is not what this load of it shows.
    if (wish.load && !wish.begun) entries.delete(channel);
    const entry = entries.get(channel);
    const { after, last, since } = entry ? { after: entry.position } : wish.load ? {} : wish;
    // What is queued comes again.
    Object.assign(wish, { pending: true, queue: [], cut: false });
    heard.set(channel, after && (() => {}));
    return {
      after, last, since,
      seen: Math.max(0, (Date.now() - entry?.connection.seen) / 1000) || undefined,
      except: after && ids.slice(0, -1),
    };
  };

  pusher.send_event = (event, data, channel) => {
    if (event == 'pusher:subscribe') data = { ...data, replay: ask(data.channel), grant: authorized.claim(data.channel) };
    if (event == 'pusher:signin') data = { ...data, grant: authorized.claim('') };
    return send.call(pusher, event, data, channel);
  };
  pusher.unsubscribe = (channel) => {
    entries.delete(channel);
    authorized.drop(channel);
    heard.delete(channel);
    stop(wishes.get(channel) || {});
    wishes.delete(channel);
    // What was asked for is not taken back by pusher-js: who subscribes again before the
    // answer gets that.
    if (pusher.channel(channel)?.subscriptionPending) wishOf(channel).pending = true;
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
    const receive = (message) => {
      let moved;
      if (/"reecho:grant"/.test(message.data)) {
        const told = JSON.parse(message.data);
        if (told.event == 'reecho:grant') return void authorized.hear(told);
      }
      if (busy.size || /position|reecho:gap/.test(message.data)) {
        const { event, channel, position, data } = JSON.parse(message.data);
        const known = entries.get(channel);
        let wish = wishes.get(channel);
        if (/^pusher_internal:subscription_succeeded/.test(event)) {
          const { replay } = JSON.parse(data);
          if (replay && pusher.channel(channel)) wish = wishOf(channel);
          // Until the missed events are here, nobody has seen the channel whole.
          const step = () => move(channel, replay.position, replay.events, { ...known?.connection });
          const gap = replay && !replay.complete && heard.get(channel);
          if (replay) gap ? heard.set(channel, step) : step();
          if (replay && wish) {
            wish.pending = false;
            // What a cache channel gives to who joins is in the state.
            wish.cached = /^(private-|presence-)?(encrypted-)?cache-/.test(channel);
            if (!gap && wish.load) moved = () => succeeded(channel, wish, replay.position);
          }
        } else if (/reecho:gap$/.test(event)) {
          moved = () => {
            const step = heard.get(channel);
            step?.();
            // Of a gap on a connection that stands nobody knows where it ends. One before a
            // success is of the subscription before.
            if (wish?.load && !wish.pending && wish == wishes.get(channel)) begin(channel, wish, step && entries.get(channel)?.position);
          };
        } else if (wish?.load && position && wish.pending) {
          return;
        } else if (busy.has(wish) && !/^(pusher(_internal)?|reecho):/.test(event)) {
          if (wish.cached && !position) return void (wish.cached = false);
          wish.cached = false;
          if (wish.queue.length == maxQueued) Object.assign(wish, { queue: [], cut: true });
          if (!wish.cut) wish.queue.push({ position, receive: () => receive(message) });
          return;
        } else if (position && known) {
          if (isBehind(known.position, position)) return;
          moved = () => known == entries.get(channel) && move(channel, position, known.missed - 1, known.connection);
        }
      }
      try {
        handle.call(socket, message);
      } finally {
        // Only now have the application's handlers seen it.
        moved?.();
      }
    };
    socket.onmessage = (message) => {
      const now = (connection.seen = Date.now());
      try {
        receive(message);
      } finally {
        if (now > stored + storagePeriod) {
          stored = now;
          save();
        }
      }
    };
  };
  manager.bind('connected', listen);
  // What is queued cannot be given to a connection that is over, and comes again over the next.
  for (const state of ['connecting', 'unavailable', 'disconnected', 'failed']) {
    manager.bind(state, () => wishes.forEach((wish) => { wish.pending = true; }));
  }
  manager.bind('disconnected', leave);
  globalThis.addEventListener?.('pagehide', leave);
  if (manager.state == 'connected') listen();
  save();
  return pusher;
}
