// What the README shows is tried as it stands there.
import { readFile } from 'node:fs/promises';
import path from 'node:path';

// example is the block of the README in a language that has a text.
export async function example(language, text) {
  const readme = await readFile(path.join(import.meta.dirname, '../../../README.md'), 'utf8');
  const blocks = [...readme.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms'))].map(([, block]) => block);
  const found = blocks.find((block) => block.includes(text));
  if (!found) throw new Error(`the README has no ${language} with ${text}`);
  return found;
}
