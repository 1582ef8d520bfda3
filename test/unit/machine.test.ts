/** The two looks at the machine around all suites: what they would find. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { leftOver, pictureOfMachine, processesOf, RUN_VARIABLE, usersIn } from '../machine.mjs';

test('a daemon that detached itself is found by the run that it came from', async () => {
  const run = `unit-${process.pid}`;
  // Its starter is gone at once, as QEMU's is after -daemonize.
  const starter = spawn('sh', ['-c', 'setsid sleep 60 & echo $!'], {
    env: { ...process.env, [RUN_VARIABLE]: run },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [pid] = await once(starter.stdout.setEncoding('utf8'), 'data');
  try {
    await once(starter, 'exit');
    await expect
      .poll(() => processesOf(run).map(({ what }: { what: string }) => what))
      .toEqual([expect.stringMatching(/^process \d+: sleep 60$/)]);
    expect(processesOf('another run')).toEqual([]);
  } finally {
    process.kill(Number(pid), 'SIGKILL');
  }
});

test('a process that the run does not mark is its own only where it made the user', async () => {
  const me = process.getuid?.() ?? 0;
  // As root one whom nobody knows, as a container's may be.
  const uid = me === 0 ? 39_000 + (process.pid % 1_000) : me;
  const stranger = spawn('/bin/sleep', ['60'], { env: {}, uid, cwd: '/', stdio: 'ignore' });
  try {
    await once(stranger, 'spawn');
    const own = `process ${stranger.pid}: /bin/sleep 60`;
    const found = (uids: string[]) => processesOf('some run', uids).map(({ what }: { what: string }) => what);
    await expect.poll(() => found([String(uid)])).toContain(own);
    expect(found([])).not.toContain(own);
  } finally {
    stranger.kill('SIGKILL');
  }
});

test('the users that a run made are read from its file', () => {
  const folder = mkdtempSync('/var/tmp/machine-test-');
  try {
    const list = join(folder, 'users');
    expect(usersIn(list)).toEqual([]);
    writeFileSync(list, '40001\n40002\n');
    expect(usersIn(list)).toEqual(['40001', '40002']);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a folder that stays is named', () => {
  const before = pictureOfMachine();
  const folder = mkdtempSync('/var/tmp/machine-test-');
  try {
    const files = leftOver(before, pictureOfMachine()).find(({ kind }) => kind === 'files');
    expect(files?.items).toContain(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
  expect(leftOver(before, before).flatMap(({ items }) => items)).toEqual([]);
});
