/** Resident memory of a controller of 1, 100 and 1,000 VMs. Its hosts are simulated and live in the same process. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Manifest } from '../../src/api/admission.ts';
import { CONTROLLER_NODE_OPTIONS } from '../../src/doctor/unit-files.ts';
import { openFileStore } from '../../src/store/file-store.ts';
import { manifest } from '../e2e/support/rig.ts';
import { type Finding, shownNumber } from './figures.ts';
import { untilSettled } from './fleet.ts';
import { type Place, stopChild } from './place.ts';

const COUNTS = [1, 100, 1000];
const PER_HOST = 100;
const BASE_MB = 90;
const KB_PER_VM = 20;
/** A resync and a round of metrics are among what is measured. */
const REST_SECONDS = 75;

export async function benchMemory(place: Place): Promise<Finding[]> {
  // Side by side: memory does not depend on how long things take.
  place.built();
  return Promise.all(COUNTS.map((count) => measure(place, count)));
}

async function measure(place: Place, count: number): Promise<Finding> {
  const dir = place.quickFolder(`memory-${count}`);
  const store = await openFileStore({ dir });
  const hosts = Math.ceil(count / PER_HOST);
  for (let i = 0; i < hosts; i += 1) {
    const spec = { local: {}, vmDir: `/vms-${i}`, allowedPaths: ['/'] };
    await store.create(manifest('Host', { name: `host-${i}` }, spec) as Manifest<'Host'>);
  }
  for (let i = 0; i < count; i += 1) {
    const spec = {
      ...{ hostName: `host-${i % hosts}`, architecture: 'x86_64', vcpus: 1, memory: '512Mi' },
      disks: [{ name: 'root', size: '10Gi' }],
    };
    await store.create(
      manifest('VirtualMachine', { name: `vm-${i}`, namespace: 'default' }, spec) as Manifest<'VirtualMachine'>,
    );
  }
  const program = join(place.built(), 'test', 'bench', 'memory-controller.js');
  const child = place.spawn(process.execPath, [...CONTROLLER_NODE_OPTIONS, program, dir], {
    cwd: '/',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (child.stdout !== null) await once(child.stdout, 'data');
  await untilSettled(store, count, count);
  const atWork = residentMegabytes(child.pid ?? 0, 'VmHWM');
  await sleep(REST_SECONDS * 1000);
  const figure = residentMegabytes(child.pid ?? 0, 'VmRSS');
  await stopChild(child);
  await store.close();
  const bound = BASE_MB + (KB_PER_VM * count) / 1000;
  const from = `${REST_SECONDS} s after all run; the most until then ${shownNumber(atWork)} MB; ${hosts} hosts, 1 run`;
  return { name: `resident memory with ${count} VM${count === 1 ? '' : 's'}`, figure, unit: 'MB', bound, from };
}

/** Source: proc_pid_status(5), in units of 1,024 bytes. */
export function residentMegabytes(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const text = readFileSync(join('/proc', String(pid), 'status'), 'utf8');
  const kib = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1];
  return (Number(kib) * 1024) / 1e6;
}
