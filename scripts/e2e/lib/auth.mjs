// A backend that says who may do what, in Node with the official library: for what needs
// no PHP.
import { once } from 'node:events';
import http from 'node:http';
import { backend } from './clients.mjs';

// infoOf is what others are told of a user.
export const infoOf = (id) => ({ name: `name of ${id}` });

// authEndpoint returns the URL of one for a server. The user is whom the header
// X-User names. Nobody may do anything with channels whose name ends in "secret". files are what it
// serves beside that, by path: [type, content].
export async function authEndpoint(t, server, files = {}) {
  const signer = backend(server);
  const service = http.createServer(async (request, response) => {
    const [type, content] = files[request.url] ?? [];
    if (type) {
      response.setHeader('Content-Type', type);
      response.end(content);
      return;
    }
    let body = '';
    for await (const chunk of request) body += chunk;
    const form = new URLSearchParams(body);
    const [socket, channel] = [form.get('socket_id'), form.get('channel_name')];
    const id = request.headers['x-user'];
    response.setHeader('Content-Type', 'application/json');
    if (request.method !== 'POST' || channel?.endsWith('secret')) {
      response.writeHead(403).end('{}');
      return;
    }
    const member = channel?.startsWith('presence-') ? { user_id: id, user_info: infoOf(id) } : undefined;
    response.end(JSON.stringify(channel ? signer.authorizeChannel(socket, channel, member) : signer.authenticateUser(socket, { id, user_info: infoOf(id) })));
  }).listen(0, '127.0.0.1');
  await once(service, 'listening');
  t.after(() => { service.closeAllConnections(); service.close(); });
  return `http://127.0.0.1:${service.address().port}/broadcasting/auth`;
}
