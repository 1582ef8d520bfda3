/** A host that shuts down: real guests are stopped in order, stay off in that boot, and run again in the next. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { hostShutdownValue } from '../../src/api/host-shutdown.ts';
import { ANNOTATIONS } from '../../src/api/meta.ts';
import { isAlive, kill, qemusBelow } from './support/process.ts';
import { Rig, readyOf, testFolder } from './support/rig.ts';
import { until } from './support/wait.ts';

async function shutDown(rig: Rig, value: string | null): Promise<void> {
  const annotations = { [ANNOTATIONS.hostShutdown]: value };
  await rig.store.patch('Host', { name: 'localhost' }, { metadata: { annotations } });
}

async function rigWithBoot(onFinished: Parameters<typeof testFolder>[0]): Promise<{ rig: Rig; bootIdFile: string }> {
  const bootIdFile = join(testFolder(onFinished), 'boot-id');
  writeFileSync(bootIdFile, 'first\n');
  return { rig: await Rig.start(onFinished, { driver: { bootIdFile } }), bootIdFile };
}

test('guests are stopped in order with the host, and started again in its next boot', async ({ onTestFinished }) => {
  const { rig, bootIdFile } = await rigWithBoot(onTestFinished);
  const policies = { always: 'Always', failure: 'OnFailure', never: 'Never' };
  for (const [name, restartPolicy] of Object.entries(policies)) await rig.create(name, { restartPolicy });
  await rig.create('off', { powerState: 'PoweredOff' });
  const names = Object.keys(policies);
  const pids = await Promise.all(names.map((name) => rig.untilRunning(name)));
  for (const name of names) await rig.untilPrinted(name, 'TINY-UP');
  await shutDown(rig, hostShutdownValue('first', Date.now() + 60_000));
  for (const name of names) {
    const vm = await rig.untilReason(name, 'HostShutdown');
    expect(vm.status).toMatchObject({ phase: 'Stopped', lastExit: { reason: 'HostShutdown' } });
    expect(vm.spec.powerState).toBeUndefined();
    expect(rig.console(name)).toContain('TINY-POWERDOWN');
  }
  expect(pids.some(isAlive)).toBe(false);
  // Neither a person nor another controller starts one while the host goes down.
  await rig.edit('never', { powerState: 'PoweredOn', restartedAt: '1' });
  await rig.stopController();
  rig.startController();
  for (let looks = 0; looks < 3; looks += 1) await rig.anotherLook();
  expect(qemusBelow(rig.root)).toEqual([]);

  await rig.stopController();
  writeFileSync(bootIdFile, 'second\n');
  rig.startController();
  for (const name of names) {
    await rig.untilRunning(name);
    expect((await rig.vm(name)).status?.lastExit?.reason).toBe('HostShutdown');
  }
  await rig.untilSettled('off', 'Stopped');
});

test('a guest that does not follow is switched off when the host has no more time', async ({ onTestFinished }) => {
  const { rig } = await rigWithBoot(onTestFinished);
  const powerOff = { mode: 'Soft', gracePeriodSeconds: 600 };
  await rig.create('web-1', { powerOff, disks: [], networks: [] });
  const pid = await rig.untilRunning('web-1');
  await shutDown(rig, hostShutdownValue('first', Date.now() + 4_000));
  const asked = await rig.untilReason('web-1', 'Stopping');
  expect([isAlive(pid), readyOf(asked)?.message]).toEqual([true, expect.stringContaining('shutting down')]);
  await rig.untilReason('web-1', 'HostShutdown');
  expect(isAlive(pid)).toBe(false);
  // It went on after all: the service takes the annotation back.
  await shutDown(rig, null);
  expect(await rig.untilRunning('web-1')).not.toBe(pid);
});

test('a guest that the host killed while it was powering down ended with the host all the same', async ({
  onTestFinished,
}) => {
  const { rig, bootIdFile } = await rigWithBoot(onTestFinished);
  await rig.create('web-1', { powerOff: { gracePeriodSeconds: 600 }, disks: [], networks: [] });
  const pid = await rig.untilRunning('web-1');
  await shutDown(rig, 'first');
  await until(
    'it was asked',
    () => rig.events,
    (events) => events.some((event) => event.type === 'done' && event.action.type === 'stop'),
  );
  await rig.stopController();
  kill(pid, 'SIGKILL');
  await until(
    'it is gone',
    () => isAlive(pid),
    (alive) => !alive,
  );
  writeFileSync(bootIdFile, 'second\n');
  rig.startController();
  await rig.untilRestarted('web-1', pid);
  expect((await rig.vm('web-1')).status?.lastExit?.reason).toBe('HostShutdown');
});
