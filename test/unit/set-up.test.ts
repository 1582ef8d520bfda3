/** The steps before `npm ci`, and the entry that old Nodes meet. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parse } from 'yaml';
import { parseManifest } from '../../src/api/admission.ts';
import { packagesAreCurrent } from '../../src/setup/packages.mjs';
import { FOR_TESTS, install, installCommand, missingFrom } from '../../src/setup/prerequisites.mjs';

const ROOT = join(import.meta.dirname, '..', '..');
const SCRIPT = join(ROOT, 'src', 'sample', 'build-linux-guest.sh');

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'set-up-'));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

function lockFile(path: string, packages: Record<string, object>): void {
  writeFileSync(path, JSON.stringify({ packages: { '': {}, ...packages } }));
}

function cloneWith(wanted: Record<string, object>, installed: Record<string, object>): string {
  mkdirSync(join(folder, 'node_modules', '.bin'), { recursive: true });
  writeFileSync(join(folder, 'node_modules', '.bin', 'node'), '');
  lockFile(join(folder, 'package-lock.json'), wanted);
  writeFileSync(join(folder, 'node_modules', '.package-lock.json'), JSON.stringify({ packages: installed }));
  return folder;
}

const one = { 'node_modules/a': { integrity: 'sha512-1' } };
const other = { 'node_modules/a': { integrity: 'sha512-2' } };
const foreign = { 'node_modules/a-win32': { integrity: 'sha512-3', optional: true } };

test('npm ci is needed in a clean clone, and when the lock file says something else', () => {
  expect(packagesAreCurrent(folder)).toBe(false);
  expect(packagesAreCurrent(cloneWith(one, other))).toBe(false);
  expect(packagesAreCurrent(cloneWith(one, {}))).toBe(false);
  expect(packagesAreCurrent(cloneWith({}, one))).toBe(false);
});

test('npm ci is not needed when node_modules holds the lock file, packages of other platforms aside', () => {
  expect(packagesAreCurrent(cloneWith({ ...one, ...foreign }, one))).toBe(true);
  expect(packagesAreCurrent(ROOT)).toBe(true);
});

test('what is missing is named with its package, and nothing is said when nothing is', () => {
  const missing = missingFrom([{ name: 'unicorn', present: () => false, package: 'libunicorn' }, ...FOR_TESTS]);
  expect(missing.map(({ name }: { name: string }) => name)).toContain('unicorn');
  expect(installCommand(missing)).toMatch(/^sudo apt-get install --no-install-recommends libunicorn/);
  const said: string[] = [];
  expect(install([{ name: 'sh', present: () => true, package: 'dash' }], (line: string) => said.push(line))).toBe(
    undefined,
  );
  expect(said).toEqual([]);
});

test('the script of the sample guest names what is missing with its command', () => {
  // A PATH with the shell's own tools and apt, but without mtools and syslinux.
  for (const tool of ['dpkg', 'dpkg-deb', 'apt-get', 'apt-cache', 'qemu-img', 'flock', 'tr'])
    symlinkSync(`/usr/bin/${tool}`, join(folder, tool));
  const { status, stdout, stderr } = spawnSync('/bin/sh', [SCRIPT], {
    env: { PATH: folder, HOME: folder },
    encoding: 'utf8',
  });
  expect(status).toBe(1);
  expect(stdout).toBe('');
  expect(stderr).toContain('sudo apt-get install --no-install-recommends mtools syslinux\n');
});

test('the sample manifest is one that the product takes', () => {
  const manifest = parseManifest(parse(readFileSync(join(ROOT, 'src', 'sample', 'linux.yaml'), 'utf8')));
  expect(manifest.kind).toBe('VirtualMachine');
});

/** Runs the entry as if by another Node: it reads process.versions alone. */
function entryUnder(version: string) {
  const bin = join(folder, 'bin.mjs');
  writeFileSync(bin, readFileSync(join(ROOT, 'src', 'setup', 'bin.js')));
  writeFileSync(join(folder, 'main.js'), 'console.log("main ran");\n');
  const preload = join(folder, 'preload.cjs');
  writeFileSync(preload, `Object.defineProperty(process, 'versions', { value: { node: '${version}' } });\n`);
  return spawnSync(process.execPath, ['--require', preload, bin], { encoding: 'utf8' });
}

test.each(['18.20.0', '20.20.2', '22.18.0'])('Node %s is told what is needed', (version) => {
  const { status, stdout, stderr } = entryUnder(version);
  expect(status).toBe(1);
  expect(stdout).toBe('');
  expect(stderr).toContain(`needs Node 22.19 or newer, and this is Node ${version}`);
});

test.each(['22.19.0', '24.0.0'])('Node %s runs the product', (version) => {
  const { status, stdout } = entryUnder(version);
  expect(stdout).toBe('main ran\n');
  expect(status).toBe(0);
});
