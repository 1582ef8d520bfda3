/**
 * Lives of a VM on a simulated host, act by act; each ends at rest, and what the guest wrote must outlive them all.
 * An act is one entry. They are several only because a long life takes long to repeat for each of its effects.
 */
import { parseRecord } from '../../src/reconcile/record.ts';
import { folderOf } from '../fakes/simulation.ts';
import type { Lab } from './lab.ts';

export interface Act {
  readonly name: string;
  readonly begin: (lab: Lab) => Promise<unknown>;
}

export const EXISTING = '/data/existing.qcow2';
const ROOT = `${folderOf()}/root.qcow2`;

const disks = (root: string) => [
  { name: 'root', size: root },
  { name: 'data', path: EXISTING },
];
const VM = { disks: disks('1Gi'), powerState: 'PoweredOff', powerOff: { gracePeriodSeconds: 10 } };

const FIRST: readonly Act[] = [
  { name: 'create', begin: (lab) => lab.createVm(VM) },
  { name: 'start', begin: (lab) => lab.edit({ spec: { powerState: 'PoweredOn', restartedAt: 'first' } }) },
  { name: 'write', begin: async (lab) => guestWrites(lab) },
  { name: 'modify', begin: (lab) => lab.edit({ spec: { vcpus: 4, updateStrategy: { type: 'Restart' } } }) },
  { name: 'grow', begin: (lab) => lab.edit({ spec: { disks: disks('3Gi') } }) },
  { name: 'restart', begin: (lab) => lab.edit({ spec: { restartedAt: 'again' } }) },
  { name: 'crash', begin: async (lab) => endQemu(lab) },
];

const SECOND: readonly Act[] = [
  { name: 'create and start', begin: (lab) => lab.createVm({ ...VM, powerState: 'PoweredOn' }) },
  { name: 'write', begin: async (lab) => guestWrites(lab) },
  { name: 'stop', begin: (lab) => lab.edit({ spec: { powerState: 'PoweredOff' } }) },
  { name: 'grow stopped', begin: (lab) => lab.edit({ spec: { disks: disks('3Gi') } }) },
  { name: 'start again', begin: (lab) => lab.edit({ spec: { powerState: 'PoweredOn' } }) },
  { name: 'release', begin: (lab) => lab.orphan() },
  { name: 'adopt', begin: (lab) => adopt(lab) },
  { name: 'delete', begin: (lab) => lab.remove() },
];

const IMAGED = { disks: [{ name: 'root', size: '2Gi', image: { path: EXISTING } }], powerOff: { mode: 'Hard' } };

/** Its disk is a copy of an image, made by a job on the host that outlives controllers. */
const THIRD: readonly Act[] = [
  { name: 'create from an image', begin: (lab) => lab.createVm(IMAGED) },
  { name: 'delete', begin: (lab) => lab.remove() },
];

export const LIVES: Readonly<Record<string, readonly Act[]>> = { first: FIRST, second: SECOND, third: THIRD };

function guestWrites({ world }: Lab): void {
  for (const path of [ROOT, EXISTING]) {
    const file = world.files.get(path);
    if (file !== undefined) file.content += ' and what the guest wrote';
  }
}

function endQemu({ world }: Lab): void {
  const process = world.processIn(folderOf());
  if (process !== undefined) world.end(process, 'crash');
}

/** A new object takes the VM over as it runs. */
function adopt(lab: Lab): Promise<unknown> {
  const state = parseRecord(lab.world.folders.get(folderOf())?.record);
  const uid = state.kind === 'readable' ? state.record.uid : 'nobody';
  const spec = { ...VM, disks: disks('3Gi'), powerState: 'PoweredOn' };
  return lab.createVm(spec, { 'qemu-operator.dev/adopt': uid });
}
