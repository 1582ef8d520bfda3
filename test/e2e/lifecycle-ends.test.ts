/** Why a QEMU process ended, from the host's evidence, and when the next one starts. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { qmp } from './support/oracle.ts';
import { isAlive, kill, qemusBelow, stateOf } from './support/process.ts';
import { Rig, readyOf, testFolder } from './support/rig.ts';
import { standIn, TestShell } from './support/stand-ins.ts';
import { until } from './support/wait.ts';

const exitIs = (reason: string) => (vm: VirtualMachine) => vm.status?.lastExit?.reason === reason;

describe.concurrent('ends', () => {
  test('SIGKILL is a crash: the first restart is immediate, the second waits', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const first = await rig.untilRunning('web-1');
    const killedAt = Date.now();
    kill(first, 'SIGKILL');
    const second = await rig.untilRestarted('web-1', first);
    expect(Date.now() - killedAt).toBeLessThan(8_000);
    expect((await rig.vm('web-1')).status).toMatchObject({ restarts: 1, lastExit: { reason: 'Crashed' } });
    kill(second, 'SIGKILL');
    const waiting = await rig.untilReason('web-1', 'CrashLoopBackOff');
    const at = Date.parse(waiting.status?.lastExit?.at ?? '');
    const wait = Date.parse(waiting.status?.nextAttemptAt ?? '') - at;
    expect([wait >= 9_000, wait <= 13_000, waiting.status?.phase]).toEqual([true, true, 'CrashLoopBackOff']);
    const third = await rig.untilRestarted('web-1', second);
    expect(Date.now()).toBeGreaterThanOrEqual(at + 9_000);
    kill(third, 'SIGKILL');
    await rig.untilReason('web-1', 'CrashLoopBackOff');
    await rig.edit('web-1', { restartedAt: 'at once' });
    await rig.untilRestarted('web-1', third, 8_000);
  });

  test('a new spec ends the back-off', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const first = await rig.untilRunning('web-1');
    kill(first, 'SIGKILL');
    const second = await rig.untilRestarted('web-1', first);
    kill(second, 'SIGKILL');
    await rig.untilReason('web-1', 'CrashLoopBackOff');
    await rig.edit('web-1', { memory: '40Mi' });
    await rig.untilRestarted('web-1', second, 8_000);
  });

  test('SIGTERM to QEMU is Signaled', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    kill(pid, 'SIGTERM');
    await rig.untilRestarted('web-1', pid);
    expect((await rig.vm('web-1')).status?.lastExit).toMatchObject({
      reason: 'Signaled',
      message: expect.stringMatching(/terminating on signal 15/),
    });
  });

  test('quit over a second monitor is StoppedExternally where the controller listens', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    await qmp(rig.folder('web-1'), 'quit');
    await rig.untilRestarted('web-1', pid);
    expect((await rig.vm('web-1')).status?.lastExit?.reason).toBe('StoppedExternally');
  });

  test('quit that nobody heard looks like a power-off, and the message says so', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    await rig.stopController();
    await qmp(rig.folder('web-1'), 'quit');
    await until(
      'QEMU ends',
      () => isAlive(pid),
      (alive) => !alive,
    );
    rig.startController();
    const vm = await rig.untilSettled('web-1', 'GuestPoweredOff');
    expect(vm.status?.lastExit?.message).toMatch(/a monitor command that nobody heard/);
  });

  test('a guest that powers off during our stop was stopped by request', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    await rig.untilRunning('web-1');
    await rig.untilPrinted('web-1', 'TINY-IO');
    await rig.edit('web-1', { powerState: 'PoweredOff' });
    await rig.until('web-1', 'end', exitIs('StoppedByRequest'));
    expect(rig.console('web-1')).toContain('TINY-POWERDOWN');
  });

  test('a guest reset is no end: same process, RestartRequired stays', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    await rig.edit('web-1', { vcpus: 2 });
    await rig.until('web-1', 'pending', ({ status }) => status?.pendingChanges?.length === 1);
    await rig.untilPrinted('web-1', 'TINY-IO');
    await qmp(rig.folder('web-1'), 'system_reset');
    await rig.untilPrinted('web-1', /TINY-UP[\s\S]*TINY-UP/);
    await rig.anotherLook();
    const vm = await rig.vm('web-1');
    expect(vm.status).toMatchObject({ pid, restarts: 0, pendingChanges: [{ path: 'spec.vcpus' }] });
    expect(vm.status?.lastExit).toBeUndefined();
  });

  test('a guest that somebody paused is resumed', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    await qmp(rig.folder('web-1'), 'stop');
    await until(
      'resumed',
      () => rig.actions('web-1'),
      (types) => types.includes('resume'),
    );
    expect(await rig.untilRunning('web-1')).toBe(pid);
  });

  test('a QEMU that is stopped by a signal is MonitorUnresponsive and left alone', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    kill(pid, 'SIGSTOP');
    const before = rig.actions('web-1');
    const silent = await rig.untilReason('web-1', 'MonitorUnresponsive');
    expect(readyOf(silent)?.message).toContain(`pid ${pid}`);
    await rig.anotherLook();
    expect([stateOf(pid), qemusBelow(rig.root), rig.actions('web-1')]).toEqual(['T', [pid], before]);
    kill(pid, 'SIGCONT');
    expect(await rig.untilRunning('web-1')).toBe(pid);
    expect(rig.actions('web-1')).toEqual(before);
  });

  test('a silent QEMU that is switched off gets SIGTERM, then SIGKILL', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    kill(pid, 'SIGSTOP');
    await rig.edit('web-1', { powerState: 'ForcedOff' });
    const off = await rig.untilSettled('web-1', 'Stopped');
    expect([isAlive(pid), off.status?.lastExit?.reason]).toEqual([false, 'StoppedByRequest']);
    const steps = rig.events.flatMap((event) =>
      event.type === 'action' && event.action.type === 'stop' ? [event.action.step] : [],
    );
    expect(steps).toEqual(['terminate', 'kill']);
  });

  test('an orderly end in the middle of a look is no crash', async ({ onTestFinished }) => {
    const root = testFolder(onTestFinished);
    const [order, pidfile] = [join(root, 'order'), join(root, 'vms', 'web-1', 'qemu.pid')];
    // QEMU ends just after its pidfile was read, and before the look goes on.
    const end = `pid=$(cat ${order}); rm ${order}; kill -TERM $pid; while [ -e ${pidfile} ]; do sleep 0.05; done; sleep 0.2`;
    const grep = `#!/bin/sh\ncommand -p grep "$@"\nrc=$?\ncase "$*" in *qemu.pid*) [ -e ${order} ] && { ${end}; };; esac\nexit $rc\n`;
    const shell = new TestShell({ path: standIn(join(root, 'bin'), 'grep', grep) });
    const rig = await Rig.start(onTestFinished, { root, shell });
    await rig.create('web-1', { restartPolicy: 'Never' });
    const pid = await rig.untilRunning('web-1');
    writeFileSync(order, String(pid));
    const vm = await rig.until('web-1', 'its end', ({ status }) => status?.lastExit !== undefined);
    expect([vm.status?.lastExit?.reason, isAlive(pid)]).toEqual(['Signaled', false]);
  });
});
