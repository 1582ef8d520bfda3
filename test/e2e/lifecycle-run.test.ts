/** The life of a VM, every step compared with what QEMU, /proc and qemu-img say. */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { imageInfo, readTiny, writeTinyInto } from './support/images.ts';
import { guestDiskBytes, qmp, runState } from './support/oracle.ts';
import { argumentOf, isAlive, qemusBelow } from './support/process.ts';
import { conditionOf, Rig, readyOf } from './support/rig.ts';
import { TestShell } from './support/stand-ins.ts';
import { until } from './support/wait.ts';

const MIB = 1_048_576;

describe.concurrent('life', () => {
  test('create, run, grow live, stop, start and delete', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const [root, data] = [rig.tiny('web-1'), { name: 'data', size: '16Mi' }];
    await rig.create('web-1', { disks: [root, data] });
    const pid = await rig.untilRunning('web-1');
    const folder = rig.folder('web-1');
    const disk = join(folder, 'data.qcow2');
    expect([await runState(folder), qemusBelow(folder)]).toEqual(['running', [pid]]);
    await rig.untilPrinted('web-1', 'TINY-IO');
    expect(imageInfo(disk)).toMatchObject({ format: 'qcow2', 'virtual-size': 16 * MIB });

    await rig.edit('web-1', { disks: [root, { ...data, size: '48Mi' }] });
    const grown = await rig.until('web-1', 'grown', (vm) => vm.status?.disks?.[1]?.virtualSize === '48Mi');
    expect([grown.status?.pid, conditionOf(grown, 'RestartRequired')]).toEqual([pid, undefined]);
    expect([await guestDiskBytes(folder, disk), imageInfo(disk)['virtual-size']]).toEqual([48 * MIB, 48 * MIB]);

    await rig.edit('web-1', { powerState: 'PoweredOff' });
    const stopped = await rig.untilSettled('web-1', 'Stopped');
    expect([isAlive(pid), rig.console('web-1').includes('TINY-POWERDOWN')]).toEqual([false, true]);
    expect([stopped.status?.lastExit?.reason, stopped.status?.phase]).toEqual(['StoppedByRequest', 'Stopped']);

    await rig.edit('web-1', { powerState: 'PoweredOn' });
    const second = await rig.untilRunning('web-1');
    expect([second === pid, isAlive(second)]).toEqual([false, true]);
    writeFileSync(join(folder, 'notes.txt'), 'mine');
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect([isAlive(second), readdirSync(folder), existsSync(root.path)]).toEqual([false, ['notes.txt'], true]);
  });

  test('a stopped disk grows too, and its folder goes with it', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const data = { name: 'data', size: '16Mi' };
    await rig.create('web-1', { disks: [data], powerState: 'PoweredOff' });
    await rig.untilSettled('web-1', 'Stopped');
    await rig.edit('web-1', { disks: [{ ...data, size: '32Mi' }] });
    await rig.untilSettled('web-1', 'Stopped');
    expect(imageInfo(join(rig.folder('web-1'), 'data.qcow2'))['virtual-size']).toBe(32 * MIB);
    expect(rig.actions('web-1')).not.toContain('launch');
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect(existsSync(rig.folder('web-1'))).toBe(false);
  });

  test('a grown disk keeps what the guest wrote', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const root = { name: 'root', size: '4Mi' };
    await rig.create('web-1', { disks: [root], powerState: 'PoweredOff' });
    await rig.untilSettled('web-1', 'Stopped');
    const disk = join(rig.folder('web-1'), 'root.qcow2');
    writeTinyInto(disk);
    await rig.edit('web-1', { powerState: 'PoweredOn' });
    const pid = await rig.untilRunning('web-1');
    await rig.untilPrinted('web-1', 'TINY-IO');
    await rig.edit('web-1', { disks: [{ ...root, size: '8Mi' }] });
    await rig.until('web-1', 'grown', (vm) => vm.status?.disks?.[0]?.virtualSize === '8Mi');
    expect(await rig.untilRunning('web-1')).toBe(pid);
    await rig.edit('web-1', { powerState: 'ForcedOff' });
    await rig.untilSettled('web-1', 'Stopped');
    expect(readTiny(disk)).toBe(true);
    await rig.edit('web-1', { powerState: 'PoweredOn' });
    await rig.untilPrinted('web-1', /TINY-UP[\s\S]*TINY-UP/);
  });

  test('a change of vcpus and memory waits for a restart, which applies it', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    await rig.edit('web-1', { vcpus: 2, memory: '48Mi' });
    const waiting = await rig.until(
      'web-1',
      'RestartRequired',
      (vm) => conditionOf(vm, 'RestartRequired') !== undefined,
    );
    expect(conditionOf(waiting, 'Ready')?.status).toBe('True');
    expect(waiting.status).toMatchObject({ pid, vcpus: 1, memory: '32Mi' });
    expect(waiting.status?.pendingChanges).toEqual([
      { path: 'spec.vcpus', from: '1', to: '2' },
      { path: 'spec.memory', from: '32Mi', to: '48Mi' },
    ]);
    await rig.edit('web-1', { restartedAt: 'now' });
    const second = await rig.untilRestarted('web-1', pid);
    expect([argumentOf(second, '-smp'), argumentOf(second, '-m'), isAlive(pid)]).toEqual(['cpus=2', '48M', false]);
    const applied = await rig.vm('web-1');
    expect([applied.status?.pendingChanges, applied.status?.vcpus, applied.status?.memory]).toEqual([
      undefined,
      2,
      '48Mi',
    ]);
    expect(conditionOf(applied, 'RestartRequired')).toBeUndefined();
    await rig.edit('web-1', { updateStrategy: { type: 'Restart' }, vcpus: 1 });
    expect(argumentOf(await rig.untilRestarted('web-1', second), '-smp')).toBe('cpus=1');
  });

  test('a change that is taken back leaves nothing pending', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    await rig.edit('web-1', { vcpus: 2 });
    await rig.until('web-1', 'pending', (vm) => vm.status?.pendingChanges?.length === 1);
    await rig.edit('web-1', { vcpus: 1 });
    const calm = await rig.until('web-1', 'calm', (vm) => vm.status?.pendingChanges === undefined);
    expect([calm.status?.pid, conditionOf(calm, 'RestartRequired')]).toEqual([pid, undefined]);
  });

  test('an impossible size leaves the VM running, and reverting clears it', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    // The API's most is more than virt has in any version; q35 has 4096 since QEMU 9.
    const disks = [{ name: 'data', size: '1Mi' }];
    await rig.create('web-1', { architecture: 'arm64', disks, powerOff: { mode: 'Hard' } });
    const pid = await rig.untilRunning('web-1');
    const machines = await qmp<{ alias?: string; 'cpu-max': number }[]>(rig.folder('web-1'), 'query-machines');
    const most = machines.find(({ alias }) => alias === 'virt')?.['cpu-max'];
    await rig.edit('web-1', { vcpus: 1024, restartedAt: 'now' });
    const vcpus = await rig.untilReason('web-1', 'InvalidSpec');
    expect(readyOf(vcpus)?.message).toContain(`at most ${most}`);
    await rig.edit('web-1', { vcpus: 1, memory: '60Ti' });
    await rig.untilReason('web-1', 'InsufficientMemory');
    expect([isAlive(pid), (await rig.vm('web-1')).status?.pid]).toEqual([true, pid]);
    await rig.edit('web-1', { memory: '32Mi' });
    await rig.untilRestarted('web-1', pid);
  });

  test('what is edited while a launch is under way is pending afterwards', async ({ onTestFinished }) => {
    let edited = false;
    const shell = new TestShell({
      onRun: async (script) => {
        if (!script.includes('-daemonize') && !script.includes('qemu.log.stderr')) return;
        if (edited || script.includes('removing')) return;
        edited = true;
        await rig.edit('web-1', { vcpus: 2 });
      },
    });
    const rig = await Rig.start(onTestFinished, { shell });
    await rig.create('web-1');
    const vm = await rig.until('web-1', 'pending', ({ status }) => status?.pendingChanges?.[0]?.to === '2');
    expect(argumentOf(Number(vm.status?.pid), '-smp')).toBe('cpus=1');
  });

  test('a VM that is deleted while its disk is made leaves nothing', async ({ onTestFinished }) => {
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const shell = new TestShell({ onRun: (script) => (script.includes('qemu-img create') ? held : undefined) });
    const rig = await Rig.start(onTestFinished, { shell });
    await rig.create('web-1', { disks: [{ name: 'data', size: '16Mi' }] });
    await until(
      'the disk is being made',
      () => rig.actions('web-1'),
      (types) => types.includes('create-disk'),
    );
    await rig.delete('web-1');
    release();
    await rig.untilGone('web-1');
    expect([existsSync(rig.folder('web-1')), qemusBelow(rig.root)]).toEqual([false, []]);
  });
});
