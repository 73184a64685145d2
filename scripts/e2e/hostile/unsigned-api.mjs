// API calls that nobody signed: large bodies, many parameters, and those that
// anybody may make.
import http from 'node:http';
import { forever, port } from '../lib/hostile.mjs';
import { localAddress } from '../lib/raw.mjs';

const agent = new http.Agent({ keepAlive: true, maxSockets: 100 });
const body = Buffer.alloc(1 << 20, 'x');
const many = Array.from({ length: 2000 }, (_, i) => `p${i}=${i}`).join('&');
const calls = [
  { method: 'POST', path: '/apps/77/events', body },
  { method: 'POST', path: '/apps/77/batch_events?auth_key=demo-key-01&auth_signature=0', body },
  { method: 'GET', path: `/apps/77/channels?${many}` },
  { method: 'GET', path: '/health' },
  { method: 'GET', path: `/${'x'.repeat(4000)}` },
];

const call = ({ method, path, body: text }, i) => new Promise((resolve) => {
  const request = http.request({ agent, port, host: '127.0.0.1', localAddress: localAddress(200 + i), method, path }, (response) => {
    response.resume();
    response.on('close', resolve);
  });
  request.on('error', resolve);
  request.end(text);
});

forever(60, (i) => call(calls[i % calls.length], i));
