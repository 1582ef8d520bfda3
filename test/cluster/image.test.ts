/** The image without a container engine: its files run as a user that owns none of them, on a root that is read only. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { NODE, ROOT } from '../stages.mjs';

const BUILD_MS = 300_000;
const MOST_MEGABYTES = 90;

let out: string;

beforeAll(() => {
  out = mkdtempSync(join(tmpdir(), 'qo-image-'));
  execFileSync(join(ROOT, 'src', 'setup', 'assemble-image.sh'), [out], { stdio: ['ignore', 'ignore', 'pipe'] });
}, BUILD_MS);

afterAll(() => rmSync(out, { recursive: true, force: true }));

const files = () =>
  readdirSync(out, { recursive: true, withFileTypes: true }).map((entry) => ({
    path: join(entry.parentPath, entry.name),
    isFile: entry.isFile(),
  }));

test('it holds what the operator runs with, and nothing else', () => {
  const names = files().map(({ path }) => path.slice(out.length));
  for (const one of ['/usr/local/bin/qemu-operator', '/app/dist/bin.js', '/app/LICENSE', '/app/crds'])
    expect(existsSync(join(out, one)), one).toBe(true);
  for (const stranger of ['typescript', 'vitest', '@biomejs', 'fast-check', '@types'])
    expect(names.filter((name) => name.startsWith(`/app/node_modules/${stranger}/`))).toEqual([]);
  expect(names.filter((name) => /\.([mc]?ts|map)$|\/\.git\//.test(name))).toEqual([]);
  const megabytes = files()
    .filter(({ isFile }) => isFile)
    .reduce((sum, { path }) => sum + statSync(path).size / 1e6, 0);
  expect(megabytes).toBeLessThan(MOST_MEGABYTES);
});

test('whoever runs it cannot write it', () => {
  const writable = files().filter(({ path }) => existsSync(path) && (statSync(path).mode & 0o022) !== 0);
  expect(writable).toEqual([]);
});

test('its command tells its version, and what is missing to run in a cluster', () => {
  const command = readFileSync(join(out, 'usr/local/bin/qemu-operator'), 'utf8');
  const options = /exec node (.*) \/app\/dist\/bin\.js/.exec(command)?.[1]?.split(' ') ?? [];
  const run = (...words: readonly string[]) =>
    execFileSync(NODE, [...options, join(out, 'app/dist/bin.js'), ...words], {
      encoding: 'utf8',
      env: { HOME: out, PATH: process.env['PATH'] ?? '' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
  expect(run('--version').trim()).toBe(version);
  expect(() => run('run', '--store', 'kubernetes')).toThrow(/there is no kubeconfig/);
});

test('its Dockerfile pins its base, and ends as nobody', () => {
  const lines = readFileSync(join(ROOT, 'Dockerfile'), 'utf8').split('\n');
  const bases = lines.flatMap((line) => /^FROM (\S+)/.exec(line)?.[1] ?? []);
  expect(bases.length).toBeGreaterThan(1);
  for (const base of bases) expect(base).toMatch(/:\d+\.\d+\.\d+-/);
  const { devDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    devDependencies: Record<string, string>;
  };
  // The Node that the tests run under.
  for (const base of bases) expect(base).toContain(`node:${devDependencies['node']?.replace('^', '')}-`);
  expect(lines.filter((line) => line.startsWith('USER')).at(-1)).toBe('USER 65532:65532');
  expect(lines.some((line) => line.includes('src/setup/assemble-image.sh'))).toBe(true);
});
