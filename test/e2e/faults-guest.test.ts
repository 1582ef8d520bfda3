/** What a real guest does by itself, with Linux inside: panic, reboot, power off. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { TestConsole } from '../guests/console.ts';
import { linuxGuest } from '../guests/linux.ts';
import { runState } from './support/oracle.ts';
import { isAlive } from './support/process.ts';
import { type OnFinished, Rig } from './support/rig.ts';

const BOOT_MS = 60_000;
const PROMPT = /linux:~# /;

/** A VM with Linux at its shell. */
async function linuxVm(onFinished: OnFinished, spec: object) {
  const rig = await Rig.start(onFinished);
  const path = rig.path('images', 'linux.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', await linuxGuest(), '-F', 'qcow2', path]);
  await rig.create('linux', { disks: [{ name: 'root', path }], memory: '128Mi', ...spec });
  const pid = await rig.untilRunning('linux');
  await rig.untilPrinted('linux', PROMPT, BOOT_MS);
  const console = await TestConsole.to(join(rig.folder('linux'), 'console.sock'));
  onFinished(async () => console.close());
  return { rig, pid, console };
}

describe.concurrent('guest', () => {
  test('a guest that panics is ended and started again: GuestPanicked', async ({ onTestFinished }) => {
    const { rig, pid, console } = await linuxVm(onTestFinished, { restartPolicy: 'OnFailure' });
    console.say('echo c > /proc/sysrq-trigger');
    await rig.untilRestarted('linux', pid);
    const vm = await rig.vm('linux');
    expect(vm.status).toMatchObject({ restarts: 1, lastExit: { reason: 'GuestPanicked' } });
    expect(isAlive(pid)).toBe(false);
  });

  test('with Never a guest that panicked stays paused for inspection', async ({ onTestFinished }) => {
    const { rig, pid, console } = await linuxVm(onTestFinished, { restartPolicy: 'Never' });
    console.say('echo c > /proc/sysrq-trigger');
    const vm = await rig.untilReason('linux', 'GuestPanicked');
    expect([vm.status?.pid, vm.status?.phase, await runState(rig.folder('linux'))]).toEqual([
      pid,
      'Failed',
      'guest-panicked',
    ]);
    await rig.edit('linux', { restartedAt: '1' });
    await rig.untilRestarted('linux', pid);
  });

  test('a guest that reboots keeps its process; one that powers off is GuestPoweredOff', async ({ onTestFinished }) => {
    const { rig, pid, console } = await linuxVm(onTestFinished, {});
    console.say('reboot -f');
    await rig.untilPrinted('linux', /Welcome[\s\S]*linux:~# [\s\S]*Welcome[\s\S]*linux:~# /, BOOT_MS);
    const running = await rig.vm('linux');
    expect([await rig.untilRunning('linux'), running.status?.restarts, running.status?.lastExit]).toEqual([
      pid,
      0,
      undefined,
    ]);
    console.say('poweroff -f');
    const off = await rig.untilSettled('linux', 'GuestPoweredOff');
    expect([off.status?.lastExit?.message, isAlive(pid)]).toEqual(['the guest powered itself off', false]);
  });
});
