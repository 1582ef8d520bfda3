/** What a user gets: the package, and the sample guest built by someone who is not root. */
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BUILD_SCRIPT } from '../guests/linux.ts';
import { ordinaryUser } from '../ordinary-user.mjs';
import { ROOT } from '../stages.mjs';
import { packTarball } from '../tarball.mjs';

const run = promisify(execFile);

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'package-'));
  // An ordinary user passes through it.
  chmodSync(folder, 0o755);
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

test('the tarball holds the entry, the compiled product and the sample guest, and no sources or tests', () => {
  const entries = execFileSync('tar', ['--list', '--verbose', '--file', packTarball(folder)], { encoding: 'utf8' });
  expect(entries).toMatch(/^-rwxr-xr-x .* package\/dist\/bin\.js$/m);
  expect(entries).toMatch(/^-rwxr-xr-x .* package\/dist\/sample\/build-linux-guest\.sh$/m);
  expect(entries).toMatch(/ package\/dist\/sample\/linux\.yaml$/m);
  expect(entries).toMatch(/ package\/dist\/api\/kinds\.js$/m);
  expect(entries).toMatch(/ package\/LICENSE$/m);
  expect(entries).not.toMatch(/ package\/(src|test|node_modules|dist\/setup)\//);
  expect(entries).not.toMatch(/\.ts$/m);
});

test('a clean clone says what to do before it can be packed', () => {
  const clone = join(folder, 'clone');
  cpSync(join(ROOT, 'test'), join(clone, 'test'), { recursive: true });
  const { status, stderr } = spawnSync(process.execPath, [join(clone, 'test', 'build.mjs')], { encoding: 'utf8' });
  expect(stderr).toBe('The packages that build it are not installed: run `npm ci` first.\n');
  expect(status).toBe(1);
});

test('an ordinary user builds the sample guest, twice at once, and it is built once', async () => {
  const user = ordinaryUser();
  try {
    const script = join(folder, 'build-linux-guest.sh');
    copyFileSync(BUILD_SCRIPT, script);
    chmodSync(script, 0o755);
    const cache = join(user.home, `cache-${process.pid}`);
    const [program, args] = user.command(['env', `XDG_CACHE_HOME=${cache}`, script]);
    const [first, second] = await Promise.all([run(program, args), run(program, args)]);
    expect(first.stdout).toMatch(/\/linux-x86_64-[0-9a-f-]+\.qcow2\n$/);
    expect(second.stdout).toBe(first.stdout);
    expect(`${first.stderr}${second.stderr}`.match(/^Built /gm)).toHaveLength(1);
    expect(readdirSync(join(cache, 'qemu-operator')).sort()).toEqual(['.lock', expect.stringMatching(/\.qcow2$/)]);
    const third = await run(program, args);
    expect(third).toEqual({ stdout: first.stdout, stderr: '' });
    rmSync(cache, { recursive: true });
  } finally {
    user.remove();
  }
});
