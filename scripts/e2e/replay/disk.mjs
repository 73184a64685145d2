// A place for a server's data folder: a folder, or a small disk of its own that
// can be full. The disk is mounted in a name space that a process holds which
// ends with this one, so that nothing is left of it whatever happens.
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

const root = process.getuid?.() === 0;
// Others than root may mount in a name space of their users, where the system
// lets them have one.
export const unshare = ['unshare', '--mount', ...(root ? [] : ['--map-root-user'])];

// mounts says whether disks can be mounted. Where scripts/test says so, they must.
export const mounts = (() => {
  try {
    execFileSync(unshare[0], [...unshare.slice(1), 'mount', '-t', 'tmpfs', 'reecho-test', tmpdir()], { stdio: 'pipe' });
    return true;
  } catch (error) {
    if (process.env.REECHO_TEST_MOUNTS) throw error;
    return false;
  }
})();

export class Disk {
  // make makes a place; megabytes: a disk of that size.
  static async make(megabytes) {
    const disk = new Disk();
    disk.dir = await mkdtemp(path.join(tmpdir(), 'reecho-storage-'));
    disk.copies = path.join(disk.dir, 'copies');
    // dataDir is where the server finds its folder, data where we do.
    disk.dataDir = path.join(disk.dir, 'disk', 'data');
    disk.data = disk.dataDir;
    disk.through = [];
    await mkdir(disk.copies);
    await mkdir(path.dirname(disk.dataDir));
    if (megabytes && mounts) await disk.mount(megabytes);
    return disk;
  }

  async mount(megabytes) {
    const at = path.dirname(this.dataDir);
    // It ends when its input does: with this process at the latest.
    this.holder = spawn(unshare[0], [
      ...unshare.slice(1), 'sh', '-c', `mount -t tmpfs -o size=${megabytes}m reecho-test "$0" && echo mounted && exec cat`, at,
    ], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.ended = once(this.holder, 'exit');
    const [text] = await Promise.race([once(this.holder.stdout, 'data'), this.ended]);
    if (String(text).trim() !== 'mounted') throw new Error(`cannot mount a disk of ${megabytes} MB`);
    this.data = `/proc/${this.holder.pid}/root${this.dataDir}`;
    this.through = ['nsenter', '--target', String(this.holder.pid), ...(root ? [] : ['--user', '--preserve-credentials']), '--mount'];
  }

  get ballast() { return path.join(path.dirname(this.data), 'ballast'); }

  // fill makes the disk full but for some bytes.
  async fill(left) {
    if (!this.holder) return;
    const file = await open(this.ballast, 'a');
    try {
      for (const block of [1 << 20, 4 << 10]) await writeUntilFull(file, Buffer.alloc(block));
      const { size } = await file.stat();
      await file.truncate(Math.max(0, size - left));
    } finally {
      await file.close();
    }
  }

  async free() {
    if (this.holder) await rm(this.ballast, { force: true });
  }

  // copy takes a copy of the data folder. A server that runs may remove files
  // meanwhile, of which there is none in the copy then.
  async copy(name) {
    const to = path.join(this.copies, name);
    await rm(to, { recursive: true, force: true });
    await run('cp', ['-a', this.data, to]).catch((error) => {
      if (!/No such file/.test(error.stderr)) throw error;
    });
  }

  // restore puts a copy in the place of the data folder, with the times of its
  // files or without.
  async restore(name, times) {
    await rm(this.data, { recursive: true, force: true });
    await run('cp', [times ? '-a' : '-r', path.join(this.copies, name), this.data]);
  }

  async remove() {
    this.holder?.stdin.end();
    await this.ended;
    await rm(this.dir, { recursive: true, force: true });
  }
}

async function writeUntilFull(file, block) {
  try {
    for (;;) {
      // Part of a block may fit.
      const { bytesWritten } = await file.write(block);
      if (bytesWritten < block.length) return;
    }
  } catch (error) {
    if (error.code !== 'ENOSPC') throw error;
  }
}
