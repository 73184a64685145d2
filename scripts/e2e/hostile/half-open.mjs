// Connections that never finish what they begin: a request head, a body, a frame,
// a close.
import { forever, port } from '../lib/hostile.mjs';
import { connect, dial, frame, handshake, push } from '../lib/raw.mjs';
import { pause } from '../lib/wait.mjs';

const half = frame(1, 'x'.repeat(50_000)).subarray(0, 100);
const beginnings = [
  '', 'G', handshake().slice(0, 60), 'POST /apps/77/events HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx',
  'POST /apps/77/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab', '\x16\x03\x01\x02\x00\x01',
];

forever(200, async (i) => {
  const socket = await dial(port, 120 + i);
  await push(socket, beginnings[i % beginnings.length]);
  while (!socket.destroyed) {
    await pause(200);
    await push(socket, 'x');
  }
});

forever(50, async (i) => {
  const { socket } = await connect(port, 120 + i);
  await push(socket, half);
  while (!socket.destroyed) {
    await pause(200);
    await push(socket, 'x');
  }
});

// Refused, and never answering the close.
forever(50, async (i) => {
  const socket = await dial(port, 120 + i);
  await push(socket, handshake('/app/unknown?protocol=7'));
  await pause(500);
});
