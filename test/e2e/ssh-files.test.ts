/** Files brought to a host: whole or not at all, and never in another's place. */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { SshShell } from '../../src/host/ssh-shell.ts';
import { ordinaryUser } from '../ordinary-user.mjs';
import { Sshd, type SshdOptions } from './support/sshd.ts';
import { until } from './support/wait.ts';

const person = ordinaryUser();
const never = new AbortController().signal;
const CHUNK = 64 * 1024;

let folder = '';
beforeAll(() => {
  if (process.getuid?.() === 0) execFileSync('usermod', ['--password', '*', person.name]);
});
afterAll(() => person.remove());

/** A shell, and a new folder of its user. */
async function connected(more: SshdOptions = {}): Promise<{ sshd: Sshd; shell: SshShell }> {
  const sshd = await Sshd.start(onTestFinished, { user: person.name, ...more });
  const shell = new SshShell(sshd.route());
  onTestFinished(() => shell.close());
  folder = mkdtempSync(join(tmpdir(), 'qo-files-'));
  if (process.getuid?.() === 0) execFileSync('chown', [person.name, folder]);
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return { sshd, shell };
}

function pieces(bytes: Buffer): Readable {
  const count = Math.ceil(bytes.length / CHUNK);
  return Readable.from(Array.from({ length: count }, (_, at) => bytes.subarray(at * CHUNK, (at + 1) * CHUNK)));
}

const digest = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

test('40 MB arrive under their name when all of them lie there, for their owner alone, and progress is told', async () => {
  const { shell } = await connected();
  const bytes = randomBytes(40_000_000);
  const path = join(folder, "a disk's image.qcow2");
  const told: number[] = [];
  const onProgress = (sent: number) => {
    told.push(sent);
    if (sent < bytes.length) expect(readdirSync(folder)).not.toContain("a disk's image.qcow2");
  };
  await shell.upload({ content: pieces(bytes), sizeBytes: bytes.length, path, onProgress }, never);
  expect([digest(readFileSync(path)), statSync(path).mode & 0o777]).toEqual([digest(bytes), 0o600]);
  expect(told.at(-1)).toBe(bytes.length);
  expect(told).toEqual([...told].sort((a, b) => a - b));
  expect(readdirSync(folder)).toEqual(["a disk's image.qcow2"]);
});

test('the mode is what was asked for, and an empty file is one', async () => {
  const { shell } = await connected();
  const path = join(folder, 'empty');
  await shell.upload({ content: Readable.from([]), sizeBytes: 0, path, mode: 0o644 }, never);
  expect([statSync(path).size, statSync(path).mode & 0o777]).toEqual([0, 0o644]);
});

test('a name that is taken stays whose it is: a file, a folder, a link to nothing', async () => {
  const { shell } = await connected();
  writeFileSync(join(folder, 'file'), 'mine');
  symlinkSync('/nowhere', join(folder, 'link'));
  for (const path of [join(folder, 'file'), join(folder, 'link'), folder]) {
    const upload = shell.upload({ content: pieces(Buffer.from('yours')), sizeBytes: 5, path }, never);
    await expect(upload).rejects.toMatchObject({ name: 'UploadError', message: `${path} exists already` });
  }
  expect(readFileSync(join(folder, 'file'), 'utf8')).toBe('mine');
  expect(readdirSync(folder).sort()).toEqual(['file', 'link']);
});

test('of two that want the same name at once one gets it, whole', async () => {
  const { shell } = await connected();
  const path = join(folder, 'wanted');
  const all = [randomBytes(2_000_000), randomBytes(2_000_000)];
  const ends = await Promise.allSettled(
    all.map((bytes) => shell.upload({ content: pieces(bytes), sizeBytes: bytes.length, path }, never)),
  );
  expect(ends.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  expect(all.map(digest)).toContain(digest(readFileSync(path)));
  expect(readdirSync(folder)).toEqual(['wanted']);
});

test('what is shorter than it said, breaks on the way, or is given up leaves nothing behind', async () => {
  const { shell } = await connected();
  const path = join(folder, 'never');
  const bytes = randomBytes(1_000_000);
  const short = shell.upload({ content: pieces(bytes), sizeBytes: bytes.length + 1, path }, never);
  await expect(short).rejects.toThrow('only 1000000 of 1000001 bytes came');
  const broken = Readable.from(
    (function* () {
      yield bytes;
      throw new Error('the source broke');
    })(),
  );
  await expect(shell.upload({ content: broken, sizeBytes: 2_000_000, path }, never)).rejects.toThrow(
    'the source broke',
  );
  const stop = new AbortController();
  const content = Readable.from(
    (async function* () {
      yield bytes;
      await new Promise((resolve) => setTimeout(resolve, 500));
      stop.abort(new Error('enough'));
      await new Promise((resolve) => setTimeout(resolve, 500));
      yield bytes;
    })(),
  );
  await expect(shell.upload({ content, sizeBytes: 2_000_000, path }, stop.signal)).rejects.toThrow('enough');
  expect(readdirSync(folder)).toEqual([]);
});

test('a connection that is cut in the middle leaves nothing under the name', async () => {
  const { sshd, shell } = await connected();
  const path = join(folder, 'cut');
  const bytes = randomBytes(CHUNK);
  const content = Readable.from(
    (async function* () {
      for (let at = 0; at < 1_000; at += 1) {
        if (at === 20) await sshd.stop();
        yield bytes;
      }
    })(),
  );
  const upload = shell.upload({ content, sizeBytes: 1_000 * CHUNK, path }, never);
  await expect(upload).rejects.toMatchObject({ name: 'HostUnreachableError' });
  await until(
    'the script has cleaned up',
    () => readdirSync(folder),
    (names) => names.length === 0,
  );
});

test('a folder that is not there, or not theirs, is told in the host’s words', async () => {
  const { shell } = await connected();
  const upload = (path: string) => shell.upload({ content: pieces(randomBytes(5)), sizeBytes: 5, path }, never);
  await expect(upload(join(folder, 'no', 'file'))).rejects.toThrow(/No such file or directory|nonexistent/);
  if (process.getuid?.() === 0) await expect(upload('/root/file')).rejects.toThrow(/Permission denied/);
});
