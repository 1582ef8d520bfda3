/** The quickstart with its real Linux guest. Its own store and vmDir; the built disk comes from the cache of all tests. */
import { copyFileSync, existsSync, mkdirSync, statSync, unlinkSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
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

  const removed = await rig.ok(['quickstart', '--remove'], { env });
  expect(removed.stdout).toContain('virtualmachine.qemu-operator.dev "quickstart" deleted');
  expect(qemusBelow(rig.vmDir)).toEqual([]);
  expect(existsSync(folder)).toBe(false);
  for (const place of [rig.store, rig.vmDir, `${env['XDG_CACHE_HOME']}/qemu-operator`])
    expect(removed.stdout).toContain(`    ${place}: `);
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
  expect(lost.stderr).toMatch(/StorageMissing/);
  expect(existsSync(path)).toBe(false);
  await rig.ok(['quickstart', '--remove']);
  expect(existsSync(rig.folder('quickstart'))).toBe(false);
});

test('a file that a person put there is attached, and --remove keeps it', async () => {
  const { rig, env } = await rigWithCache();
  const path = `${rig.folder('quickstart')}/root.qcow2`;
  mkdirSync(rig.folder('quickstart'), { recursive: true });
  copyFileSync(await linuxGuest(), path);
  const { ino } = statSync(path);
  await rig.ok(['quickstart'], { env });
  const removed = await rig.ok(['quickstart', '--remove']);
  expect(removed.stderr).toContain(`kept: ${path}`);
  expect(statSync(path).ino).toBe(ino);
  // Nor is it taken for a left-over of ours.
  await rig.ok(['quickstart', '--remove']);
  expect(statSync(path).ino).toBe(ino);
});

test("a person's own machine of that name is neither changed nor removed", async () => {
  const { rig, env } = await rigWithCache();
  await rig.ok(['apply', '--wait=false', '-f', rig.manifest('quickstart')]);
  const before = await rig.ok(['get', 'qvm', 'quickstart', '-o', 'json']);
  for (const words of [['quickstart'], ['quickstart', '--remove']])
    expect(await rig.run(words, { env })).toMatchObject({
      code: 4,
      stderr: /is not the sample.*delete qvm quickstart/,
    });
  expect(await rig.ok(['get', 'qvm', 'quickstart', '-o', 'json'])).toEqual(before);
});

test('an image that the Host does not allow is told before anything is made', async () => {
  const { rig, env } = await rigWithCache();
  await rig.ok(['patch', 'qhost', 'localhost', '-p', JSON.stringify({ spec: { allowedPaths: [rig.vmDir] } })]);
  const refused = await rig.run(['quickstart'], { env });
  expect(refused).toMatchObject({ code: 1, stderr: /lies outside the allowedPaths of Host localhost/ });
  expect((await rig.ok(['get', 'qvm', '-o', 'name'])).stdout).toBe('');
});
