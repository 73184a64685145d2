// Builds dist: a classic script that sets window.withReplay, and a module.
import { build } from 'esbuild';
import { writeFile } from 'node:fs/promises';

const banner = '/* reecho: replay for pusher-js */';

// compile returns the text of one build.
export async function compile(format) {
  const { outputFiles: [file] } = await build({
    stdin: {
      contents: format === 'iife'
        ? "import { withReplay } from './replay.mjs'; globalThis.withReplay = withReplay;"
        : "export { withReplay } from './replay.mjs';",
      resolveDir: import.meta.dirname,
    },
    bundle: true, minify: true, format, target: 'es2020', legalComments: 'none', banner: { js: banner }, write: false,
  });
  return file.text;
}

export const builds = { 'dist/replay.js': 'iife', 'dist/replay.mjs': 'esm' };

if (process.argv[1] === import.meta.filename) {
  for (const [file, format] of Object.entries(builds)) {
    await writeFile(new URL(file, import.meta.url), await compile(format));
  }
}
