// Runs Pebble, a real ACME authority for tests, with a DNS server by which all names are
// this machine's. It validates names, on ports that lead to servers of the test.
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import https from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import tls from 'node:tls';
import { promisify } from 'node:util';
import { steadyPort } from './mesh.mjs';
import { pause, within } from './wait.mjs';

const top = path.join(import.meta.dirname, '../../..');
const bin = path.join(top, '.cache/e2e');

let built;

// build builds the versions that scripts/tools pins.
function build() {
  const packages = ['pebble', 'pebble-challtestsrv'].map((name) => `github.com/letsencrypt/pebble/v2/cmd/${name}`);
  return built ??= promisify(execFile)('go', ['build', '-modfile=scripts/tools/go.mod', '-o', `${bin}/`, ...packages], { cwd: top, timeout: 500_000 });
}

// portsOf are those of servers that have started.
export const portsOf = (servers) => servers.filter(({ running, ready }) => running && ready).map(({ port }) => port);

// get fetches a URL of an authority that is known by ca.
function get(url, ca) {
  return new Promise((resolve, reject) => {
    https.get(url, { ca, agent: false }, async (response) => {
      let text = '';
      for await (const chunk of response) text += chunk;
      resolve(text);
    }).on('error', reject);
  });
}

// Gate is a port that leads to one of several servers by chance, as a balancer in front of
// a cluster does. to says which ports there are; who comes before there is one waits.
class Gate {
  static async start(t, to) {
    const gate = Object.assign(new Gate(), { to, count: 0, links: new Set() });
    gate.server = net.createServer(async (client) => {
      gate.count++;
      gate.links.add(client);
      client.on('error', () => {}).on('close', () => gate.links.delete(client));
      let ports;
      while ((ports = gate.to()).length === 0) {
        if (client.destroyed) return;
        await pause(20);
      }
      const port = ports[Math.floor(Math.random() * ports.length)];
      const node = net.connect(port, '127.0.0.1');
      node.on('error', () => client.destroy()).on('close', () => client.destroy());
      client.on('close', () => node.destroy());
      client.pipe(node).pipe(client);
    });
    gate.port = await steadyPort();
    gate.server.listen(gate.port, '127.0.0.1');
    await once(gate.server, 'listening');
    t.after(() => {
      gate.server.close();
      for (const link of gate.links) link.destroy();
    });
    return gate;
  }
}

export class Pebble {
  // start runs an authority whose certificates are valid for validity seconds, and which
  // looks on the ports that tlsPorts and httpPorts return.
  static async start(t, options) {
    const pebble = await Pebble.prepare(t, options);
    await pebble.run();
    return pebble;
  }

  // prepare makes an authority that does not run yet. With binding, an id and a key, it
  // wants to know its customers.
  static async prepare(t, { validity = 90 * 24 * 3600, binding } = {}) {
    const pebble = Object.assign(new Pebble(), { log: [], tlsPorts: () => [], httpPorts: () => [] });
    await build();
    pebble.dir = mkdtempSync(path.join(tmpdir(), 'reecho-e2e-acme-'));
    t.after(() => pebble.destroy());
    pebble.tlsGate = await Gate.start(t, () => pebble.tlsPorts());
    pebble.httpGate = await Gate.start(t, () => pebble.httpPorts());
    Object.assign(pebble, { port: await steadyPort(), management: await steadyPort(), dns: await steadyPort() });
    const openssl = (...args) => execFileSync('openssl', args, { cwd: pebble.dir, stdio: ['ignore', 'ignore', 'pipe'] });
    openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'key.pem', '-out', 'ca.pem', '-days', '2', '-subj', '/CN=Pebble itself', '-addext', 'subjectAltName=IP:127.0.0.1');
    writeFileSync(path.join(pebble.dir, 'pebble.json'), JSON.stringify({
      pebble: {
        listenAddress: `127.0.0.1:${pebble.port}`, managementListenAddress: `127.0.0.1:${pebble.management}`,
        certificate: path.join(pebble.dir, 'ca.pem'), privateKey: path.join(pebble.dir, 'key.pem'),
        httpPort: pebble.httpGate.port, tlsPort: pebble.tlsGate.port, retryAfter: { authz: 1, order: 1 },
        ...(binding && { externalAccountBindingRequired: true, externalAccountMACKeys: { [binding.id]: binding.key } }),
        profiles: { default: { description: 'as the test wants it', validityPeriod: validity } },
      },
    }));
    pebble.names = spawn(path.join(bin, 'pebble-challtestsrv'), [
      '-http01', '', '-https01', '', '-tlsalpn01', '', '-doh', '', '-dnsserver', `127.0.0.1:${pebble.dns}`, '-management', `127.0.0.1:${await steadyPort()}`,
      '-defaultIPv4', '127.0.0.1', '-defaultIPv6', '',
    ], { stdio: 'ignore' });
    return pebble;
  }

  // run starts it and waits until it answers. It remembers nothing of the run before.
  async run() {
    this.child = spawn(path.join(bin, 'pebble'), ['-config', path.join(this.dir, 'pebble.json'), '-dnsserver', `127.0.0.1:${this.dns}`], {
      env: { PATH: process.env.PATH, PEBBLE_VA_NOSLEEP: '1' }, stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.exited = once(this.child, 'exit');
    for (const output of [this.child.stdout, this.child.stderr]) createInterface({ input: output }).on('line', (line) => this.log.push(line));
    const itself = readFileSync(this.ca);
    await within((async () => {
      for (;;) {
        try {
          this.root = await get(`https://127.0.0.1:${this.management}/roots/0`, itself);
          return;
        } catch {
          await pause(50);
        }
      }
    })(), 'Pebble to answer').catch((error) => { throw new Error(`${error.message}\n${this.log.join('\n')}`); });
  }

  // ca is the file with the root certificate of its own server.
  get ca() { return path.join(this.dir, 'ca.pem'); }

  // args are those of a server that has its certificate from here.
  args(...names) {
    return ['--acme-domains', names.join(','), '--acme-directory', `https://127.0.0.1:${this.port}/dir`, '--acme-ca', this.ca, '--acme-email', 'admin@reecho.test'];
  }

  // orders is how many were made.
  get orders() { return this.log.filter((line) => /Added order/.test(line)).length; }

  async stop() {
    this.child.kill('SIGKILL');
    await this.exited;
  }

  async destroy() {
    this.names?.kill('SIGKILL');
    if (this.child && this.child.exitCode === null && this.child.signalCode === null) await this.stop();
    await rm(this.dir, { recursive: true, force: true });
  }
}

// shown is the certificate that a server shows for a name; the error is that of the
// handshake. With ca it has to be that authority's, and for the name.
export async function shown(port, name, ca) {
  const socket = tls.connect({ port, host: '127.0.0.1', servername: name, ...(ca ? { ca } : { rejectUnauthorized: false }) });
  try {
    await once(socket, 'secureConnect');
    const { serialNumber, subjectaltname, valid_to: expires } = socket.getPeerCertificate();
    return { serial: serialNumber, names: subjectaltname, expires: Date.parse(expires) };
  } finally {
    socket.destroy();
  }
}

// certified waits until a server shows a certificate that test takes.
export async function certified(port, name, ca, { patience = 60_000, test = () => true } = {}) {
  let last;
  return within((async () => {
    for (;;) {
      try {
        last = await shown(port, name, ca);
        if (test(last)) return last;
      } catch (error) {
        last = error.message;
      }
      await pause(100);
    }
  })(), `a certificate for ${name}`, patience).catch((error) => { throw new Error(`${error.message}, got ${JSON.stringify(last)}`); });
}
