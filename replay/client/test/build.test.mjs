// What the binary serves is what the source says. That the plugin works is
// tested with real clients and a real server in scripts/e2e.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { builds, compile } from '../build.mjs';

// What a page has to load for it, in bytes, gzipped.
const LIMIT = 4500;

for (const [file, format] of Object.entries(builds)) {
  test(`${file} is what npm run build makes, and small`, async () => {
    const text = await readFile(new URL(`../${file}`, import.meta.url), 'utf8');
    assert.equal(text, await compile(format), 'run npm run build');
    const size = gzipSync(text, { level: 9 }).length;
    assert.ok(size <= LIMIT, `${size} bytes, limit ${LIMIT}`);
  });
}
