/** What a look says of a Host. Pure. Volatile figures ride with the next real change, at least every five minutes. */
import { isDeepStrictEqual } from 'node:util';
import { conditionsFrom } from '../api/conditions.ts';
import type { Host, HostStatus } from '../api/host.ts';
import { formatQuantity, parseQuantity } from '../api/quantity.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { VmDirDecision } from './decide-host.ts';
import { clockTime } from './decision.ts';
import { findingsOf } from './host-conditions.ts';
import type { Look, SeenFolder, SeenHost } from './observed.ts';

const MAX_LISTED = 50;
const MIB = 1024 * 1024;
const ROUND_BYTES = 1024 * 1024 * 1024;

export interface HostPass {
  readonly look: Look;
  /** The verdict on the Host's own vmDir; undefined where the host was not seen. */
  readonly vmDir: VmDirDecision | undefined;
  readonly vms: readonly VirtualMachine[];
  /** Our clock, for a host that cannot be seen. */
  readonly now: number;
  /** Whether the volatile figures are due. */
  readonly refresh: boolean;
}

export function hostStatusOf(host: Host, pass: HostPass): HostStatus {
  const { look } = pass;
  const at = clockTime(look.kind === 'seen' ? look.host.at : pass.now);
  const generation = host.metadata.generation;
  const conditions = conditionsFrom(findingsOf(host, pass), host.status?.conditions, at, generation);
  if (look.kind === 'cannot-see') return { ...host.status, observedGeneration: generation, conditions };
  const seen = look.host;
  const next: HostStatus = {
    observedGeneration: generation,
    conditions,
    info: infoOf(host, seen),
    allocated: allocatedOf(pass.vms),
    vms: { managed: pass.vms.length, running: runningOf(pass.vms, seen), strangers: seen.strangers.length },
    ...(seen.strangers.length === 0
      ? {}
      : { strangers: seen.strangers.slice(0, MAX_LISTED).map((stranger) => ({ ...stranger })) }),
    ...unclaimedOf(pass.vms, seen),
    ...(seen.connection === undefined ? {} : { ssh: { hostKey: seen.connection.hostKey } }),
    roundTripMs: seen.roundTripMs,
  };
  return keepVolatile(host.status, next, pass.refresh);
}

function infoOf(host: Host, { facts, machineID, vmDirs }: SeenHost): NonNullable<HostStatus['info']> {
  const vmDir = vmDirs.get(host.spec.vmDir);
  return {
    os: facts.os,
    kernel: facts.kernel,
    architecture: facts.architecture,
    machineID,
    cpus: facts.cpus,
    memory: `${Math.floor(facts.memoryBytes / MIB)}Mi`,
    ...(vmDir?.freeBytes === undefined || vmDir.totalBytes === undefined
      ? {}
      : {
          vmDir: { freeBytes: Math.floor(vmDir.freeBytes / ROUND_BYTES) * ROUND_BYTES, totalBytes: vmDir.totalBytes },
        }),
    qemu: Object.fromEntries(Object.entries(facts.qemu).map(([architecture, { version }]) => [architecture, version])),
    kvm: facts.kvm.works,
    kvmReason: facts.kvm.reason.slice(0, 256),
  };
}

function allocatedOf(vms: readonly VirtualMachine[]): NonNullable<HostStatus['allocated']> {
  const on = vms.filter(({ spec }) => spec.powerState === undefined || spec.powerState === 'PoweredOn');
  return {
    vcpus: on.reduce((sum, { spec }) => sum + spec.vcpus, 0),
    memory: formatQuantity(on.reduce((sum, { spec }) => sum + (parseQuantity(spec.memory) ?? 0), 0)),
  };
}

/** Whether a folder is of one of these VMs. */
function ownedBy(vms: readonly VirtualMachine[]): (folder: SeenFolder) => boolean {
  const uids = new Set(vms.map(({ metadata }) => metadata.uid));
  return ({ record }) => record.kind === 'readable' && uids.has(record.record.uid);
}

function runningOf(vms: readonly VirtualMachine[], seen: SeenHost): number {
  const isOwned = ownedBy(vms);
  return [...seen.folders.values()].filter((folder) => folder.process.kind === 'present' && isOwned(folder)).length;
}

/** VM folders without an object: what `list_vms` shows as not managed. */
function unclaimedOf(vms: readonly VirtualMachine[], seen: SeenHost): Pick<HostStatus, 'unclaimed'> {
  const isOwned = ownedBy(vms);
  const unclaimed = [...seen.folders.values()].filter((folder) => folder.record.kind !== 'absent' && !isOwned(folder));
  if (unclaimed.length === 0) return {};
  return {
    unclaimed: unclaimed.slice(0, MAX_LISTED).map((folder) => {
      const record = folder.record.kind === 'readable' ? folder.record.record : undefined;
      const launch = record?.launch?.spec;
      return {
        name: folder.name.slice(0, 128),
        vmDir: folder.vmDir,
        ...(record === undefined ? {} : { uid: record.uid.slice(0, 64) }),
        running: folder.process.kind === 'present',
        ...(launch === undefined
          ? {}
          : { architecture: launch.architecture, vcpus: launch.vcpus, memory: `${launch.memoryMiB}Mi` }),
        ...(record === undefined
          ? {}
          : {
              disks: Object.values(record.disks)
                .slice(0, 32)
                .map(({ path, sizeBytes }) => ({
                  path,
                  ...(sizeBytes === undefined ? {} : { size: formatQuantity(sizeBytes) }),
                })),
            }),
      };
    }),
  };
}

/** A status that differs in nothing but volatile figures stays as it is, unless they are due. */
function keepVolatile(previous: HostStatus | undefined, next: HostStatus, refresh: boolean): HostStatus {
  if (previous === undefined || refresh) return next;
  const calm = ({ roundTripMs: _r, info, ...rest }: HostStatus) => ({ ...rest, info: { ...info, vmDir: undefined } });
  return isDeepStrictEqual(JSON.parse(JSON.stringify(calm(previous))), JSON.parse(JSON.stringify(calm(next))))
    ? previous
    : next;
}
