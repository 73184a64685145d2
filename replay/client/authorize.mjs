// Keeps a stock pusher-js from asking its application more often than needed: once for
// all channels of a moment, and not at all for those that a client had before it lost
// its connection. See replay/README.md.
import { hmac } from './sha256.mjs';

// gather is how long, in ms, channels are waited for that are asked for together.
const gather = 10;
// maxBatch is how many are asked for in one request.
const maxBatch = 100;

// channelAuth is how pusher-js asks for channels, by its options (core/config.ts).
function channelAuth(options) {
  const { channelAuthorization, auth = {}, authorizer: customHandler } = options;
  return {
    transport: options.authTransport || 'ajax', endpoint: options.authEndpoint || '/pusher/auth',
    ...(channelAuthorization ? { transport: 'ajax', endpoint: '/pusher/auth', ...channelAuthorization } : { ...auth, customHandler }),
  };
}

// fails tells pusher-js that a channel was refused. It takes the status from errors of its
// own only, so that is added to what the channel emits.
function fail(pusher, { params, callback }, status, url) {
  const error = new Error(`Unable to retrieve auth string from channel-authorization endpoint - received status: ${status} from ${url}`);
  const channel = pusher.channel(params.channelName);
  const emit = channel?.emit;
  if (channel) {
    channel.emit = (event, data, ...more) => emit.call(channel, event, event == 'pusher:subscription_error' ? { ...data, status } : data, ...more);
  }
  try {
    callback(error, null);
  } finally {
    if (channel) channel.emit = emit;
  }
}

// together is single, for one channel, as a handler that asks for all channels of a moment
// at once, where the application knows that.
function together(pusher, single, options, setting) {
  if (!options || setting === false || !globalThis.fetch) return single;
  const auth = channelAuth(options);
  if (auth.transport != 'ajax' || (auth.customHandler && !setting)) return single;
  const url = setting || auth.endpoint.replace(/(?=[?#]|$)/, '/batch');
  // By channel: those who ask for it.
  let queue = new Map();
  // known: the application has answered such a request, or it is not one that it knows.
  let known;

  const ask = ([name, entries]) => {
    single(entries[0].params, (error, data) => entries.forEach(({ callback }) => callback(error, data && { ...data })));
  };

  const post = async (some) => {
    let status = 0;
    let channels;
    try {
      const fields = some.map(([name]) => ['channel_names[]', name]);
      const given = Object.entries({ ...auth.params, ...auth.paramsProvider?.() });
      const response = await fetch(url, {
        method: 'POST', credentials: 'same-origin',
        headers: { 'Content-Type': 'application/x-www-form-urlencoded', ...auth.headers, ...auth.headersProvider?.() },
        body: new URLSearchParams([['socket_id', some[0][1][0].params.socketId], ...fields, ...given]).toString(),
      });
      ({ status } = response);
      if (status == 200) ({ channels } = await response.json());
    } catch { /* the network, or no JSON */ }
    if (channels && typeof channels == 'object') {
      known = true;
      for (const each of some) {
        const { status: code, ...data } = Object.hasOwn(channels, each[0]) ? channels[each[0]] : {};
        if (code == 200) each[1].forEach(({ callback }) => callback(null, { ...data }));
        else if (code) each[1].forEach((entry) => fail(pusher, entry, code, url));
        else ask(each);
      }
      return;
    }
    // What may be better in a moment is no reason to ask for each channel, unless it is not
    // known whether it is the application that failed.
    const passing = !status || status == 408 || status == 429 || status >= 500;
    if (known && status != 200 && status != 404 && status != 405) {
      for (const [, entries] of some) entries.forEach((entry) => fail(pusher, entry, status, url));
      return;
    }
    if (!passing) known = false;
    some.forEach(ask);
  };

  const flush = () => {
    // Who has lost the connection asks again.
    const all = [...queue].filter(([, [{ params }]]) => params.socketId == pusher.connection.socket_id);
    queue = new Map();
    while (all.length) {
      const some = all.splice(0, maxBatch);
      if (some.length > 1) post(some);
      else ask(some[0]);
    }
  };

  return (params, callback) => {
    if (known === false) return void single(params, callback);
    if (!queue.size) setTimeout(flush, gather);
    const name = params.channelName;
    const before = (queue.get(name) || []).filter((entry) => entry.params.socketId == params.socketId);
    queue.set(name, [...before, { params, callback }]);
  };
}

/**
 * Wraps how a Pusher instance has its channels and its user authorised. claim is what
 * goes along with a subscription to a channel, or the sign-in (''); hear takes what the
 * server says of grants; drop forgets a channel.
 */
export function authorization(pusher, options, setting) {
  const { config, connection: manager } = pusher;
  // Before 7.1 there were no such handlers.
  if (!config?.channelAuthorizer) return { claim() {}, hear() {}, drop() {} };
  // By channel, '' is the sign-in: what it was authorised with, and for which socket id.
  const kept = new Map();
  // Those which go by what was kept, and how to ask the application after all.
  let shown = new Map();
  // The newest grant, and what this connection, now, shows of the one that it goes on from.
  let grant;
  let earlier;
  let now;

  // current looks whether there is a new connection.
  const current = () => {
    const id = manager.socket_id;
    if (id == now) return;
    now = id;
    shown = new Map();
    earlier = grant && { id: grant.id, token: grant.token, proof: hmac(grant.key, id) };
  };

  const through = (handler, nameOf) => (params, callback) => {
    current();
    const name = nameOf(params);
    const ask = () => handler(params, (error, data) => {
      if (error || !data?.auth) kept.delete(name);
      else kept.set(name, { id: params.socketId, data: { ...data } });
      callback(error, data);
    });
    const had = kept.get(name);
    if (earlier && had?.id == earlier.id) {
      shown.set(name, ask);
      // pusher-js changes what it gets.
      callback(null, { ...had.data });
    } else {
      shown.delete(name);
      ask();
    }
  };

  config.channelAuthorizer = through(together(pusher, config.channelAuthorizer, options, setting), ({ channelName }) => channelName);
  if (config.userAuthenticator) config.userAuthenticator = through(config.userAuthenticator, () => '');

  return {
    claim(name) {
      current();
      // Public channels need nothing.
      if (name && !/^(private|presence)-/.test(name)) return undefined;
      return earlier ? { token: earlier.token, proof: earlier.proof, earlier: shown.has(name) } : {};
    },

    hear({ channel = '', data }) {
      current();
      const { token, key, auth, refused } = JSON.parse(data);
      const ask = shown.get(channel);
      if (token) grant = { id: now, token, key };
      if (!ask) return;
      if (auth) kept.set(channel, { id: now, data: { ...kept.get(channel)?.data, auth } });
      if (refused) kept.delete(channel);
      if (auth || refused) shown.delete(channel);
      if (refused) ask();
    },

    drop(channel) {
      kept.delete(channel);
    },
  };
}
