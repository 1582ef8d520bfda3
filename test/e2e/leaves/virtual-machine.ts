/** Rows of a VirtualMachine as such: who it is, what it has, when it runs. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { writeDeafDisk } from '../support/images.ts';
import { argumentOf, isAlive, kill } from '../support/process.ts';
import { readyOf } from '../support/rig.ts';
import { until } from '../support/wait.ts';
import type { Row } from './leaf.ts';
import type { Guest, Place } from './place.ts';

const MIB = 1_048_576;
const ONE = '3f0e2c52-7b0d-4a53-9a6a-6f1d1b6b2f01';
const OTHER = '3f0e2c52-7b0d-4a53-9a6a-6f1d1b6b2f02';
const PATIENT = { powerOff: { mode: 'TrySoft', gracePeriodSeconds: 600 } };

const rebooted = (guest: Guest, times: number) =>
  until(
    `${guest.name} has booted ${times} times`,
    () => guest.rig.console(guest.name).split('TINY-IO').length - 1,
    (seen) => seen === times,
  );

/** Hears the power button. */
async function listening(place: Place, spec: object): Promise<Guest> {
  const guest = await place.running({ ...spec });
  await rebooted(guest, 1);
  return guest;
}

const deaf = (place: Place, powerOff: object) =>
  place.running({ disks: [place.root(writeDeafDisk)], powerOff, restartPolicy: 'Never' });

async function ended(guest: Guest): Promise<void> {
  await guest.rig.untilSettled(guest.name, 'Stopped');
  expect([isAlive(guest.pid), guest.qemus()]).toEqual([false, []]);
}

const heardButton = ({ rig, name }: Guest) => rig.console(name).includes('TINY-POWERDOWN');

async function hasTarget(place: Place, architecture: string, target: string): Promise<void> {
  const disks = [{ name: 'data', size: '1Mi' }];
  const guest = await place.running({ architecture, disks, memory: '128Mi' });
  expect(await guest.qmp('query-target')).toEqual({ arch: target });
}

const underKvm = async (guest: Guest) => (await guest.qmp<{ enabled: boolean }>('query-kvm')).enabled;

/** QEMU runs under KVM or, where that does not work, ended with words of its own about it. */
async function triesKvm(place: Place, accelerator: string): Promise<void> {
  const guest = await place.create({ accelerator }, { rig: place.house.believing });
  const vm = await guest.rig.until(
    guest.name,
    'QEMU was started',
    (seen) => seen.status?.pid !== undefined || readyOf(seen)?.reason === 'LaunchFailed',
  );
  if (vm.status?.pid !== undefined) expect(await underKvm(guest)).toBe(true);
  else expect(readyOf(vm)?.message).toMatch(/^launch failed: .*kvm/i);
}

const firmware = (guest: Guest) => guest.nodes().then((nodes) => nodes.get('firmware'));

