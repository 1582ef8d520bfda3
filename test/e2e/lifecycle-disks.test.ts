/** The rules that keep data safe, on real files: created once, attached as it is, never shrunk, never formatted. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { imageInfo, writeSparseTiny, writeTinyQcow2 } from './support/images.ts';
import { argvOf, isAlive, qemusBelow } from './support/process.ts';
import { conditionOf, Rig, readyOf, testFolder } from './support/rig.ts';

const MIB = 1_048_576;
const digest = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
const resize = (path: string, size: string) => execFileSync('qemu-img', ['resize', '-q', '-f', 'raw', path, size]);

describe.concurrent('disks', () => {
  test('raw is grown by hand: RawDiskNotGrown says how, and goes by itself', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const root = rig.tiny('web-1');
    await rig.create('web-1', { disks: [{ ...root, size: '1Mi' }] });
    const pid = await rig.untilRunning('web-1');
    await rig.edit('web-1', { disks: [{ ...root, size: '2Mi' }] });
    const stalled = await rig.untilReason('web-1', 'RawDiskNotGrown');
    expect(readyOf(stalled)?.message).toContain(`qemu-img resize -f raw '${root.path}' ${2 * MIB}`);
    expect([conditionOf(stalled, 'Stalled')?.status, stalled.status?.pid]).toEqual(['True', pid]);
    expect(imageInfo(root.path)['virtual-size']).toBe(MIB);
    await rig.edit('web-1', { powerState: 'ForcedOff' });
    await rig.untilReason('web-1', 'RawDiskNotGrown');
    resize(root.path, '2M');
    await rig.untilSettled('web-1', 'Stopped');
    await rig.edit('web-1', { powerState: 'PoweredOn' });
    await rig.untilRunning('web-1');
  });

  test('a raw disk of ours is made once, and larger than its spec is no error', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1', { disks: [{ name: 'data', size: '1Mi', format: 'raw' }], powerState: 'PoweredOff' });
    await rig.untilSettled('web-1', 'Stopped');
    const disk = join(rig.folder('web-1'), 'data.raw');
    expect(imageInfo(disk)).toMatchObject({ format: 'raw', 'virtual-size': MIB });
    resize(disk, '3M');
    await rig.edit('web-1', { powerState: 'PoweredOn' });
    await rig.untilRunning('web-1');
    expect((await rig.vm('web-1')).status?.disks?.[0]?.virtualSize).toBe('3Mi');
  });

  test('an existing file is attached as it is and kept when the VM goes', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const path = writeTinyQcow2(rig.path('images', 'old.qcow2'));
    const before = digest(path);
    await rig.create('web-1', { disks: [{ name: 'root', path, format: 'qcow2' }], powerState: 'PoweredOff' });
    await rig.untilSettled('web-1', 'Stopped');
    expect([digest(path), rig.actions('web-1').includes('create-disk')]).toEqual([before, false]);
    await rig.edit('web-1', { powerState: 'PoweredOn' });
    await rig.untilPrinted('web-1', 'TINY-IO');
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect([imageInfo(path).format, existsSync(rig.folder('web-1'))]).toEqual(['qcow2', false]);
  });

  test('reclaimPolicy decides at deletion over what was made and what existed', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const [kept, gone] = [rig.path('images', 'kept.qcow2'), writeTinyQcow2(rig.path('images', 'gone.qcow2'))];
    const disks = [
      { name: 'gone', path: gone, reclaimPolicy: 'Delete' },
      { name: 'kept', path: kept, size: '1Mi', reclaimPolicy: 'Retain' },
    ];
    await rig.create('web-1', { disks });
    await rig.untilRunning('web-1');
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect([existsSync(kept), existsSync(gone), existsSync(rig.folder('web-1'))]).toEqual([true, false, false]);
  });

  test('another format than the spec says is DiskFormatMismatch, and the file stays as it is', async ({
    onTestFinished,
  }) => {
    const rig = await Rig.start(onTestFinished);
    const qcow2 = writeTinyQcow2(rig.path('images', 'a.qcow2'));
    const raw = writeSparseTiny(rig.path('images', 'b.raw'));
    const before = [digest(qcow2), digest(raw)];
    await rig.create('as-raw', { disks: [{ name: 'root', path: qcow2, format: 'raw' }] });
    await rig.create('as-qcow2', { disks: [{ name: 'root', path: raw, format: 'qcow2' }] });
    for (const name of ['as-raw', 'as-qcow2']) {
      const vm = await rig.untilReason(name, 'DiskFormatMismatch');
      expect(readyOf(vm)?.message).toMatch(/set format: (qcow2|raw)/);
    }
    expect([digest(qcow2), digest(raw), qemusBelow(rig.root)]).toEqual([...before, []]);
  });

  test('a backing file outside allowedPaths is PathNotAllowed', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished, { host: { allowedPaths: ['/nowhere'] } });
    const base = writeTinyQcow2(rig.path('images', 'base.qcow2'));
    const overlay = join(rig.folder('web-1'), 'root.qcow2');
    mkdirSync(rig.folder('web-1'), { recursive: true });
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', overlay]);
    await rig.create('web-1', { disks: [{ name: 'root' }] });
    const vm = await rig.untilReason('web-1', 'PathNotAllowed');
    expect(readyOf(vm)?.message).toContain(base);
    expect(qemusBelow(rig.root)).toEqual([]);
  });

  test('a path through a symbolic link is judged by where it leads', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished, { host: { allowedPaths: ['/nowhere'] } });
    const outside = writeSparseTiny(rig.path('images', 'outside.raw'));
    mkdirSync(rig.folder('web-1'), { recursive: true });
    execFileSync('ln', ['-s', outside, join(rig.folder('web-1'), 'root.raw')]);
    await rig.create('web-1', { disks: [{ name: 'root', format: 'raw' }] });
    const vm = await rig.untilReason('web-1', 'PathNotAllowed');
    expect(readyOf(vm)?.message).toContain(`really ${outside}`);
  });

  test("a disk of another VM is DiskInUse, running or not, and another VM's folder is not allowed", async ({
    onTestFinished,
  }) => {
    const rig = await Rig.start(onTestFinished);
    const shared = rig.tiny('shared');
    await rig.create('web-1', { disks: [shared], powerState: 'PoweredOff' });
    await rig.untilSettled('web-1', 'Stopped');
    await rig.create('web-2', { disks: [shared] });
    expect(readyOf(await rig.untilReason('web-2', 'DiskInUse'))?.message).toContain('default/web-1');
    await rig.create('web-3', { disks: [{ name: 'root', path: join(rig.folder('web-1'), 'x.qcow2'), size: '1Mi' }] });
    await rig.untilReason('web-3', 'PathNotAllowed');
    await rig.create('web-4', { disks: [{ name: 'root', path: join(rig.folder('web-4'), 'qemu.log'), size: '1Mi' }] });
    await rig.untilReason('web-4', 'PathNotAllowed');
    expect(qemusBelow(rig.root)).toEqual([]);
  });

  test('a removed disk is detached at the next restart and goes with the VM', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const [root, data] = [rig.tiny('web-1'), { name: 'data', size: '1Mi' }];
    await rig.create('web-1', { disks: [root, data] });
    const pid = await rig.untilRunning('web-1');
    const file = join(rig.folder('web-1'), 'data.qcow2');
    await rig.edit('web-1', { disks: [root] });
    await rig.until('web-1', 'pending', ({ status }) => status?.pendingChanges?.[0]?.path === 'spec.disks[data]');
    await rig.edit('web-1', { restartedAt: '1' });
    const second = await rig.untilRestarted('web-1', pid);
    const states = (await rig.vm('web-1')).status?.disks?.map(({ name, state }) => `${name} ${state}`);
    expect([argvOf(second).some((word) => word.includes('data.qcow2')), states]).toEqual([
      false,
      ['root Attached', 'data Detached'],
    ]);
    expect(existsSync(file)).toBe(true);
    await rig.edit('web-1', { disks: [root, { ...data, path: rig.path('images', 'other.qcow2') }] });
    await rig.untilReason('web-1', 'NameConflict');
    await rig.edit('web-1', { disks: [root] });
    await rig.untilRunning('web-1');
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect(existsSync(file)).toBe(false);
  });

  test('a smaller size after name and size were taken away is DiskCannotShrink', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1', { disks: [{ name: 'data', size: '8Mi' }], powerState: 'PoweredOff' });
    await rig.untilSettled('web-1', 'Stopped');
    await rig.edit('web-1', { disks: [] });
    await rig.untilSettled('web-1', 'Stopped');
    await rig.edit('web-1', { disks: [{ name: 'data', size: '4Mi' }] });
    expect(readyOf(await rig.untilReason('web-1', 'DiskCannotShrink'))?.message).toContain('8Mi');
    expect(imageInfo(join(rig.folder('web-1'), 'data.qcow2'))['virtual-size']).toBe(8 * MIB);
  });

  test('files that lie in a folder without a record are existing files', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    mkdirSync(rig.folder('web-1'), { recursive: true });
    const path = writeTinyQcow2(join(rig.folder('web-1'), 'root.qcow2'));
    writeFileSync(join(rig.folder('web-1'), 'notes.txt'), 'mine');
    await rig.create('web-1', { disks: [{ name: 'root' }] });
    await rig.untilPrinted('web-1', 'TINY-IO');
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect([imageInfo(path).format, readFileSync(join(rig.folder('web-1'), 'notes.txt'), 'utf8')]).toEqual([
      'qcow2',
      'mine',
    ]);
  });

  test('paths of any characters are files and nothing else', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const names = [
      `a b's "c"`,
      '$(touch pwned)`id`',
      'x;y&z|w',
      'k=v,file=w',
      '-rf *',
      'größe 磁盘',
      'back\\\\slash',
      '%s@~#!',
    ];
    const folder = rig.path('images', `it's $HOME, "here"; 盘`);
    mkdirSync(folder);
    const disks = names.map((name, index) => ({ name: `d${index}`, path: join(folder, `${name}.qcow2`), size: '1Mi' }));
    const root = { name: 'root', path: writeSparseTiny(join(folder, 'boot, me.raw')), format: 'raw' };
    await rig.create('web-1', { disks: [root, ...disks] });
    await rig.untilRunning('web-1');
    await rig.untilPrinted('web-1', 'TINY-IO');
    expect(readdirSync(folder).sort()).toEqual([...names.map((name) => `${name}.qcow2`), 'boot, me.raw'].sort());
    for (const { path } of disks) expect(imageInfo(path)['virtual-size']).toBe(MIB);
    await rig.edit('web-1', { disks: [root, ...disks.map((disk) => ({ ...disk, size: '2Mi' }))] });
    await rig.until(
      'web-1',
      'all grown',
      ({ status }) => status?.disks?.slice(1).every((disk) => disk.virtualSize === '2Mi') === true,
    );
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect(readdirSync(folder)).toEqual(['boot, me.raw']);
  });

  test('a vmDir of any characters holds VMs like any other', async ({ onTestFinished }) => {
    const vmDir = join(testFolder(onTestFinished), `v m's, "$x"; 机`);
    const rig = await Rig.start(onTestFinished, { vmDir });
    await rig.create('web-1', { disks: [rig.tiny('web-1'), { name: 'data', size: '1Mi' }], vmName: 'Web_1.a' });
    const pid = await rig.untilRunning('web-1');
    await rig.untilPrinted('Web_1.a', 'TINY-IO');
    await rig.edit('web-1', { powerState: 'PoweredOff' });
    await rig.untilSettled('web-1', 'Stopped');
    expect([isAlive(pid), existsSync(join(vmDir, 'Web_1.a', 'data.qcow2'))]).toEqual([false, true]);
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect(existsSync(join(vmDir, 'Web_1.a'))).toBe(false);
  });

  test('a folder too deep for sockets is PathTooLong, before anything is made', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('x'.repeat(63), { vmDir: join(rig.root, 'y'.repeat(40)) });
    expect(readyOf(await rig.untilReason('x'.repeat(63), 'PathTooLong'))?.message).toMatch(/at most 107/);
    expect(qemusBelow(rig.root)).toEqual([]);
  });
});
