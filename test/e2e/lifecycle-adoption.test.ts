/** Controllers as real processes on one file store: killed, restarted, two at once. VMs do not notice. */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { runState } from './support/oracle.ts';
import { isAlive, qemusBelow, startTicksOf } from './support/process.ts';
import { shareStore, startController } from './support/real-controller.ts';
import { type OnFinished, Rig, testFolder } from './support/rig.ts';
import { until } from './support/wait.ts';

async function place(onFinished: OnFinished) {
  const root = testFolder(onFinished);
  const where = { storeDir: join(root, 'store'), vmDir: join(root, 'vms') };
  const controller = await startController(onFinished, where);
  const store = await shareStore(onFinished, where.storeDir);
  const rig = await Rig.start(onFinished, { root, store, vmDir: where.vmDir, controller: 'none' });
  return { where, controller, rig };
}

const actionsIn = (said: string) => said.split('\n').filter((line) => line.startsWith('action'));

describe.concurrent('adoption', () => {
  test('a controller that was killed finds its VMs again: same process, no effect', async ({ onTestFinished }) => {
    const { where, controller, rig } = await place(onTestFinished);
    await rig.create('web-1');
    await rig.create('off', { powerState: 'PoweredOff' });
    const pid = await rig.untilRunning('web-1');
    await rig.untilSettled('off', 'Stopped');
    const ticks = startTicksOf(pid);
    await controller.kill('SIGKILL');
    expect([isAlive(pid), await runState(rig.folder('web-1'))]).toEqual([true, 'running']);
    const second = await startController(onTestFinished, where);
    await rig.edit('off', { restartedAt: 'a look' });
    await rig.untilSettled('off', 'Stopped');
    expect([await rig.untilRunning('web-1'), startTicksOf(pid)]).toEqual([pid, ticks]);
    expect(actionsIn(second.said()).filter((line) => line.includes('web-1'))).toEqual([]);
    await rig.edit('web-1', { powerState: 'PoweredOff' });
    await rig.untilSettled('web-1', 'Stopped');
    expect(isAlive(pid)).toBe(false);
  });

  test('killed in the middle of making VMs, it goes on where it was', async ({ onTestFinished }) => {
    const { where, controller, rig } = await place(onTestFinished);
    const names = Array.from({ length: 6 }, (_, index) => `web-${index}`);
    for (const name of names) await rig.create(name, { disks: [{ name: 'data', size: '1Mi' }, rig.tiny(name)] });
    await until('it is at work', controller.said, (said) => said.includes('launch'));
    await controller.kill('SIGKILL');
    await startController(onTestFinished, where);
    const pids = await Promise.all(names.map((name) => rig.untilRunning(name)));
    expect(new Set(qemusBelow(rig.vmDir))).toEqual(new Set(pids));
  });

  test('two controllers on one store: one works, the other takes over when it dies', async ({ onTestFinished }) => {
    const { where, controller, rig } = await place(onTestFinished);
    const standby = await startController(onTestFinished, where);
    expect(standby.said()).toContain('elsewhere');
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    expect(actionsIn(standby.said())).toEqual([]);
    await controller.kill('SIGKILL');
    await until('it takes over', standby.said, (said) => /^here$/m.test(said));
    await rig.create('web-2');
    await rig.untilRunning('web-2');
    expect([await rig.untilRunning('web-1'), isAlive(pid)]).toEqual([pid, true]);
  });
});