export const VIRTUAL_MACHINE: readonly Row[] = [
  {
    leaf: 'VirtualMachine.spec.hostName',
    effect: async (place) => {
      const [host, vmDir] = [place.name(), place.rig.path(place.name())];
      await place.rig.addHost(host, vmDir);
      const guest = await place.create({ hostName: undefined }, { vmDir });
      await place.rig.untilReason(guest.name, 'HostNotAssigned');
      expect(guest.qemus()).toEqual([]);
      await guest.edit({ hostName: host });
      await guest.running();
      expect(guest.qemus()).toEqual([guest.pid]);
    },
    fixed: { made: { hostName: 'localhost' }, asked: { hostName: 'elsewhere' } },
  },
  {
    leaf: 'VirtualMachine.spec.vmName',
    effect: async (place) => {
      const vmName = place.name();
      const guest = await place.running({ vmName });
      const folder = place.rig.folder(vmName);
      expect(argumentOf(guest.pid, '-pidfile')).toBe(join(folder, 'qemu.pid'));
      expect(argumentOf(guest.pid, '-name')).toContain(`guest=${vmName},`);
      expect(existsSync(guest.folder)).toBe(false);
    },
    fixed: { made: { vmName: 'leaf-one' }, asked: { vmName: 'leaf-other' } },
  },
  {
    leaf: 'VirtualMachine.spec.uuid',
    effect: async (place) => {
      const guest = await place.running({ uuid: ONE });
      expect(await guest.qmp('query-uuid')).toEqual({ UUID: ONE });
    },
    fixed: { made: { uuid: ONE }, asked: { uuid: OTHER } },
  },
  {
    leaf: 'VirtualMachine.spec.architecture',
    effect: {
      x86_64: (place) => hasTarget(place, 'x86_64', 'x86_64'),
      arm64: (place) => hasTarget(place, 'arm64', 'aarch64'),
    },
    fixed: { made: { architecture: 'x86_64' }, asked: { architecture: 'arm64' } },
  },
  {
    leaf: 'VirtualMachine.spec.powerState',
    effect: {
      PoweredOn: async (place) => {
        const guest = await place.create({ powerState: 'PoweredOff' });
        await ended(guest);
        await guest.edit({ powerState: 'PoweredOn' });
        await guest.running();
        expect(guest.qemus()).toEqual([guest.pid]);
      },
      PoweredOff: async (place) => {
        const guest = await listening(place, PATIENT);
        await guest.edit({ powerState: 'PoweredOff' });
        await ended(guest);
        expect(heardButton(guest)).toBe(true);
      },
      ForcedOff: async (place) => {
        const guest = await listening(place, PATIENT);
        await guest.edit({ powerState: 'ForcedOff' });
        await ended(guest);
        expect(heardButton(guest)).toBe(false);
      },
    },
  },
  {
    leaf: 'VirtualMachine.spec.restartPolicy',
    effect: {
      Always: async (place) => {
        const guest = await listening(place, { restartPolicy: 'Never' });
        await guest.changed({ restartPolicy: 'Always' });
        await guest.qmp('system_powerdown');
        await place.rig.untilRestarted(guest.name, guest.pid);
      },
      OnFailure: async (place) => {
        const guest = await listening(place, { restartPolicy: 'Never' });
        await guest.changed({ restartPolicy: 'OnFailure' });
        kill(guest.pid, 'SIGKILL');
        await place.rig.untilRestarted(guest.name, guest.pid);
        await rebooted(guest, 2);
        await guest.qmp('system_powerdown');
        await place.rig.untilSettled(guest.name, 'GuestPoweredOff');
        await place.rig.anotherLook();
        expect(guest.qemus()).toEqual([]);
      },
      Never: async (place) => {
        const guest = await listening(place, { restartPolicy: 'Always' });
        await guest.changed({ restartPolicy: 'Never' });
        kill(guest.pid, 'SIGKILL');
        await place.rig.untilReason(guest.name, 'Crashed');
        await place.rig.anotherLook();
        expect(guest.qemus()).toEqual([]);
      },
    },
  },
  {
    leaf: 'VirtualMachine.spec.restartedAt',
    effect: async (place) => {
      const guest = await place.running();
      const former = guest.pid;
      const second = await guest.restarted({ restartedAt: 'once' });
      expect([isAlive(former), guest.qemus()]).toEqual([false, [second]]);
      const third = await guest.restarted({ restartedAt: 'twice' });
      expect(guest.qemus()).toEqual([third]);
    },
  },
  {
    leaf: 'VirtualMachine.spec.vcpus',
    effect: async (place) => {
      const guest = await place.running({ vcpus: 1 });
      expect(await guest.qmp('query-cpus-fast')).toHaveLength(1);
      await guest.restarted({ vcpus: 3 });
      expect(await guest.qmp('query-cpus-fast')).toHaveLength(3);
    },
  },
  {
    leaf: 'VirtualMachine.spec.memory',
    effect: async (place) => {
      const guest = await place.running({ memory: '32Mi' });
      await guest.restarted({ memory: '40000Ki' });
      // Rounded up to whole MiB.
      expect(await guest.qmp('query-memory-size-summary')).toMatchObject({ 'base-memory': 40 * MIB });
    },
  },
  {
    leaf: 'VirtualMachine.spec.firmware.type',
    effect: {
      UEFI: async (place) => {
        const guest = await place.running({ firmware: { type: 'BIOS' }, memory: '128Mi' });
        expect(await firmware(guest)).toBeUndefined();
        await guest.restarted({ firmware: { type: 'UEFI' } });
        expect(await firmware(guest)).toMatch(/OVMF/);
      },
      BIOS: async (place) => {
        const guest = await place.running({ firmware: { type: 'UEFI' }, memory: '128Mi' });
        await guest.restarted({ firmware: { type: 'BIOS' } });
        expect(await firmware(guest)).toBeUndefined();
        // Its boot sector is for a BIOS.
        await place.rig.untilPrinted(guest.name, 'TINY-UP');
      },
    },
  },
  {
    leaf: 'VirtualMachine.spec.accelerator',
    effect: {
      Auto: async (place) => {
        await triesKvm(place, 'Auto');
        expect(await underKvm(await place.running({ accelerator: 'Auto' }))).toBe(false);
      },
      KVM: async (place) => {
        await triesKvm(place, 'KVM');
        const guest = await place.create({ accelerator: 'KVM' });
        await place.rig.untilReason(guest.name, 'KVMUnavailable');
        expect(guest.qemus()).toEqual([]);
      },
      TCG: async (place) => {
        const guest = await place.running({ accelerator: 'TCG' }, { rig: place.house.believing });
        expect(await underKvm(guest)).toBe(false);
      },
    },
  },
  {
    leaf: 'VirtualMachine.spec.powerOff.mode',
    effect: {
      TrySoft: async (place) => {
        const guest = await deaf(place, { mode: 'Soft', gracePeriodSeconds: 1 });
        await guest.changed({ powerOff: { mode: 'TrySoft' } });
        await guest.edit({ powerState: 'PoweredOff' });
        await ended(guest);
      },
      Soft: async (place) => {
        const guest = await deaf(place, { mode: 'Hard', gracePeriodSeconds: 1 });
        await guest.changed({ powerOff: { mode: 'Soft' } });
        await guest.edit({ powerState: 'PoweredOff' });
        await place.rig.untilReason(guest.name, 'GuestIgnoresPowerdown');
        await place.rig.anotherLook();
        expect(isAlive(guest.pid)).toBe(true);
      },
      Hard: async (place) => {
        const guest = await listening(place, PATIENT);
        await guest.changed({ powerOff: { mode: 'Hard' } });
        await guest.edit({ powerState: 'PoweredOff' });
        await ended(guest);
        expect(heardButton(guest)).toBe(false);
      },
    },
  },
  {
    leaf: 'VirtualMachine.spec.powerOff.gracePeriodSeconds',
    effect: async (place) => {
      const guest = await deaf(place, PATIENT.powerOff);
      await guest.edit({ powerState: 'PoweredOff' });
      await place.rig.untilReason(guest.name, 'Stopping');
      await place.rig.anotherLook();
      expect(isAlive(guest.pid)).toBe(true);
      await guest.edit({ powerOff: { gracePeriodSeconds: 0 } });
      await ended(guest);
    },
  },
  {
    leaf: 'VirtualMachine.spec.updateStrategy.type',
    effect: {
      OnRestart: async (place) => {
        const guest = await place.running({ updateStrategy: { type: 'Restart' } });
        await guest.changed({ updateStrategy: { type: 'OnRestart' } });
        await guest.changed({ vcpus: 2 });
        await place.rig.anotherLook();
        expect(readyOf(await place.rig.vm(guest.name))?.reason).toBe('Running');
        expect(await guest.qmp('query-cpus-fast')).toHaveLength(1);
      },
      Restart: async (place) => {
        const guest = await place.running({ updateStrategy: { type: 'OnRestart' } });
        await guest.changed({ vcpus: 2 });
        await guest.restarted({ updateStrategy: { type: 'Restart' } });
        expect(await guest.qmp('query-cpus-fast')).toHaveLength(2);
      },
    },
  },
  {
    leaf: 'VirtualMachine.spec.vmDir',
    effect: async (place) => {
      const vmDir = place.rig.path(place.name());
      const guest = await place.running({ vmDir }, { vmDir });
      expect(guest.qemus()).toEqual([guest.pid]);
      expect(existsSync(place.rig.folder(guest.name))).toBe(false);
    },
    fixed: { made: { vmDir: '/srv/one' }, asked: { vmDir: '/srv/other' } },
  },
];
