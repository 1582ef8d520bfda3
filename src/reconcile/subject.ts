/** From a look at a host to the subject of one VM's decision. Pure. */
import type { SeedContent } from '../api/cloud-init.ts';
import { type EffectiveSpec, effectiveSpec, forwardsOf, vmNameOf } from '../api/effective-spec.ts';
import type { Host } from '../api/host.ts';
import { keyOf } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { PortClaim, SeenNamespace, SeenSecret, SeenVm, Subject } from './decision.ts';
import type { VmContext } from './driver.ts';
import { joinsBySudo } from './network.ts';
import type { HeardEnd, SeenFolder, SeenHost } from './observed.ts';
import { inside } from './paths.ts';
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
  /** Absent where the Host does not ask for it. */
  readonly namespace?: SeenNamespace | undefined;
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
  const { uid } = vm.metadata;
  const { claims, folders } = holdingsOf(seen, around.foreignVms);
  const real = (path: string) => realPath(path, seen);
  // One vmDir may be known to two Hosts by two names: what it holds of this VM is no other's.
  const isOther = (one: Holder) => one.folder !== wanted.folder && !(one.isForeign && one.uid === uid);
  const ownerOf = (path: string) => claims.get(path)?.findLast(isOther)?.owner;
  const folder = seen.folders.get(wanted.folder);
  const seenVm: SeenVm = {
    at: seen.at,
    bootID: seen.bootID,
    machineID: seen.machineID,
    vmDir: seen.vmDirs.get(wanted.vmDir) ?? { path: wanted.vmDir, state: 'absent', marker: { kind: 'absent' } },
    folder,
    files: seen.files,
    ownerOf,
    sharedDisks: sharedDisksOf(folder, (path) => ownerOf(real(path))),
    otherFolderWith: (path) => folders.find((one) => isOther(one) && inside(path, one.path))?.path,
    ports: seen.ports,
    portClaims: portClaimsOf(seen, wanted),
    bridges: seen.bridges,
    facts: seen.facts,
    secret,
    namespace: around.namespace,
    heard: around.heardEnd(wanted.folder),
    olderRival: olderRivalOf(vm, around.siblings),
    namesake: namesakeOf(wanted, around),
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
function namesakeOf({ vmName, folder }: EffectiveSpec, { seen, uidExists }: Surroundings): string | undefined {
  for (const { name, path, record } of seen.folders.values()) {
    if (name !== vmName || path === folder || record.kind !== 'readable') continue;
    if (uidExists(record.record.uid)) return keyOf(record.record);
  }
  return undefined;
}

/** Whose something is: the folder of its record, and whom that record is of. */
interface Holder {
  readonly folder: string;
  readonly uid: string | undefined;
  readonly owner: string;
  readonly isForeign: boolean;
}

/** What the VMs of a machine have, each other's included. */
interface Holdings {
  /** By path, resolved, the records that name it as a disk. */
  readonly claims: ReadonlyMap<string, readonly Holder[]>;
  /** Those with a record, by their resolved path: a folder without one is nobody's, and an ISO may well lie there. */
  readonly folders: readonly (Holder & { readonly path: string })[];
}

/** Of a look they are the same for all its VMs. */
const HOLDINGS = new WeakMap<SeenHost, Holdings>();

function holdingsOf(seen: SeenHost, foreignVms: readonly VirtualMachine[]): Holdings {
  const known = HOLDINGS.get(seen);
  if (known !== undefined) return known;
  const real = (path: string) => realPath(path, seen);
  const claims = new Map<string, Holder[]>();
  const claim = (path: string, holder: Holder) => claims.set(path, [...(claims.get(path) ?? []), holder]);
  for (const [path, owner] of hiddenClaimsOf(foreignVms, seen, real))
    claim(path, { folder: '', uid: undefined, owner, isForeign: true });
  const folders: (Holder & { path: string })[] = [];
  for (const [isForeign, list] of [
    [false, seen.folders],
    [true, seen.foreignFolders],
  ] as const) {
    for (const { path: folder, record } of list.values()) {
      if (record.kind === 'absent') continue;
      const { uid, namespace, name, disks } = record.kind === 'readable' ? record.record : NOBODY;
      const holder: Holder = { folder, uid, owner: `${namespace}/${name}`, isForeign };
      folders.push({ ...holder, path: real(folder) });
      for (const { path } of Object.values(disks)) claim(real(path), holder);
    }
  }
  const holdings = { claims, folders };
  HOLDINGS.set(seen, holdings);
  return holdings;
}

/** A record that cannot be read. */
const NOBODY = { uid: undefined, namespace: '', name: '', disks: {} };

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

/**
 * A port that was chosen stays a VM's own; one that was asked for is, while it runs. Nobody asks where the VM has no
 * forwards.
 */
function portClaimsOf({ folders }: SeenHost, { folder, launch }: EffectiveSpec): PortClaim[] {
  if (forwardsOf(launch).length === 0) return [];
  return [...folders.values()].flatMap(({ path, record: state, process }) => {
    if (path === folder || state.kind !== 'readable') return [];
    const { record } = state;
    const running = process.kind === 'present' ? (record.launch?.spec.networks ?? []) : [];
    const forwards = [...(record.ports ?? []), ...running.flatMap(({ forwards = [] }) => forwards)];
    return forwards.flatMap(({ protocol, hostAddress, hostPort }) =>
      hostPort === undefined ? [] : [{ protocol, hostAddress, hostPort, owner: keyOf(record) }],
    );
  });
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
