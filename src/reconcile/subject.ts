/** From a look at a host to the subject of one VM's decision. Pure. */
import type { SeedContent } from '../api/cloud-init.ts';
import { type EffectiveSpec, effectiveSpec, vmNameOf } from '../api/effective-spec.ts';
import type { Host } from '../api/host.ts';
import { keyOf } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { PortClaim, SeenSecret, SeenVm, Subject } from './decision.ts';
import type { VmContext } from './driver.ts';
import { joinsBySudo } from './network.ts';
import type { HeardEnd, SeenFolder, SeenHost } from './observed.ts';
import { recordedSpec } from './recorded-spec.ts';

export interface Surroundings {
  readonly host: Host;
  readonly seen: SeenHost;
  /** All VMs that name this host. */
  readonly siblings: readonly VirtualMachine[];
  /** VMs of other Hosts that are the same machine. */
  readonly foreignVms: readonly VirtualMachine[];
  readonly uidExists: (uid: string) => boolean;
  /** What cloudInit names; absent where it names none. */
  readonly secret?: SeenSecret | undefined;
  readonly heardEnd: (folder: string) => HeardEnd | undefined;
}

/** What is wanted of a VM, with the uuid that its record keeps where a look has shown one. */
export function wantedOf(vm: VirtualMachine, host: Host, seen?: SeenHost, secret?: SeenSecret): EffectiveSpec {
  const digest = secret?.kind === 'present' ? secret.digest : undefined;
  const wanted = effectiveSpec(vm, host, undefined, digest);
  const record = seen?.folders.get(wanted.folder)?.record;
  if (vm.spec.uuid !== undefined || record?.kind !== 'readable' || record.record.uid !== vm.metadata.uid) return wanted;
  return effectiveSpec(vm, host, record.record.uuid, digest);
}

export function subjectOf(vm: VirtualMachine, around: Surroundings): Subject {
  const { host, seen, secret } = around;
  const wanted = wantedOf(vm, host, seen, secret);
  const others = [...seen.folders.values()].filter(({ path }) => path !== wanted.folder);
  // One vmDir may be known to two Hosts by two names: what it holds of this VM is no other's.
  const isOwn = ({ record }: SeenFolder) => record.kind === 'readable' && record.record.uid === vm.metadata.uid;
  const foreign = [...seen.foreignFolders.values()].filter((folder) => !isOwn(folder));
  const real = (path: string) => realPath(path, seen);
  const claims = new Map([
    ...hiddenClaimsOf(around.foreignVms, seen, real),
    ...claimsOf([...others, ...foreign], real),
  ]);
  const folder = seen.folders.get(wanted.folder);
  const seenVm: SeenVm = {
    at: seen.at,
    bootID: seen.bootID,
    machineID: seen.machineID,
    vmDir: seen.vmDirs.get(wanted.vmDir) ?? { path: wanted.vmDir, state: 'absent', marker: { kind: 'absent' } },
    folder,
    files: seen.files,
    claims,
    sharedDisks: sharedDisksOf(folder, (path) => claims.get(real(path))),
    // A folder without a record is nobody's: an ISO or an image may well lie in one.
    otherFolders: new Set(
      [...others, ...foreign].filter(({ record }) => record.kind !== 'absent').map(({ path }) => real(path)),
    ),
    ports: seen.ports,
    portClaims: others.flatMap(portClaimsOf),
    bridges: seen.bridges,
    facts: seen.facts,
    secret,
    heard: around.heardEnd(wanted.folder),
    olderRival: olderRivalOf(vm, around.siblings),
    namesake: namesakeOf(wanted.vmName, others, around),
    uidExists: around.uidExists,
  };
  return { vm, host, wanted, seen: seenVm };
}

/** Whom an effect is for, as the look showed it that the action was decided on. */
export function contextOf(subject: Subject, storeUID: string, seed: SeedContent | undefined): VmContext {
  const { vm, wanted, seen } = subject;
  const { uid, namespace, name } = vm.metadata;
  const { folder, facts } = seen;
  return {
    storeUID,
    uid,
    namespace,
    name,
    wanted,
    spec: recordedSpec(vm.spec),
    record: folder?.record.kind === 'readable' ? folder.record.record : undefined,
    process: folder?.process ?? { kind: 'absent', pidfileLeft: false },
    stop: folder?.stop,
    facts,
    sudo: joinsBySudo(subject),
    seed,
  };
}

