/** What can be wrong with files: gone, held, missing, or no room for them. */
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { findCondition } from '../../src/api/conditions.ts';
import { FOLDER_FILES } from '../../src/api/effective-spec.ts';
import { imageInfo, writeSparseTiny } from './support/images.ts';
import { humanMonitor, runState } from './support/oracle.ts';
import { isAlive, qemusBelow } from './support/process.ts';
import { makeApart, shareStore, startController } from './support/real-controller.ts';
import { type OnFinished, Rig, readyOf, testFolder } from './support/rig.ts';
import { standIn, TestShell } from './support/stand-ins.ts';
import { until } from './support/wait.ts';

/** A VM host whose folder `small` is a file system of its own, in a mount namespace that the test can enter. */
async function withSmallDisk(onFinished: OnFinished, megabytes: number) {
  const apart = await makeApart(onFinished);
  const root = testFolder(onFinished);
  const small = join(root, 'small');
  mkdirSync(small);
  apart.run('mount', '-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', small);
  const where = { storeDir: join(root, 'store'), vmDir: join(root, 'vms'), apart };
  await startController(onFinished, where);
  const store = await shareStore(onFinished, where.storeDir);
  const rig = await Rig.start(onFinished, { root, store, vmDir: where.vmDir, controller: 'none' });
  /** Takes all room but some KiB. */
  const fill = (leave = 0) =>
    apart.run(
      'sh',
      '-c',
      `for size in 64k 4k; do dd if=/dev/zero bs=$size 2>/dev/null >>${small}/ballast; done; truncate -s -${leave}K ${small}/ballast`,
    );
  return { apart, rig, small, fill, free: () => apart.run('rm', '-f', `${small}/ballast`) };
}

describe.concurrent('disks that are gone', () => {
  test('a disk removed by hand is StorageMissing and never made anew', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1', { disks: [{ name: 'data', size: '1Mi' }], powerState: 'PoweredOff' });
    await rig.untilSettled('web-1', 'Stopped');
    const disk = join(rig.folder('web-1'), 'data.qcow2');
    renameSync(disk, rig.path('away'));
    await rig.edit('web-1', { powerState: 'PoweredOn' });
    const vm = await rig.untilReason('web-1', 'StorageMissing');
    expect(readyOf(vm)?.message).toContain('is not made anew');
    expect(findCondition(vm.status?.conditions, 'Stalled')?.status).toBe('True');
    await rig.anotherLook();
    expect([existsSync(disk), qemusBelow(rig.root)]).toEqual([false, []]);
    renameSync(rig.path('away'), disk);
    await rig.untilRunning('web-1');
  });

  test('removing the annotation gives the data up: the disk is made once more', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1', { disks: [{ name: 'data', size: '1Mi' }], powerState: 'PoweredOff' });
    await rig.untilSettled('web-1', 'Stopped');
    const disk = join(rig.folder('web-1'), 'data.qcow2');
    rmSync(disk);
    await rig.edit('web-1', { restartedAt: 'look' });
    await rig.untilReason('web-1', 'StorageMissing');
    await rig.annotate('web-1', 'provisioned', null);
    await rig.untilSettled('web-1', 'Stopped');
    expect(existsSync(disk)).toBe(true);
  });

  test('the whole folder removed by hand is StorageMissing; the VM can still be deleted', async ({
    onTestFinished,
  }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1', { disks: [{ name: 'data', size: '1Mi' }], powerState: 'PoweredOff' });
    await rig.untilSettled('web-1', 'Stopped');
    rmSync(rig.folder('web-1'), { recursive: true });
    await rig.edit('web-1', { powerState: 'PoweredOn' });
    await rig.untilReason('web-1', 'StorageMissing');
    expect(existsSync(rig.folder('web-1'))).toBe(false);
    await rig.delete('web-1');
    await rig.untilGone('web-1');
  });

  test('the disk of a running VM removed by hand leaves the guest running', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const root = rig.tiny('web-1');
    await rig.create('web-1', { disks: [root] });
    const pid = await rig.untilRunning('web-1');
    rmSync(root.path);
    const vm = await rig.untilReason('web-1', 'DiskMissing');
    expect([vm.status?.pid, isAlive(pid), findCondition(vm.status?.conditions, 'Running')?.status]).toEqual([
      pid,
      true,
      'True',
    ]);
  });
});

