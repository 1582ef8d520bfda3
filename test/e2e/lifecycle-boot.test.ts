/** What boots: BIOS and UEFI, both architectures, from disk and from CD-ROM, proved by what the serial port says. */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { writeArm64Iso, writeTinyIso } from './support/images.ts';
import { argumentOf, argvOf, qemusBelow } from './support/process.ts';
import { Rig, readyOf } from './support/rig.ts';

const FIRMWARE_MS = 60_000;

describe.concurrent('boot', () => {
  test('x86_64 with UEFI: OVMF speaks on the serial port and keeps its variables', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1', { firmware: { type: 'UEFI' }, memory: '128Mi', powerOff: { mode: 'Hard' } });
    const pid = await rig.untilRunning('web-1');
    await rig.untilPrinted('web-1', /BdsDxe|UEFI Interactive Shell/, FIRMWARE_MS);
    expect(argumentOf(pid, '-machine')).toContain('pflash0=firmware,pflash1=efivars');
    const variables = join(rig.folder('web-1'), 'efivars.fd');
    const { ino } = statSync(variables);
    await rig.edit('web-1', { restartedAt: '1' });
    await rig.untilRestarted('web-1', pid);
    expect(statSync(variables).ino).toBe(ino);
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect(existsSync(rig.folder('web-1'))).toBe(false);
  });

  test('arm64 with the stock firmware speaks on its serial port', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const disks = [{ name: 'data', size: '1Mi' }];
    await rig.create('arm-1', { architecture: 'arm64', memory: '128Mi', disks });
    const pid = await rig.untilRunning('arm-1');
    expect([argvOf(pid)[0], argumentOf(pid, '-cpu')]).toEqual(['qemu-system-aarch64', 'cortex-a57']);
    await rig.untilPrinted('arm-1', /UEFI firmware|BdsDxe|UEFI Interactive Shell/, FIRMWARE_MS);
    expect((await rig.vm('arm-1')).status).toMatchObject({
      accelerator: 'TCG',
      machine: expect.stringMatching(/^virt/),
    });
  });

  test('an ISO image boots as CD-ROM, with a display by default, and is never deleted', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const iso = writeTinyIso(rig.path('images', 'tiny.iso'));
    const { mtimeMs } = statSync(iso);
    await rig.create('web-1', { disks: [], cdroms: [{ name: 'install', path: iso }] });
    await rig.untilRunning('web-1');
    await rig.untilPrinted('web-1', 'TINY-UP');
    expect(statSync(join(rig.folder('web-1'), 'vnc.sock')).isSocket()).toBe(true);
    await rig.delete('web-1');
    await rig.untilGone('web-1');
    expect([statSync(iso).mtimeMs, existsSync(rig.folder('web-1'))]).toEqual([mtimeMs, false]);
  });

  test('a disk comes before the CD-ROM, and graphics {} means none', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const iso = writeArm64Iso(rig.path('images', 'arm.iso'));
    const cdroms = [{ name: 'install', path: writeTinyIso(rig.path('images', 'tiny.iso')) }];
    await rig.create('web-1', { cdroms, graphics: {} });
    await rig.untilRunning('web-1');
    // Only a disk can be written to.
    await rig.untilPrinted('web-1', 'TINY-IO');
    expect(existsSync(join(rig.folder('web-1'), 'vnc.sock'))).toBe(false);
    expect(existsSync(iso)).toBe(true);
  });

  test('an ISO image of the other architecture is ISOWrongArchitecture', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const arm = writeArm64Iso(rig.path('images', 'arm.iso'));
    const x86 = writeTinyIso(rig.path('images', 'x86.iso'));
    await rig.create('web-1', { disks: [], cdroms: [{ name: 'install', path: arm }] });
    await rig.create('arm-1', { architecture: 'arm64', disks: [], cdroms: [{ name: 'install', path: x86 }] });
    expect(readyOf(await rig.untilReason('web-1', 'ISOWrongArchitecture'))?.message).toContain(
      'boots arm64, this VM is x86_64',
    );
    await rig.untilReason('arm-1', 'ISOWrongArchitecture');
    expect(qemusBelow(rig.root)).toEqual([]);
  });
});
