// Real clients, as an application makes them.
import { createRequire } from 'node:module';
import { app } from './server.mjs';
import { once } from './wait.mjs';
import Backend from 'pusher';

const require = createRequire(import.meta.url);

export const versions = {
  8: require('pusher-js'),
  7: require('pusher-js-7'),
  4: require('pusher-js-4'),
};
// The Node builds hold the encryption, the web builds have it in a file of its own.

export const masterKey = Buffer.from('0123456789abcdef0123456789abcdef').toString('base64');

// backend is the official Node server library, pointed at a server.
export function backend(server, options = {}) {
  return new Backend({
    appId: app.id, key: app.key, secret: app.secret, host: '127.0.0.1', port: String(server.port), useTLS: false,
    encryptionMasterKeyBase64: masterKey, ...options,
  });
}

// client makes a pusher-js of a major version. user is who the auth endpoint
// would say is logged in; plugin changes the options at last.
export function client(t, server, options = {}) {
  const { version = 8, user, userData, plugin = (settings) => settings, ...rest } = options;
  const signer = backend(server);
  const authorize = (channel, socketId) => {
    const data = channel.startsWith('presence-') ? { user_id: user.id, user_info: user.info } : undefined;
    return signer.authorizeChannel(socketId, channel, data);
  };
  const Pusher = versions[version];
  const pusher = new Pusher(app.key, plugin({
    ...(version >= 8 ? { cluster: '' } : {}),
    wsHost: '127.0.0.1', wsPort: server.port, wssPort: server.port, httpHost: '127.0.0.1', httpPort: server.port,
    ...(version >= 5 ? { forceTLS: false } : { encrypted: false }),
    enabledTransports: ['ws', 'wss'], disableStats: true,
    // Versions before 7.1 know only the first form.
    authorizer: (channel) => ({ authorize: (socketId, callback) => callback(...authorizerArgs(version, authorize(channel.name, socketId))) }),
    ...(version >= 7 ? {
      channelAuthorization: { customHandler: ({ channelName, socketId }, callback) => callback(null, authorize(channelName, socketId)) },
      userAuthentication: { customHandler: ({ socketId }, callback) => callback(null, signer.authenticateUser(socketId, userData)) },
    } : {}),
    ...rest,
  }));
  t.after(() => pusher.disconnect());
  return pusher;
}

// Before version 6 the callback of an authorizer began with a flag.
function authorizerArgs(version, data) {
  return version < 6 ? [false, data] : [null, data];
}

export function connected(pusher) {
  return pusher.connection.state === 'connected' ? Promise.resolve() : once(pusher.connection, 'connected');
}

// subscribed subscribes and waits for success.
export async function subscribed(pusher, name) {
  const channel = pusher.subscribe(name);
  const data = await once(channel, 'pusher:subscription_succeeded');
  return Object.assign(channel, { successData: data });
}
