// A WebSocket client that does what a library would not: floods, sends garbage,
// does not read.
import { createHmac } from 'node:crypto';
import net from 'node:net';
import { app } from './server.mjs';

// On Linux all of 127.0.0.0/8 is this machine: attackers come from addresses of
// their own, so that what bounds an address is not what protects the others.
export function localAddress(n) {
  return process.platform === 'linux' ? `127.0.${1 + (n >> 8)}.${1 + (n & 0xfe)}` : undefined;
}

export const PATH = `/app/${app.key}?protocol=7&client=js&version=8.6.0`;

// handshake is the head of an upgrade.
export function handshake(path = PATH) {
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n`
    + 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';
}

// frame makes a frame with the mask 0.
export function frame(opcode, payload, fin = true) {
  const body = Buffer.from(payload);
  const first = (fin ? 0x80 : 0) | opcode;
  if (body.length < 126) return Buffer.concat([Buffer.from([first, 0x80 | body.length, 0, 0, 0, 0]), body]);
  const head = body.length < 65536 ? Buffer.alloc(8) : Buffer.alloc(14);
  head[0] = first;
  head[1] = 0x80 | (body.length < 65536 ? 126 : 127);
  if (body.length < 65536) head.writeUInt16BE(body.length, 2);
  else head.writeBigUInt64BE(BigInt(body.length), 2);
  return Buffer.concat([head, body]);
}

export const event = (name, data) => frame(1, JSON.stringify({ event: name, data }));

// first waits for the first of some events of a socket.
export function first(socket, ...names) {
  return new Promise((resolve) => {
    const done = (value) => {
      for (const name of names) socket.off(name, done);
      resolve(value);
    };
    for (const name of names) socket.on(name, done);
  });
}

// dial opens a TCP connection, and gives up in silence.
export async function dial(port, n = 0) {
  const socket = net.connect({ port, host: '127.0.0.1', localAddress: localAddress(n) });
  socket.on('error', () => {});
  await first(socket, 'connect', 'close');
  return socket;
}

// connect opens a WebSocket connection; socketId is undefined if it was refused.
export async function connect(port, n = 0, path = PATH) {
  const socket = await dial(port, n);
  socket.write(handshake(path));
  let text = '';
  while (!socket.destroyed && !text.includes('activity_timeout') && !text.includes('pusher:error')) {
    const chunk = await first(socket, 'data', 'close');
    if (Buffer.isBuffer(chunk)) text += chunk.toString('latin1');
  }
  socket.on('data', () => {}); // read and dropped
  return { socket, socketId: /socket_id\\?":\\?"([\d.]+)/.exec(text)?.[1] };
}

// push writes and waits while the server does not take it. It reports false once
// the connection is gone.
export async function push(socket, bytes) {
  if (socket.destroyed || !socket.writable) return false;
  if (!socket.write(bytes)) {
    await first(socket, 'drain', 'close');
  }
  return !socket.destroyed;
}

export function sign(text) {
  return `${app.key}:${createHmac('sha256', app.secret).update(text).digest('hex')}`;
}
