/** The two looks at the machine around all suites: what they would find. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { expect, test } from 'vitest';
import { leftOver, pictureOfMachine, processesOf, RUN_VARIABLE } from '../machine.mjs';

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
