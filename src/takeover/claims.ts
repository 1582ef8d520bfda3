/** What of a machine is somebody's already: the folders of VMs, whoever's they are, and the disks that VMs have. */
import { dirname } from 'node:path/posix';
import { effectiveSpec, placeOf } from '../api/effective-spec.ts';
import type { Host } from '../api/host.ts';
import { keyOf } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Shell } from '../host/shell.ts';
import { vmFolderIn } from '../qemu/cmdline.ts';
import { otherHostsOf, vmDirsOf } from '../reconcile/same-machine.ts';
import { lookAtMachine, type MachineSight, type QemuProcess, type VmFolder } from './machine.ts';

/** What a store has. */
export interface Known {
  readonly storeUID: string;
  readonly hosts: readonly Host[];
  readonly vms: readonly VirtualMachine[];
}

export interface Claim {
  readonly path: string;
  /** For people. */
  readonly owner: string;
}

/** A machine with all VM folders that its Hosts or its processes lead to. */
export interface WholeSight extends MachineSight {
  /** The store's Hosts that are this machine. */
  readonly hosts: readonly Host[];
}

/** A process that runs from a VM folder. */
export interface Managed {
  readonly process: QemuProcess;
  readonly path: string;
  /** Absent where this user cannot find its record. */
  readonly folder?: VmFolder | undefined;
}

/** @throws what Shell.run throws */
export async function lookAtAll(shell: Shell, host: Host, known: Known, signal: AbortSignal): Promise<WholeSight> {
  const own = vmDirsOf(host, known.vms);
  const sight = await lookAtMachine(shell, own, signal);
  const hosts = [host, ...otherHostsOf(host, sight.machineID, known.hosts)];
  const ofHosts = hosts.flatMap((one) => vmDirsOf(one, known.vms));
  const ofProcesses = sight.processes.flatMap(({ argv }) => vmFolderIn(argv) ?? []).map(dirname);
  const vmDirs = [...new Set([...ofHosts, ...ofProcesses])];
  const whole = vmDirs.length === own.length ? sight : await lookAtMachine(shell, vmDirs, signal);
  return { ...whole, hosts };
}

export function managedIn({ processes, folders }: MachineSight): Managed[] {
  return processes.flatMap((process): Managed[] => {
    const folder = folders.find((one) => one.process?.pid === process.pid);
    const path = folder?.path ?? vmFolderIn(process.argv);
    return path === undefined ? [] : [{ process, path, folder }];
  });
}

/** Whose a VM folder is, for people. */
export function ownerOf(
  { path, folder }: Pick<Managed, 'path' | 'folder'>,
  { hosts }: WholeSight,
  { storeUID, vms }: Known,
): { readonly kind: 'managed' | 'gone' | 'another-store' | 'unknown'; readonly owner: string } {
  const record = folder?.record.kind === 'readable' ? folder.record.record : undefined;
  const here = ownPlaces(hosts, vms).find(({ place }) => place === path)?.vm;
  const vm = record === undefined ? here : vms.find(({ metadata }) => metadata.uid === record.uid);
  if (vm !== undefined) return { kind: 'managed', owner: nameOf(vm) };
  if (record === undefined) return { kind: 'unknown', owner: `the VM in ${path}` };
  const kind = record.storeUID === storeUID ? 'gone' : 'another-store';
  return { kind, owner: `VM ${keyOf(record)} in ${path}` };
}

/** By records, whoever wrote them, and by the specs of the Hosts' VMs, whether they were noted on the host or not. */
export function claimsIn(sight: WholeSight, known: Known): Claim[] {
  const noted = sight.folders.flatMap((folder) => {
    const { owner } = ownerOf({ path: folder.path, folder }, sight, known);
    const disks = folder.record.kind === 'readable' ? Object.values(folder.record.record.disks) : [];
    return disks.map(({ path }) => ({ path, owner }));
  });
  const wanted = ownPlaces(sight.hosts, known.vms).flatMap(({ vm, host }) =>
    effectiveSpec(vm, host).disks.map(({ path }) => ({ path, owner: nameOf(vm) })),
  );
  return [...noted, ...wanted];
}

function ownPlaces(hosts: readonly Host[], vms: readonly VirtualMachine[]) {
  return vms.flatMap((vm) => {
    const host = hosts.find(({ metadata }) => metadata.name === vm.spec.hostName);
    return host === undefined ? [] : [{ vm, host, place: placeOf(vm, host).folder }];
  });
}

function nameOf({ metadata, spec }: VirtualMachine): string {
  return `VM ${keyOf(metadata)} on Host ${spec.hostName}`;
}

const TIMEOUT_MS = 10_000;

const REAL = `for f in "$@"; do printf '%s\\0' "$(readlink -m -- "$f" || printf %s "$f")"; done`;

/** By the file that a path really leads to. @throws what Shell.run throws */
export async function claimsByFile(
  shell: Shell,
  claims: readonly Claim[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, string>> {
  if (claims.length === 0) return new Map();
  const paths = claims.map(({ path }) => path);
  const { stdout } = await shell.run(REAL, paths, { timeoutMs: TIMEOUT_MS, signal });
  const real = stdout.toString('utf8').split('\0');
  return new Map(claims.map(({ owner }, index) => [real[index] ?? '', owner]));
}
