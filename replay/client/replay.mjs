// Keeps positions for a stock pusher-js (7 or 8), so that a client that comes
// back gets exactly what it missed. See replay/README.md.

// storagePeriod is how often, in ms, stored positions are renewed while messages
// arrive: a position that was good a moment ago says more than an old one.
const storagePeriod = 30000;
// maxExcept is how many earlier socket ids the server takes.
const maxExcept = 8;

const wrapped = new WeakSet();

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
  const { activityTimeout } = options;
  const untrap = () => delete Object.prototype.config;
  return Object.defineProperty(Object.defineProperties({}, Object.getOwnPropertyDescriptors(options)), 'activityTimeout', {
    enumerable: true,
    get() {
      Object.defineProperty(Object.prototype, 'config', {
        configurable: true,
        set(value) {
          untrap();
          this.config = value;
          Promise.resolve().then(() => wrap(this, settings));
        },
      });
      Promise.resolve().then(untrap);
      return activityTimeout;
    },
  });
}

const sequence = (position) => +position.slice(position.lastIndexOf('-') + 1);
const line = (position) => position.slice(0, position.lastIndexOf('-'));

function wrap(pusher, settings = {}) {
  if (wrapped.has(pusher)) return pusher;
  wrapped.add(pusher);
  const { storage } = settings;
  // By channel: its position, how many missed events are still to come, and
  // the connection on which nothing was missing, whose seen is when anything
  // last came over it.
  const entries = new Map();
  const ids = [];
  let stored = 0;

  const keyOf = (channel) => `reecho:${pusher.key}:${channel}`;
  // A storage may be full or forbidden: then positions live as long as the page.
  const store = (method, ...args) => {
    try {
      return storage && storage[method](...args);
    } catch { /* see above */ }
  };
  const save = (channel, entry) => store('setItem', keyOf(channel), `${entry.position} ${entry.connection.seen}`);
  const load = (channel) => {
    const [position, seen] = (store('getItem', keyOf(channel)) || '').split(' ');
    return position && { position, connection: { seen } };
  };

  const ask = (channel) => {
    const id = pusher.connection.socket_id;
    if (ids.at(-1) !== id && ids.push(id) > maxExcept + 1) ids.shift();
    const entry = entries.get(channel) || load(channel);
    if (entry) {
      return {
        after: entry.position,
        seen: Math.max(0, (Date.now() - entry.connection.seen) / 1000) || undefined,
        except: ids.slice(0, -1),
      };
    }
    const { after, last, since } = typeof settings == 'function' ? settings(channel) || {} : settings;
    return { after, last, since };
  };

  const { send_event: send, unsubscribe } = pusher;
  pusher.send_event = (event, data, channel) =>
    send.call(pusher, event, event == 'pusher:subscribe' ? { ...data, replay: ask(data.channel) } : data, channel);
  pusher.unsubscribe = (channel) => {
    entries.delete(channel);
    store('removeItem', keyOf(channel));
    return unsubscribe.call(pusher, channel);
  };

  const listen = () => {
    const { socket } = pusher.connection.connection.transport;
    if (wrapped.has(socket)) return;
    wrapped.add(socket);
    const connection = {};
    const handle = socket.onmessage;
    const move = (channel, position, missed, since = connection) => {
      const entry = { position, missed, connection: missed > 0 ? since : connection };
      entries.set(channel, entry);
      save(channel, entry);
    };
    socket.onmessage = (message) => {
      const now = (connection.seen = Date.now());
      const { data } = message;
      let moved;
      if (typeof data == 'string' && data.includes('position')) {
        const frame = JSON.parse(data);
        const { channel, position } = frame;
        if (frame.event == 'pusher_internal:subscription_succeeded') {
          const { replay } = JSON.parse(frame.data);
          // Until the missed events are here, nobody has seen the channel whole.
          if (replay) move(channel, replay.position, replay.events, { ...(entries.get(channel) || load(channel))?.connection });
        } else if (position) {
          const known = entries.get(channel);
          if (known && line(known.position) == line(position) && sequence(position) <= sequence(known.position)) return;
          moved = () => known == entries.get(channel) && move(channel, position, known?.missed - 1, known?.connection);
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
        entries.forEach((entry, channel) => entry.connection == connection && save(channel, entry));
      }
    };
  };
  pusher.connection.bind('connected', listen);
  if (pusher.connection.state == 'connected') listen();
  return pusher;
}
