// What the documentation shows is tried as it stands there.
import { readFile } from 'node:fs/promises';
import path from 'node:path';

// example is the block of a file (its path from the top) in a language that has a
// text.
export async function example(file, language, text) {
  const page = await readFile(path.join(import.meta.dirname, '../../..', file), 'utf8');
  const blocks = [...page.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms'))].map(([, block]) => block);
  const found = blocks.find((block) => block.includes(text));
  if (!found) throw new Error(`${file} has no ${language} with ${text}`);
  return found;
}
