/** The package as an ordinary user has it: the tarball, installed in an empty folder, gives a running Linux. */
import { execFile } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { linuxGuest } from '../guests/linux.ts';
import { ordinaryUser } from '../ordinary-user.mjs';
import { INSTALL_MS, installed } from './support/installed.ts';

const run = promisify(execFile);

/** The sample disk is built once for all tests; that an ordinary user can build it has a test of its own. */
async function withGuestCache(home: string): Promise<void> {
  const cache = join(home, '.cache', 'qemu-operator');
  const image = await linuxGuest();
  const mine = join(cache, basename(image));
  if (existsSync(mine)) return;
  mkdirSync(cache, { recursive: true, mode: 0o755 });
  copyFileSync(image, mine);
  chmodSync(mine, 0o644);
}

test(
  'quickstart of the installed package shows a prompt, get shows it running, --remove takes it away',
  async () => {
    const folder = await installed((work) => onTestFinished(work));
    const user = ordinaryUser();
    onTestFinished(() => user.remove());
    await withGuestCache(user.home);
    const bin = join(folder, 'node_modules', '.bin', 'qemu-operator');
    const places = [
      '--store',
      join(user.home, `store-${process.pid}`),
      '--vm-dir',
      join(user.home, `vms-${process.pid}`),
    ];
    const command = (...words: string[]) => {
      const [program, args] = user.command([bin, ...places, ...words]);
      return run(program, args, { cwd: folder });
    };
    const started = await command('quickstart');
    expect(started.stdout).toMatch(/\| linux:.*#/);
    expect(started.stdout).toContain(`npx qemu-operator --store`);
    expect((await command('get', 'qvm')).stdout).toMatch(/quickstart +Running +True/);
    const removed = await command('quickstart', '--remove');
    expect(removed.stdout).toContain('deleted');
    expect(existsSync(join(user.home, `vms-${process.pid}`, 'quickstart'))).toBe(false);
  },
  2 * INSTALL_MS,
);
