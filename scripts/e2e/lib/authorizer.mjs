// An application as far as clients ask it: the endpoints for channels and for users.
import { once } from 'node:events';
import http from 'node:http';
import { backend } from './clients.mjs';

export class Authorizer {
  // start runs one. batch false: it does not know requests for many channels.
  static async start(t, { batch = true } = {}) {
    const application = Object.assign(new Authorizer(), { batch, requests: [], refused: new Map(), forgotten: new Set(), failing: 0, signer: backend({ port: 1 }) });
    application.server = http.createServer((request, response) => {
      application.answer(request, response).catch((error) => response.destroy(error));
    });
    application.server.listen(0, '127.0.0.1');
    await once(application.server, 'listening');
    application.url = `http://127.0.0.1:${application.server.address().port}/auth`;
    t.after(() => {
      application.server.closeAllConnections();
      application.server.close();
    });
    return application;
  }

  async answer(request, response) {
    let body = '';
    for await (const chunk of request) body += chunk;
    const fields = new URLSearchParams(body);
    const path = new URL(request.url, 'http://x').pathname;
    this.requests.push({ path, fields, headers: request.headers });
    const end = (status, data) => {
      response.writeHead(status, { 'Content-Type': 'application/json' });
      response.end(data === undefined ? '' : JSON.stringify(data));
    };
    const socket = fields.get('socket_id');
    if (this.failing) end(this.failing);
    else if (path === '/auth/user') end(200, this.signer.authenticateUser(socket, { id: 'alice' }));
    else if (path === '/auth') this.single(fields.get('channel_name'), socket, end);
    else if (path === '/auth/batch' && this.batch) end(200, { channels: this.many(fields.getAll('channel_names[]'), socket) });
    else end(404);
  }

  single(channel, socket, end) {
    const status = this.refused.get(channel) ?? 200;
    end(status, status === 200 ? this.sign(channel, socket) : undefined);
  }

  many(channels, socket) {
    const asked = channels.filter((channel) => !this.forgotten.has(channel));
    return Object.fromEntries(asked.map((channel) => {
      const status = this.refused.get(channel) ?? 200;
      return [channel, { status, ...(status === 200 ? this.sign(channel, socket) : {}) }];
    }));
  }

  sign(channel, socket) {
    return this.signer.authorizeChannel(socket, channel, channel.startsWith('presence-') ? { user_id: 'alice', user_info: { name: 'Alice' } } : undefined);
  }

  // options are those of a client that asks it.
  options(port) {
    return {
      cluster: '', wsHost: '127.0.0.1', wsPort: port, wssPort: port, forceTLS: false, enabledTransports: ['ws', 'wss'],
      channelAuthorization: { endpoint: this.url, transport: 'ajax', headers: { 'X-CSRF-TOKEN': 'csrf-1' }, params: { tenant: 'a b&c' } },
      userAuthentication: { endpoint: `${this.url}/user`, transport: 'ajax' },
    };
  }

  // paths are those of the requests since the last call.
  paths() { return this.requests.splice(0).map(({ path }) => path); }

  // asked is what it was asked for since then: channels, and the user.
  asked() {
    return this.requests.splice(0).flatMap(({ path, fields }) => {
      if (path.endsWith('/user')) return ['the user'];
      return [...fields.getAll('channel_name'), ...fields.getAll('channel_names[]')];
    });
  }
}