describe.concurrent('a creation that was interrupted', () => {
  /** The creation of disk `data` has begun and cannot go on: something lies where qemu-img writes. */
  async function interrupted(onFinished: OnFinished) {
    const rig = await Rig.start(onFinished);
    await rig.create('web-1', { disks: [], powerState: 'PoweredOff' });
    await rig.untilSettled('web-1', 'Stopped');
    const disk = join(rig.folder('web-1'), 'data.qcow2');
    const obstacle = `${disk}.creating-${(await rig.vm('web-1')).metadata.uid.slice(0, 8)}`;
    mkdirSync(obstacle);
    await rig.edit('web-1', { disks: [{ name: 'data', size: '1Mi' }] });
    await rig.until('web-1', 'the creation fails', (vm) => readyOf(vm)?.message.includes('data.qcow2') === true);
    await until(
      'the record says that it has begun',
      () => readFileSync(join(rig.folder('web-1'), FOLDER_FILES.record), 'utf8'),
      (record) => record.includes('"creating"'),
    );
    return { rig, disk, clear: () => rmdirSync(obstacle) };
  }

  test('goes on by itself', async ({ onTestFinished }) => {
    const { rig, disk, clear } = await interrupted(onTestFinished);
    clear();
    const vm = await rig.untilSettled('web-1', 'Stopped');
    expect([vm.status?.disks?.[0]?.state, imageInfo(disk)['virtual-size']]).toEqual(['Created', 2 ** 20]);
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect(existsSync(disk)).toBe(false);
  });

  test('a file that a person puts there meanwhile is attached, and outlives the VM', async ({ onTestFinished }) => {
    const { rig, disk, clear } = await interrupted(onTestFinished);
    const theirs = rig.path('theirs.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', theirs, '3M']);
    const before = readFileSync(theirs);
    renameSync(theirs, disk);
    clear();
    const vm = await rig.untilSettled('web-1', 'Stopped');
    expect(vm.status?.disks?.[0]?.state).toBe('Attached');
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect(readFileSync(disk).equals(before)).toBe(true);
  });

  test('a file that a person puts there meanwhile outlives the VM that is deleted before another look', async ({
    onTestFinished,
  }) => {
    const { rig, disk, clear } = await interrupted(onTestFinished);
    await rig.stopController();
    clear();
    writeFileSync(disk, 'notes of a person');
    await rig.delete('web-1');
    rig.startController();
    await rig.untilGone('web-1');
    expect(readFileSync(disk, 'utf8')).toBe('notes of a person');
  });

  test('a file of another format that a person puts there meanwhile is refused and kept', async ({
    onTestFinished,
  }) => {
    const { rig, disk, clear } = await interrupted(onTestFinished);
    writeFileSync(disk, 'notes of a person');
    clear();
    await rig.untilReason('web-1', 'DiskFormatMismatch');
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect(readFileSync(disk, 'utf8')).toBe('notes of a person');
  });
});

