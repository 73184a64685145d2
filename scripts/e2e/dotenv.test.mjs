// Files of variables mean what they mean to Laravel: the Go test that asks the
// phpdotenv of an installed Laravel, which must not be missing here.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

const root = path.join(import.meta.dirname, '../..');

test('the reader of .env files against phpdotenv', async (t) => {
  const { stdout } = await promisify(execFile)('go', ['test', '-count=1', '-v', '-run', '^TestLikePHP$', './edge/config/dotenv'], {
    cwd: root, env: { ...process.env, REECHO_TEST_PHPDOTENV: '1' }, maxBuffer: 1 << 24,
  }).catch((error) => { throw new Error(`${error.message}\n${error.stdout}`); });
  t.diagnostic(stdout.match(/REECHO_TEST_SEED=\d+/)?.[0]);
  assert.match(stdout, /--- PASS: TestLikePHP/);
});
