/** powerState, restartPolicy and restartedAt on real processes, and how a guest is switched off. */
import { describe, expect, test } from 'vitest';
import { writeDeafDisk } from './support/images.ts';
import { qmp } from './support/oracle.ts';
import { isAlive, kill, qemusBelow } from './support/process.ts';
import { Rig, readyOf } from './support/rig.ts';

describe.concurrent('power', () => {
  test('off and on again starts under every policy, whatever ended it before', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const policies = ['Always', 'OnFailure', 'Never'] as const;
    await Promise.all(
      policies.map(async (restartPolicy) => {
        const name = restartPolicy.toLowerCase();
        await rig.create(name, { restartPolicy });
        const first = await rig.untilRunning(name);
        await rig.edit(name, { powerState: 'PoweredOff' });
        await rig.untilSettled(name, 'Stopped');
        kill(first, 'SIGKILL');
        await rig.edit(name, { powerState: 'PoweredOn' });
        expect(await rig.untilRunning(name)).not.toBe(first);
      }),
    );
  });

  test('Never leaves a crashed VM off until restartedAt is new', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1', { restartPolicy: 'Never' });
    const first = await rig.untilRunning('web-1');
    kill(first, 'SIGKILL');
    const off = await rig.until(
      'web-1',
      'Stalled',
      (vm) => vm.status?.lastExit?.reason === 'Crashed' && vm.status.phase === 'Failed',
    );
    expect(readyOf(off)).toMatchObject({ status: 'False', reason: 'Crashed' });
    await rig.anotherLook();
    expect(qemusBelow(rig.root)).toEqual([]);
    await rig.edit('web-1', { restartedAt: 'again' });
    await rig.untilRestarted('web-1', first);
  });

  test('a guest that powers itself off stays off, but for Always', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('never', { restartPolicy: 'Never' });
    await rig.create('failure', { restartPolicy: 'OnFailure' });
    await rig.create('always', { restartPolicy: 'Always' });
    const names = ['never', 'failure', 'always'];
    const pids = await Promise.all(names.map((name) => rig.untilRunning(name)));
    // The button is lost on a guest that is not up yet.
    for (const name of names) await rig.untilPrinted(name, 'TINY-IO');
    for (const name of names) await qmp(rig.folder(name), 'system_powerdown');
    for (const name of ['never', 'failure']) {
      const off = await rig.untilSettled(name, 'GuestPoweredOff');
      expect([off.status?.lastExit?.reason, off.status?.phase]).toEqual(['GuestPoweredOff', 'Stopped']);
    }
    await rig.untilRestarted('always', pids[2] ?? 0);
    expect((await rig.vm('always')).status?.restarts).toBe(1);
    await rig.edit('failure', { restartedAt: 'start' });
    await rig.untilRunning('failure');
  });

  test('an off that finds no process is noted: on again starts', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    await rig.untilRunning('web-1');
    await rig.untilPrinted('web-1', 'TINY-IO');
    await qmp(rig.folder('web-1'), 'system_powerdown');
    await rig.untilSettled('web-1', 'GuestPoweredOff');
    await rig.edit('web-1', { powerState: 'PoweredOff' });
    await rig.untilSettled('web-1', 'Stopped');
    await rig.edit('web-1', { powerState: 'PoweredOn' });
    await rig.untilRunning('web-1');
  });

  test('a VM that is created off is launched by restartedAt no sooner than it is on', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1', { powerState: 'PoweredOff', restartPolicy: 'Never' });
    await rig.untilSettled('web-1', 'Stopped');
    await rig.edit('web-1', { restartedAt: 'early' });
    await rig.untilSettled('web-1', 'Stopped');
    expect(qemusBelow(rig.root)).toEqual([]);
    await rig.edit('web-1', { powerState: 'PoweredOn' });
    const pid = await rig.untilRunning('web-1');
    await rig.anotherLook();
    expect(await rig.untilRunning('web-1')).toBe(pid);
  });

  test('Soft waits for a guest that ignores the button; ForcedOff ends it', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const path = writeDeafDisk(rig.path('images', 'deaf.raw'));
    const powerOff = { mode: 'Soft', gracePeriodSeconds: 1 };
    await rig.create('web-1', { disks: [{ name: 'root', path, format: 'raw' }], powerOff });
    const pid = await rig.untilRunning('web-1');
    await rig.edit('web-1', { powerState: 'PoweredOff' });
    const ignored = await rig.untilReason('web-1', 'GuestIgnoresPowerdown');
    expect([isAlive(pid), ignored.status?.phase]).toEqual([true, 'Stopping']);
    expect(readyOf(ignored)?.message).toMatch(/ForcedOff ends it/);
    await rig.edit('web-1', { powerState: 'ForcedOff' });
    await rig.untilSettled('web-1', 'Stopped');
    expect([isAlive(pid), (await rig.vm('web-1')).status?.lastExit?.reason]).toEqual([false, 'StoppedByRequest']);
  });

  test('TrySoft asks, then QEMU quits after the grace period; Hard does not ask', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const deaf = (name: string) => ({
      name: 'root',
      path: writeDeafDisk(rig.path('images', `${name}.raw`)),
      format: 'raw',
    });
    await rig.create('soft', { disks: [deaf('soft')], powerOff: { gracePeriodSeconds: 1 } });
    await rig.create('hard', { powerOff: { mode: 'Hard' } });
    const pids = [await rig.untilRunning('soft'), await rig.untilRunning('hard')];
    await rig.untilPrinted('hard', 'TINY-UP');
    for (const name of ['soft', 'hard']) await rig.edit(name, { powerState: 'PoweredOff' });
    for (const name of ['soft', 'hard']) {
      const vm = await rig.untilSettled(name, 'Stopped');
      expect(vm.status?.lastExit?.reason).toBe('StoppedByRequest');
    }
    expect([pids.map(isAlive), rig.console('hard').includes('TINY-POWERDOWN')]).toEqual([[false, false], false]);
    const steps = rig.events.flatMap((event) =>
      event.type === 'action' && event.action.type === 'stop' ? [`${event.vm} ${event.action.step}`] : [],
    );
    expect(steps).toEqual(expect.arrayContaining(['default/soft powerdown', 'default/soft quit', 'default/hard quit']));
    expect(steps).not.toContain('default/hard powerdown');
  });
});
