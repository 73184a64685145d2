// Files of variables mean what they mean to Laravel: the Go test that asks the
// phpdotenv of an installed Laravel, which must not be missing here.
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { backend } from './lib/clients.mjs';
import { app, Server } from './lib/server.mjs';

const root = path.join(import.meta.dirname, '../..');

test('the reader of .env files against phpdotenv', async (t) => {
  const { stdout } = await promisify(execFile)('go', ['test', '-count=1', '-v', '-run', '^TestLikePHP$', './edge/config/dotenv'], {
    cwd: root, env: { ...process.env, REECHO_TEST_PHPDOTENV: '1' }, maxBuffer: 1 << 24,
  }).catch((error) => { throw new Error(`${error.message}\n${error.stdout}`); });
  t.diagnostic(stdout.match(/REECHO_TEST_SEED=\d+/)?.[0]);
  assert.match(stdout, /--- PASS: TestLikePHP/);
});

// What Laravel reads as the secret, its calls are signed with.
for (const line of ['"s3cr$ET!x"', '$2y$10$abcdefghijklmnopqrstuv', 'x${NOPE}y', 'ab#cd', '"ab\\""', '"a\\tb"', "'a\"b'", '"${APP_NAME}-1"']) {
  test(`calls signed with the secret of REVERB_APP_SECRET=${line}`, async (t) => {
    const text = `APP_NAME=demo\r\nREVERB_APP_ID=77\r\nREVERB_APP_KEY=demo-key-01\r\nREVERB_APP_SECRET=${line}\r\n`;
    const php = spawnSync('php', [path.join(root, 'edge/config/dotenv/testdata/laravel.php')], {
      input: `${JSON.stringify({ text: Buffer.from(text).toString('base64'), env: {} })}\n`, encoding: 'utf8',
    });
    const secret = Buffer.from(JSON.parse(php.stdout).laravel.REVERB_APP_SECRET, 'base64').toString();
    const dir = await mkdtemp(path.join(tmpdir(), 'reecho-e2e-env-'));
    t.after(() => rm(dir, { recursive: true, force: true }));
    await writeFile(path.join(dir, '.env'), text);
    const server = await Server.start(t, { noConfig: true, dir, args: ['--env-file', path.join(dir, '.env')] });
    const { status } = await backend(server, { ...app, secret }).trigger('match.1', 'score', {});
    assert.equal(status, 200);
  });
}
