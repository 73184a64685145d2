// HMAC-SHA256, as crypto.subtle has it, which pages without TLS and React Native do not
// have (RFC 2104, FIPS 180-4).

// The fractions of the roots of the first primes: 64 cubic ones, and 8 square ones.
const fraction = (x) => ((x - Math.floor(x)) * 2 ** 32) | 0;
const primes = [];
for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
const rounds = primes.map((p) => fraction(Math.cbrt(p)));
const start = primes.slice(0, 8).map((p) => fraction(Math.sqrt(p)));

const turn = (x, n) => (x >>> n) | (x << (32 - n));

// sha256 is of an array of bytes.
function sha256(message) {
  const length = message.length;
  const bytes = [...message, 0x80];
  while (bytes.length % 64 != 56) bytes.push(0);
  // Messages are far below 2^29 bytes.
  for (let shift = 56; shift >= 0; shift -= 8) bytes.push(shift < 32 ? ((length * 8) >>> shift) & 255 : 0);
  let hash = start;
  for (let at = 0; at < bytes.length; at += 64) {
    const w = [];
    let [a, b, c, d, e, f, g, h] = hash;
    for (let i = 0; i < 64; i++) {
      if (i < 16) {
        const j = at + 4 * i;
        w[i] = (bytes[j] << 24) | (bytes[j + 1] << 16) | (bytes[j + 2] << 8) | bytes[j + 3];
      } else {
        const [x, y] = [w[i - 15], w[i - 2]];
        w[i] = (w[i - 16] + (turn(x, 7) ^ turn(x, 18) ^ (x >>> 3)) + w[i - 7] + (turn(y, 17) ^ turn(y, 19) ^ (y >>> 10))) | 0;
      }
      const first = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + rounds[i] + w[i]) | 0;
      const second = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [a, b, c, d, e, f, g, h] = [(first + second) | 0, a, b, c, (d + first) | 0, e, f, g];
    }
    hash = [a, b, c, d, e, f, g, h].map((x, i) => (x + hash[i]) | 0);
  }
  return hash.flatMap((x) => [x >>> 24, (x >>> 16) & 255, (x >>> 8) & 255, x & 255]);
}

/** The lower-case hex HMAC-SHA256 of a text with a key, both ASCII and the key of at most 64 characters. */
export function hmac(key, text) {
  const codes = (s) => [...s].map((c) => c.charCodeAt(0));
  const padded = (byte) => Array.from({ length: 64 }, (_, i) => (key.charCodeAt(i) || 0) ^ byte);
  const sum = sha256([...padded(0x5c), ...sha256([...padded(0x36), ...codes(text)])]);
  return sum.map((b) => b.toString(16).padStart(2, '0')).join('');
}
