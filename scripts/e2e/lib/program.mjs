// Libraries in other languages, each in a program of its own. A call is a line of JSON,
// {"call": name, ...arguments}, and is answered by a line, {"result": ...} or {"error": text}.
// What a client hears comes between these, as {"told": ...}.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { masterKey } from './clients.mjs';
import { app } from './server.mjs';
import { Recorder, within } from './wait.mjs';

const beside = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url));

const { REECHO_E2E_PYTHON: python, REECHO_E2E_GO: go, REECHO_E2E_JAVA: java } = process.env;

const javaProgram = (name) => java && ['java', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-cp', java, name];

// libraries are programs with an official server library, undefined if the machine has not
// what they need.
export const libraries = {
  Python: [python, beside('python/library.py')],
  Go: [go],
  Java: javaProgram('Library'),
};

// clients are programs with a client.
export const clients = {
  Python: [python, beside('python/client.py')],
  Java: javaProgram('Client'),
};

// without says why a test of a program is left out.
export const without = (program) => !program && 'there is no JDK or no Maven on this machine';

export class Program {
  constructor(t, [command, ...args]) {
    this.answers = [];
    this.told = new Recorder('told');
    this.child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    let errors = '';
    this.child.stderr.on('data', (chunk) => { errors += chunk; });
    createInterface({ input: this.child.stdout }).on('line', (line) => this.take(JSON.parse(line)));
    this.exited = once(this.child, 'close').then(([status, signal]) => {
      this.ended = new Error(`the program ended with ${status ?? signal}: ${errors}`);
      for (const { reject } of this.answers) reject(this.ended);
      return status;
    });
    this.failed = this.exited.then(() => { throw this.ended; });
    this.failed.catch(() => {});
    this.child.stdin.on('error', () => {}); // it ended, which the calls are told
    t.after(() => this.child.kill('SIGKILL'));
  }

  take({ told, result, error }) {
    if (told) {
      this.told.push(told);
      return;
    }
    const { resolve, reject } = this.answers.shift();
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  }

  // call makes one call; they are made in their order.
  call(name, args = {}) {
    const answer = new Promise((resolve, reject) => { this.answers.push({ resolve, reject }); });
    this.child.stdin.write(`${JSON.stringify({ call: name, ...args })}\n`);
    return within(answer, `the answer to ${name}`);
  }

  // hears waits until something was told that has these properties, and returns it.
  hears(wanted) {
    const has = (told) => Object.entries(wanted).every(([name, value]) => told[name] === value);
    return Promise.race([this.told.until((all) => all.find(has), JSON.stringify(wanted)), this.failed]);
  }

  // end lets it end by itself, and returns its status.
  async end() {
    this.child.stdin.end();
    return within(this.exited, 'the program to end');
  }
}

// library starts a program of libraries for a server.
export const library = (t, program, server, { secret = app.secret } = {}) => new Program(t, [...program, String(server.port), app.id, app.key, secret, masterKey]);