describe.concurrent('files of a person', () => {
  test('one that appears while the disk is made is attached, and outlives the VM', async ({ onTestFinished }) => {
    const shell = new TestShell();
    const rig = await Rig.start(onTestFinished, { shell });
    const theirs = rig.path('theirs.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', theirs, '3M']);
    const before = readFileSync(theirs);
    const disk = join(rig.folder('web-1'), 'data.qcow2');
    // It puts theirs there just before ours is complete.
    shell.path = standIn(
      rig.path('bin'),
      'qemu-img',
      `#!/bin/sh\n[ "$1" = create ] && ! [ -e ${disk} ] && cp ${theirs} ${disk}\nPATH=\${PATH#*:}; exec qemu-img "$@"\n`,
    );
    await rig.create('web-1', { disks: [{ name: 'data', size: '1Mi' }], powerState: 'PoweredOff' });
    const vm = await rig.untilSettled('web-1', 'Stopped');
    expect(vm.status?.disks?.[0]?.state).toBe('Attached');
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect([readFileSync(disk).equals(before), readdirSync(rig.folder('web-1'))]).toEqual([true, ['data.qcow2']]);
  });

  test('one beside a disk is left alone, whatever its name', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const disk = rig.path('images', 'data.qcow2');
    const beside = [`${disk}.creating`, `${disk}.tmp`, `${disk}.partial`];
    for (const file of beside) writeFileSync(file, 'precious');
    await rig.create('web-1', { disks: [{ name: 'data', size: '1Mi', path: disk }], powerState: 'PoweredOff' });
    await rig.untilSettled('web-1', 'Stopped');
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect(beside.map((file) => readFileSync(file, 'utf8'))).toEqual(beside.map(() => 'precious'));
    expect(existsSync(disk)).toBe(false);
  });

  test('a link that leads nowhere is no place for a new disk, and is kept', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const disk = rig.path('images', 'data.qcow2');
    symlinkSync(rig.path('not-mounted', 'data.qcow2'), disk);
    await rig.create('web-1', { disks: [{ name: 'data', size: '1Mi', path: disk }], powerState: 'PoweredOff' });
    const vm = await rig.untilReason('web-1', 'DiskMissing');
    expect(readyOf(vm)?.message).toMatch(/is a symbolic link to .*not-mounted.*, which does not exist/);
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect([lstatSync(disk).isSymbolicLink(), existsSync(rig.path('not-mounted'))]).toEqual([true, false]);
  });

  test('in the folder of a new VM keep their names: one of ours is in the way until it is moved', async ({
    onTestFinished,
  }) => {
    const rig = await Rig.start(onTestFinished);
    const log = join(rig.folder('web-1'), FOLDER_FILES.log);
    mkdirSync(rig.folder('web-1'), { recursive: true });
    writeFileSync(log, 'precious');
    writeFileSync(join(rig.folder('web-1'), 'notes'), 'precious too');
    await rig.create('web-1');
    expect(readyOf(await rig.untilReason('web-1', 'NameConflict'))?.message).toContain('holds qemu.log');
    expect(readFileSync(log, 'utf8')).toBe('precious');
    renameSync(log, rig.path('qemu.log'));
    await rig.untilRunning('web-1');
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect(readdirSync(rig.folder('web-1'))).toEqual(['notes']);
  });
});

describe.concurrent('files that are not there', () => {
  test('a missing ISO image is ISONotFound; it starts once the image is there', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const path = rig.path('images', 'late.iso');
    await rig.create('web-1', { cdroms: [{ name: 'install', path }] });
    expect(readyOf(await rig.untilReason('web-1', 'ISONotFound'))?.message).toContain(path);
    writeSparseTiny(path);
    await rig.untilRunning('web-1');
  });

  test('a missing folder of a disk is not made: DiskMissing', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const folder = rig.path('not-there');
    await rig.create('web-1', { disks: [{ name: 'data', size: '1Mi', path: join(folder, 'data.qcow2') }] });
    expect(readyOf(await rig.untilReason('web-1', 'DiskMissing'))?.message).toMatch(/folder of .* does not exist/);
    expect(existsSync(folder)).toBe(false);
    mkdirSync(folder);
    await rig.untilRunning('web-1');
    expect(statSync(join(folder, 'data.qcow2')).isFile()).toBe(true);
  });

  test('a disk without a size and without a file is InvalidSpec; a folder is no disk', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1', { disks: [{ name: 'data' }] });
    await rig.create('web-2', { disks: [{ name: 'data', format: 'raw', path: rig.path('images') }] });
    await rig.untilReason('web-1', 'InvalidSpec');
    expect(readyOf(await rig.untilReason('web-2', 'DiskFormatMismatch'))?.message).toMatch(
      /neither a regular file nor a block device/,
    );
  });

  test('a disk held by another process is DiskInUse, and is tried again', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const root = rig.tiny('web-1');
    const drive = ['-drive', `file=${root.path},format=raw,if=virtio`, '-pidfile', rig.path('holder.pid')];
    const holder = spawn('qemu-system-x86_64', ['-S', '-machine', 'q35', '-display', 'none', '-nodefaults', ...drive]);
    onTestFinished(async () => void holder.kill('SIGKILL'));
    // A stopped machine takes its locks before it is ready.
    await until(
      'it holds the disk',
      () => readFileSync('/proc/locks', 'utf8'),
      (locks) => locks.includes(` ${holder.pid} `) && locks.includes(`:${statSync(root.path).ino} `),
    );
    await rig.create('web-1', { disks: [root] });
    const vm = await rig.untilReason('web-1', 'DiskInUse');
    expect(readyOf(vm)?.message).toMatch(/lock/);
    holder.kill('SIGKILL');
    await rig.untilRunning('web-1');
  });
});

