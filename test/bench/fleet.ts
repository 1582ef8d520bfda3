/** VMs on this machine under a controller that runs in this process, so that its own driver can be timed. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Manifest } from '../../src/api/admission.ts';
import type { EffectiveSpec } from '../../src/api/effective-spec.ts';
import { LocalShell } from '../../src/host/local-shell.ts';
import { QemuDriver } from '../../src/qemu/driver.ts';
import { runController } from '../../src/reconcile/controller.ts';
import { wantedOf } from '../../src/reconcile/subject.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import type { Store } from '../../src/store/store.ts';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { manifest, readyOf } from '../e2e/support/rig.ts';
import type { Place } from './place.ts';

/** The smallest machine, as a manifest. Its guest sleeps once it is up. */
export function tinyVm(images: string, name: string, spec: object = {}): Manifest<'VirtualMachine'> {
  const disk = { name: 'root', path: writeSparseTiny(join(images, `${name}.raw`)), format: 'raw' };
  const whole = {
    ...{ hostName: 'localhost', architecture: 'x86_64', vcpus: 1, memory: '32Mi', accelerator: 'TCG' },
    networks: [],
    disks: [disk],
    ...spec,
  };
  return manifest('VirtualMachine', { name, namespace: 'default' }, whole) as Manifest<'VirtualMachine'>;
}

export function localHost(vmDir: string, spec: object = {}): Manifest<'Host'> {
  const whole = { local: {}, vmDir, allowedPaths: ['/'], ...spec };
  return manifest('Host', { name: 'localhost' }, whole) as Manifest<'Host'>;
}

/** Resolves when so many VMs have come to what they should be, and so many of them run. */
export async function untilSettled(store: Store, all: number, running: number, deadlineMs = 900_000): Promise<void> {
  const end = performance.now() + deadlineMs;
  for (;;) {
    const { items } = await store.list('VirtualMachine');
    const ready = items.filter((vm) => readyOf(vm)?.status === 'True');
    const alive = ready.filter(({ status }) => status?.pid !== undefined).length;
    if (ready.length === all && alive === running) return;
    if (performance.now() > end) throw new Error(`of ${all} VMs ${ready.length} are settled, ${alive} running`);
    // Reading many objects takes its time, and the machine is shared with those who should settle.
    await sleep(100 + all);
  }
}

export interface Fleet {
  readonly driver: QemuDriver;
  readonly vmDir: string;
  readonly running: readonly EffectiveSpec[];
  readonly stopped: readonly EffectiveSpec[];
  end(): Promise<void>;
}

export async function startFleet(place: Place, running: number, stopped: number, name = 'fleet'): Promise<Fleet> {
  const vmDir = place.folder(name);
  const images = place.folder(`${name}-images`);
  const store = createMemoryStore();
  const driver = new QemuDriver(new LocalShell());
  // Samples are the bench's to take.
  const host = await store.create(localHost(vmDir, { metricsIntervalSeconds: 0 }));
  const controller = runController({ store, driverFor: () => driver }).subscribe();
  const end = async () => {
    controller.unsubscribe();
    await store.close();
  };
  place.onEnd(end);
  const make = async (vm: string, powerState: 'PoweredOn' | 'PoweredOff') =>
    wantedOf(await store.create(tinyVm(images, vm, { powerState })), host);
  const off = await Promise.all(Array.from({ length: stopped }, (_, i) => make(`off-${i}`, 'PoweredOff')));
  const on = await Promise.all(Array.from({ length: running }, (_, i) => make(`on-${i}`, 'PoweredOn')));
  await untilSettled(store, running + stopped, running);
  return { driver, vmDir, running: on, stopped: off, end };
}
