/** The quickstart with its real Linux guest. Its own store and vmDir; the built disk comes from the cache of all tests. */
import { existsSync, readFileSync, statSync, unlinkSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { placeDisk } from '../../src/cli/quickstart-guest.ts';
import { linuxGuest } from '../guests/linux.ts';
import { CliRig } from './support/cli-rig.ts';
import { runState } from './support/oracle.ts';
import { qemusBelow } from './support/process.ts';

/** The cache is found below HOME, as without a test. */
async function rigWithCache(): Promise<{ rig: CliRig; env: Record<string, string> }> {
  await linuxGuest();
  const cache = process.env['XDG_CACHE_HOME'] ?? `${process.env['HOME']}/.cache`;
  return { rig: new CliRig(onTestFinished), env: { XDG_CACHE_HOME: cache } };
}

test('quickstart shows a Linux with its figures and its prompt; again it changes nothing; --remove takes it away', async () => {
  const { rig, env } = await rigWithCache();
  const folder = rig.folder('quickstart');
  const first = await rig.ok(['quickstart'], { env });
  expect(first.stdout).toMatch(/ s {2}quickstart: Starting: starting QEMU/);
  expect(first.stdout).toMatch(/ s {2}quickstart: Running: the guest is running/);
  expect(first.stdout).toMatch(/cpu: \d+% of its vCPUs/);
  expect(first.stdout).toMatch(/\| linux:.*#/);
  expect(first.stdout).toMatch(/nobody watches it now/);
  expect(first.stdout).toMatch(/ console quickstart .*\n[\s\S]*"mcpServers"/);
  expect(await runState(folder)).toBe('running');
  const [pid] = qemusBelow(rig.vmDir);
  const disk = statSync(`${folder}/root.qcow2`).ino;

  const again = await rig.ok(['quickstart'], { env });
  expect(again.stdout).toMatch(/\| linux:.*#/);
  expect(qemusBelow(rig.vmDir)).toEqual([pid]);
  expect(statSync(`${folder}/root.qcow2`).ino).toBe(disk);
  // Its monitors were for the show alone.
  expect((await rig.ok(['get', 'qmon', '-o', 'name'])).stdout).toBe('');

  await rig.ok(['stop', 'quickstart']);
  await rig.ok(['quickstart'], { env });
  expect(await runState(folder)).toBe('running');

  const removed = await rig.ok(['quickstart', '--remove']);
  expect(removed.stdout).toContain('virtualmachine.qemu-operator.dev "quickstart" deleted');
  expect(qemusBelow(rig.vmDir)).toEqual([]);
  expect(existsSync(folder)).toBe(false);
  expect((await rig.ok(['quickstart', '--remove'])).stdout).toContain('There is no VirtualMachine quickstart.');
});

test('quickstart beside a controller leaves the machine watched, and never makes a lost disk anew', async () => {
  const { rig, env } = await rigWithCache();
  await rig.controller(onTestFinished);
  const { stdout } = await rig.ok(['quickstart'], { env });
  expect(stdout).not.toMatch(/nobody watches/);
  await rig.ok(['stop', 'quickstart']);
  const path = `${rig.folder('quickstart')}/root.qcow2`;
  unlinkSync(path);
  const lost = await rig.run(['quickstart'], { env });
  expect(lost.code).toBe(1);
  expect(lost.stderr).toMatch(/DiskMissing/);
  expect(existsSync(path)).toBe(false);
  await rig.ok(['quickstart', '--remove']);
  expect(existsSync(rig.folder('quickstart'))).toBe(false);
});

test('a copy that an interrupted quickstart left is taken, and taken away', async () => {
  const { rig } = await rigWithCache();
  await rig.ok(['get', 'qhost']);
  const image = await linuxGuest();
  const path = `${rig.folder('quickstart')}/root.qcow2`;
  expect(placeDisk(image, path)).toBe(true);
  expect(placeDisk(image, path)).toBe(false);
  expect(readFileSync(path).equals(readFileSync(image))).toBe(true);
  expect((await rig.ok(['quickstart', '--remove'])).stdout).toContain(`Removed ${path}.`);
  expect(existsSync(rig.folder('quickstart'))).toBe(false);
});