describe.concurrent('full disks', () => {
  test('a full vmDir: a VM is still stopped, and deleted to make room', async ({ onTestFinished }) => {
    const { rig, small, fill, apart } = await withSmallDisk(onTestFinished, 4);
    const spec = { vmDir: join(small, 'vms'), powerOff: { gracePeriodSeconds: 2 } };
    for (const name of ['stops', 'goes'])
      await rig.create(name, { ...spec, disks: [rig.tiny(name), { name: 'data', size: '1Mi' }] });
    const pids = [await rig.untilRunning('stops'), await rig.untilRunning('goes')];
    fill();
    apart.run('sh', '-c', `! echo x >${small}/vms/x 2>/dev/null || ! [ -s ${small}/vms/x ]`);
    await rig.edit('stops', { powerState: 'ForcedOff' });
    await until(
      'the process ends',
      () => isAlive(pids[0] ?? 0),
      (alive) => !alive,
    );
    await rig.delete('goes');
    await rig.untilGone('goes');
    apart.run('sh', '-c', `! [ -e ${small}/vms/goes ]`);
    apart.run('rm', `${small}/ballast`);
    await rig.untilSettled('stops', 'Stopped');
    expect([pids.map(isAlive), qemusBelow(rig.root)]).toEqual([[false, false], []]);
  });

  test('a full vmDir: a guest that ignores the power button is switched off when its time is over', async ({
    onTestFinished,
  }) => {
    const { rig, small, fill, apart } = await withSmallDisk(onTestFinished, 4);
    const spec = { vmDir: join(small, 'vms'), powerOff: { gracePeriodSeconds: 2 } };
    // Nothing boots from it: the firmware alone knows no power button.
    await rig.create('web-1', { ...spec, disks: [{ name: 'data', size: '1Mi' }] });
    const pid = await rig.untilRunning('web-1');
    fill();
    await rig.edit('web-1', { powerState: 'PoweredOff' });
    await until(
      'the process ends',
      () => isAlive(pid),
      (alive) => !alive,
    );
    apart.run('rm', `${small}/ballast`);
    const { status } = await rig.untilSettled('web-1', 'Stopped');
    expect(status?.lastExit?.reason).toBe('StoppedByRequest');
  });

  test('no room for the copy of an image is told, and such a VM is deleted although the disk is full', async ({
    onTestFinished,
  }) => {
    const { rig, small, fill, apart } = await withSmallDisk(onTestFinished, 4);
    const path = rig.path('images', 'large.raw');
    writeFileSync(path, randomBytes(6 * 1024 * 1024));
    await rig.create('web-1', { vmDir: join(small, 'vms'), disks: [{ name: 'root', image: { path } }] });
    const vm = await rig.untilReason('web-1', 'InsufficientStorage');
    expect(readyOf(vm)?.message).toMatch(/No space left on device/);
    fill();
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    apart.run('sh', '-c', `! [ -e ${small}/vms/web-1 ]`);
  });

  test('full at create: InsufficientStorage, nothing half made, made when there is room', async ({
    onTestFinished,
  }) => {
    const made = await withSmallDisk(onTestFinished, 2);
    const { rig, small, fill, free, apart } = made;
    fill();
    await rig.create('web-1', { disks: [{ name: 'data', size: '1Gi', path: join(small, 'data.qcow2') }] });
    const vm = await rig.untilReason('web-1', 'InsufficientStorage');
    expect(readyOf(vm)?.message).toMatch(/No space left on device/);
    apart.run('sh', '-c', `[ "$(ls ${small})" = ballast ]`);
    free();
    await rig.untilRunning('web-1');
  });

  test('full at run: io-error, the guest waits and goes on by itself when there is room', async ({
    onTestFinished,
  }) => {
    const made = await withSmallDisk(onTestFinished, 80);
    const { rig, small, fill, free, apart } = made;
    const source = writeSparseTiny(rig.path('images', 'tiny.raw'));
    const path = join(small, 'root.raw');
    apart.run('cp', '--sparse=always', source, path);
    fill();
    await rig.create('web-1', { disks: [{ name: 'root', path, format: 'raw' }] });
    const paused = await rig.untilReason('web-1', 'IOError');
    const pid = paused.status?.pid ?? 0;
    expect([paused.status?.phase, await runState(rig.folder('web-1'))]).toEqual(['Paused', 'io-error']);
    expect([await humanMonitor(rig.folder('web-1'), 'info status'), rig.console('web-1').includes('TINY-IO')]).toEqual([
      expect.stringContaining('io-error'),
      false,
    ]);
    free();
    expect(await rig.untilRunning('web-1')).toBe(pid);
    await rig.untilPrinted('web-1', 'TINY-IO');
    expect((await rig.vm('web-1')).status?.restarts).toBe(0);
  });
});
