// What can become of the files of a data folder while no server runs. A harm is
// plain data: what is done (`harm`), to which file (`file`), of which kind of
// stream (`of`), and, as fractions, to which of those streams (`stream`), to which
// of its blocks (`block`) and where in it (`at`).
import { copyFile, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';

export const kinds = ['EVENTS', 'STORE-sessions', 'STORE-session-ids'];

const nth = (list, fraction = 1) => list[Math.min(list.length - 1, Math.floor(fraction * list.length))];

async function list(dir) {
  return readdir(dir).catch((error) => {
    if (error.code !== 'ENOENT') throw error;
    return [];
  });
}

// locate returns the path of what a harm is for, inside of the data folder, or
// undefined if there is no such thing.
async function locate(data, { file = 'block', of = 'EVENTS', stream, block }) {
  if (file === 'streams.json') return file;
  const streams = path.join('nats', 'jetstream', '$G', 'streams');
  const named = (await list(path.join(data, streams))).filter((name) => name === of || name.startsWith(`${of}-`)).sort();
  const withBlocks = [];
  for (const name of named.filter((each) => each !== 'STORE-session-ids' || of === each)) {
    const messages = path.join(streams, name, 'msgs');
    const blocks = [];
    for (const each of (await list(path.join(data, messages))).filter((f) => f.endsWith('.blk'))) {
      if ((await stat(path.join(data, messages, each))).size > 0) blocks.push(each);
    }
    blocks.sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));
    if (blocks.length > 0) withBlocks.push({ name, messages, blocks });
  }
  const found = nth(withBlocks, stream);
  if (!found) return undefined;
  switch (file) {
    case 'index.db': return path.join(found.messages, file);
    case 'meta.inf': return path.join(streams, found.name, file);
    case 'folder': return path.join(streams, found.name);
    case 'msgs': return found.messages;
    default: return path.join(found.messages, nth(found.blocks, block));
  }
}

// apply does a harm to the data folder of a disk, and says what it did.
export async function apply(disk, harm) {
  switch (harm.harm) {
    case 'copy':
      await disk.copy(harm.name ?? 'a');
      return 'copied';
    case 'restore': {
      const name = harm.name ?? 'a';
      if (!(await list(disk.copies)).includes(name)) return 'there is no such copy';
      await disk.restore(name, harm.times);
      return 'put back';
    }
    default:
  }
  const found = await locate(disk.data, harm);
  if (!found) return 'there is no such file';
  const file = path.join(disk.data, found);
  switch (harm.harm) {
    case 'remove':
      await rm(file, { recursive: true, force: true });
      break;
    case 'older':
      // Of a file that the copy does not have, the older version is none.
      await copyFile(path.join(disk.copies, harm.name ?? 'a', found), file).catch((error) => {
        if (error.code !== 'ENOENT') throw error;
      });
      break;
    case 'cut':
      await truncate(file, Math.floor((harm.at ?? 0.5) * (await stat(file)).size));
      break;
    case 'flip': {
      const bytes = await readFile(file);
      bytes[Math.min(bytes.length - 1, Math.floor((harm.at ?? 0.5) * bytes.length))] ^= 0xff;
      await writeFile(file, bytes);
      break;
    }
    default: throw new Error(`unknown harm ${harm.harm}`);
  }
  return `${harm.harm} ${found}`;
}

// takes says whether a harm can take events that were stored.
export function takes({ harm, file }) {
  // The index is made from the blocks again.
  return harm !== 'copy' && file !== 'index.db';
}