/** With symbolic links resolved: as it was asked for, else through the vmDir that it lies in. */
function realPath(path: string, { files, vmDirs }: SeenHost): string {
  const asked = files.get(path)?.resolved;
  if (asked !== undefined) return asked;
  const vmDir = [...vmDirs.keys()].find((dir) => path.startsWith(`${dir}/`));
  return vmDir === undefined ? path : (files.get(vmDir)?.resolved ?? vmDir) + path.slice(vmDir.length);
}

/** Who has this vmName in another vmDir. A folder that no object stands for blocks nobody. */
function namesakeOf(vmName: string, others: readonly SeenFolder[], { uidExists }: Surroundings): string | undefined {
  for (const { name, record } of others) {
    if (name === vmName && record.kind === 'readable' && uidExists(record.record.uid)) return keyOf(record.record);
  }
  return undefined;
}

function claimsOf(folders: readonly SeenFolder[], real: (path: string) => string): Map<string, string> {
  const claims = new Map<string, string>();
  for (const { record } of folders) {
    if (record.kind !== 'readable') continue;
    const owner = `${record.record.namespace}/${record.record.name}`;
    for (const { path } of Object.values(record.record.disks)) claims.set(real(path), owner);
  }
  return claims;
}

/** Where this user may not see the record of another Host's VM, by what that Host's own look has told of its disks. */
function hiddenClaimsOf(
  vms: readonly VirtualMachine[],
  { foreignFolders }: SeenHost,
  real: (path: string) => string,
): [string, string][] {
  if (vms.length === 0) return [];
  const records = [...foreignFolders.values()].map(({ record }) => record);
  const seen = new Set(records.flatMap((record) => (record.kind === 'readable' ? record.record.uid : [])));
  return vms
    .filter(({ metadata }) => !seen.has(metadata.uid))
    .flatMap(({ metadata, status }) =>
      (status?.disks ?? [])
        .filter(({ state }) => !NOT_NOTED.has(state))
        .map(({ path }): [string, string] => [real(path), keyOf(metadata)]),
    );
}

type DiskState = NonNullable<NonNullable<VirtualMachine['status']>['disks']>[number]['state'];
const NOT_NOTED: ReadonlySet<DiskState> = new Set<DiskState>(['Pending', 'Deleted', 'Kept']);

/** By path, the disks of its record that somebody else has as well. */
function sharedDisksOf(
  folder: SeenFolder | undefined,
  ownerOf: (path: string) => string | undefined,
): Map<string, string> {
  const disks = folder?.record.kind === 'readable' ? Object.values(folder.record.record.disks) : [];
  return new Map(
    disks.flatMap(({ path }): [string, string][] => {
      const owner = ownerOf(path);
      return owner === undefined ? [] : [[path, owner]];
    }),
  );
}

/** A port that was chosen stays a VM's own; one that was asked for is, while it runs. */
function portClaimsOf({ record: state, process }: SeenFolder): PortClaim[] {
  if (state.kind !== 'readable') return [];
  const { record } = state;
  const running = process.kind === 'present' ? (record.launch?.spec.networks ?? []) : [];
  const forwards = [...(record.ports ?? []), ...running.flatMap(({ forwards = [] }) => forwards)];
  return forwards.flatMap(({ protocol, hostAddress, hostPort }) =>
    hostPort === undefined ? [] : [{ protocol, hostAddress, hostPort, owner: keyOf(record) }],
  );
}

/** (host, vmName) is unique over all vmDirs; without a record the older object wins. */
function olderRivalOf(vm: VirtualMachine, siblings: readonly VirtualMachine[]): string | undefined {
  const name = vmNameOf(vm);
  const age = ({ metadata }: VirtualMachine) => `${metadata.creationTimestamp} ${metadata.uid}`;
  const rival = siblings.find(
    (other) => other.metadata.uid !== vm.metadata.uid && vmNameOf(other) === name && age(other) < age(vm),
  );
  return rival === undefined ? undefined : keyOf(rival.metadata);
}
