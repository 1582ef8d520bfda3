/** Whose a process is: the lock that QEMU holds on its pidfile decides, never a number in a file. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { argvOf, isAlive, kill, qemusBelow, startTicksOf } from './support/process.ts';
import { type OnFinished, Rig, readyOf, testFolder } from './support/rig.ts';
import { until } from './support/wait.ts';

/** A process of somebody else. */
function foreign(onFinished: OnFinished, command = 'sleep', args = ['600']): ChildProcess & { pid: number } {
  const child = spawn(command, args, { stdio: 'ignore' });
  onFinished(async () => void child.kill('SIGKILL'));
  return child as ChildProcess & { pid: number };
}

/** Ends the VM while nobody looks. */
async function killUnseen(rig: Rig, pid: number): Promise<void> {
  await rig.stopController();
  kill(pid, 'SIGKILL');
  await until(
    'QEMU is gone',
    () => isAlive(pid),
    (alive) => !alive,
  );
}

describe.concurrent('identity', () => {
  test('a stale pidfile whose pid is reused by another program starts the VM anew and touches nobody', async ({
    onTestFinished,
  }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    await killUnseen(rig, pid);
    const other = foreign(onTestFinished);
    writeFileSync(join(rig.folder('web-1'), 'qemu.pid'), `${other.pid}\n`);
    rig.startController();
    const second = await rig.untilRestarted('web-1', pid);
    expect([isAlive(other.pid), second === other.pid]).toEqual([true, false]);
    expect((await rig.vm('web-1')).status?.lastExit?.reason).toBe('Crashed');
    await rig.edit('web-1', { powerState: 'ForcedOff' });
    await rig.untilSettled('web-1', 'Stopped');
    expect(isAlive(other.pid)).toBe(true);
  });

  test('the pid of another QEMU in our pidfile does not make it ours', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    await rig.create('web-2');
    const pid = await rig.untilRunning('web-1');
    const neighbour = await rig.untilRunning('web-2');
    await killUnseen(rig, pid);
    writeFileSync(join(rig.folder('web-1'), 'qemu.pid'), `${neighbour}\n`);
    rig.startController();
    await rig.untilRestarted('web-1', pid);
    await rig.edit('web-1', { powerState: 'ForcedOff' });
    await rig.untilSettled('web-1', 'Stopped');
    expect([await rig.untilRunning('web-2'), isAlive(neighbour)]).toEqual([neighbour, true]);
  });

  test('an empty or damaged pidfile is no process', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const texts = { empty: '', words: 'not a pid\n', many: '1 2 3\n', huge: '99999999999999\n' };
    const pids = new Map<string, number>();
    for (const name of Object.keys(texts)) await rig.create(name);
    for (const name of Object.keys(texts)) pids.set(name, await rig.untilRunning(name));
    await rig.stopController();
    for (const [name, text] of Object.entries(texts)) {
      await killUnseen(rig, pids.get(name) ?? 0);
      writeFileSync(join(rig.folder(name), 'qemu.pid'), text);
    }
    rig.startController();
    for (const [name, pid] of pids) await rig.untilRestarted(name, pid);
  });

  test('a running VM whose pidfile was removed is not started a second time', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1', { restartPolicy: 'Always' });
    const pid = await rig.untilRunning('web-1');
    rmSync(join(rig.folder('web-1'), 'qemu.pid'));
    await rig.anotherLook();
    await rig.anotherLook();
    expect([isAlive(pid), qemusBelow(rig.root), await rig.untilRunning('web-1')]).toEqual([true, [pid], pid]);
    expect((await rig.host()).status?.strangers?.map((one) => one.pid) ?? []).not.toContain(pid);
    await rig.edit('web-1', { powerState: 'PoweredOff' });
    await rig.untilSettled('web-1', 'Stopped');
    expect(isAlive(pid)).toBe(false);
  });

  test('a pidfile that was overwritten does not lose the VM that runs', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1', { restartPolicy: 'Always' });
    const pid = await rig.untilRunning('web-1');
    const other = foreign(onTestFinished);
    rmSync(join(rig.folder('web-1'), 'qemu.pid'));
    writeFileSync(join(rig.folder('web-1'), 'qemu.pid'), `${other.pid}\n`);
    await rig.anotherLook();
    expect([qemusBelow(rig.root), await rig.untilRunning('web-1')]).toEqual([[pid], pid]);
    await rig.edit('web-1', { powerState: 'ForcedOff' });
    await rig.untilSettled('web-1', 'Stopped');
    expect([isAlive(pid), isAlive(other.pid)]).toEqual([false, true]);
  });

  test('a QEMU that was started by hand is listed as a stranger and never touched', async ({ onTestFinished }) => {
    const folder = testFolder(onTestFinished);
    const pidfile = join(folder, 'mine.pid');
    const name = `byhand-${process.pid}`;
    const machine = ['-machine', 'none', '-display', 'none', '-nodefaults', '-name', `${name},debug-threads=on`];
    const hand = foreign(onTestFinished, 'qemu-system-x86_64', [...machine, '-pidfile', pidfile]);
    await until(
      'it runs',
      () => readFileSyncOr(pidfile),
      (text) => text !== '',
    );
    const ticks = startTicksOf(hand.pid);
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const pid = await rig.untilRunning('web-1');
    const host = await until(
      'a stranger',
      () => rig.host(),
      ({ status }) => status?.strangers?.some((one) => one.name === name) === true,
    );
    expect(host.status?.strangers).toContainEqual({ name, architecture: 'x86_64', pid: hand.pid });
    expect(host.status?.strangers?.map((one) => one.pid)).not.toContain(pid);
    expect(JSON.stringify(host.status)).not.toContain(pidfile);
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect([isAlive(hand.pid), startTicksOf(hand.pid)]).toEqual([true, ticks]);
  });

  test('a QEMU that was started by hand in the folder of a new VM is a NameConflict', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const folder = rig.folder('web-1');
    mkdirSync(folder, { recursive: true });
    const machine = ['-machine', 'none', '-display', 'none', '-nodefaults'];
    const hand = foreign(onTestFinished, 'qemu-system-x86_64', [...machine, '-pidfile', join(folder, 'qemu.pid')]);
    await until(
      'it runs',
      () => readFileSyncOr(join(folder, 'qemu.pid')),
      (text) => text !== '',
    );
    await rig.create('web-1');
    expect(readyOf(await rig.untilReason('web-1', 'NameConflict'))?.message).toContain(`pid ${hand.pid}`);
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect([isAlive(hand.pid), argvOf(hand.pid)[0]]).toEqual([true, 'qemu-system-x86_64']);
  });
});

function readFileSyncOr(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
