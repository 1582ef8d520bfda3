/** The files of a process, found through what it has open: this very process, in a folder that it is not in. */
import { closeSync, mkdirSync, mkdtempSync, openSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LocalShell } from '../../src/host/local-shell.ts';
import { findFiles } from '../../src/takeover/files.ts';

let folder = '';
const open: number[] = [];

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'qo-')));
});
afterEach(() => {
  for (const fd of open.splice(0)) closeSync(fd);
  rmSync(folder, { recursive: true });
});

function opened(...parts: string[]): string {
  const path = join(folder, ...parts);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, 'content');
  open.push(openSync(path, 'r'));
  return path;
}

async function found(cwd: string, ...paths: string[]) {
  const process_ = { pid: process.pid, startTicks: 0, argv: [], cwd };
  const media = paths.map((path) => ({ path }));
  const files = await findFiles(new LocalShell(), process_, media, AbortSignal.timeout(60_000));
  return files.map(({ named, kind, isOpen }) => [named, kind, isOpen]);
}

test('a relative path that leads nowhere is the file of its name that the process has open', async () => {
  const data = opened('hand', 'a disk\n.img');
  const plain = opened('hand', 'plain.img');
  opened('twin', 'plain.img2');
  expect(await found('/nowhere', 'a disk\n.img', './x/plain.img', plain)).toEqual([
    [data, 'file', true],
    [plain, 'file', true],
    [plain, 'file', true],
  ]);
});

test('so is one that leads to another file than the process has', async () => {
  const data = opened('hand', 'root.img');
  writeFileSync(join(folder, 'root.img'), 'another');
  expect(await found(folder, 'root.img')).toEqual([[data, 'file', true]]);
});

test('one that leads to its file stays as it was named, whatever else is open', async () => {
  const data = opened('root.img');
  opened('twin', 'root.img');
  expect(await found(folder, 'root.img')).toEqual([[data, 'file', true]]);
});

test('of two of one name nobody knows which; an absolute path is never guessed', async () => {
  const [one] = [opened('a', 'root.img'), opened('b', 'root.img')];
  opened('c', 'only.img');
  expect(await found('/nowhere', 'root.img', '/nowhere/only.img')).toEqual([
    ['/nowhere/root.img', 'absent', false],
    ['/nowhere/only.img', 'absent', false],
  ]);
  rmSync(one);
  expect(await found('/nowhere', 'root.img')).toEqual([[join(folder, 'b', 'root.img'), 'file', true]]);
});
