/**
 * A VirtualMachine with every default resolved against its Host: what is really wanted there. Pure, so that the
 * loop, `plan` and the tools foresee the same.
 */
import { createHash } from 'node:crypto';
import type { Host } from './host.ts';
import { parseQuantity, toMiB } from './quantity.ts';
import type { Architecture, DiskFormat, VirtualMachine, VirtualMachineSpec } from './virtual-machine.ts';

/** All that a QEMU process is started from. The launch record keeps it; the difference to it is what is pending. */
export interface LaunchSpec {
  readonly uuid: string;
  readonly architecture: Architecture;
  readonly vcpus: number;
  readonly memoryMiB: number;
  readonly firmware: 'BIOS' | 'UEFI';
  readonly accelerator: 'Auto' | 'KVM' | 'TCG';
  readonly disks: readonly { readonly name: string; readonly path: string; readonly format: DiskFormat }[];
  readonly cdroms: readonly { readonly name: string; readonly path: string }[];
  readonly networks: readonly { readonly name: string; readonly mac: string }[];
  readonly vnc: boolean;
}

export interface EffectiveDisk {
  readonly name: string;
  readonly path: string;
  readonly format: DiskFormat;
  /** Absent: the size of the existing file. */
  readonly sizeBytes?: number;
  readonly reclaimPolicy?: 'Delete' | 'Retain';
}

export interface EffectiveSpec {
  readonly vmName: string;
  readonly vmDir: string;
  /** `<vmDir>/<vmName>`: the VM's own folder. */
  readonly folder: string;
  readonly disks: readonly EffectiveDisk[];
  readonly launch: LaunchSpec;
}

/** The names of our own files in a VM's folder; a disk may not be one of them. */
export const FOLDER_FILES = {
  record: '.qemu-operator.json',
  pidfile: 'qemu.pid',
  log: 'qemu.log',
  stop: 'stop.json',
  monitor: 'qmp.sock',
  userMonitor: 'qmp-user.sock',
  console: 'console.sock',
  consoleLog: 'console.log',
  consoleHolder: 'console.holder',
  vnc: 'vnc.sock',
  agent: 'agent.sock',
  firmwareVariables: 'efivars.fd',
} as const;

/** Name of the marker in a vmDir. */
export const MARKER_FILE = '.qemu-operator.json';

export function vmNameOf(vm: Pick<VirtualMachine, 'metadata' | 'spec'>): string {
  return vm.spec.vmName ?? vm.metadata.name;
}

/**
 * @param uuid the one kept in the VM's record, used where the spec says none; absent before its first launch
 */
export function effectiveSpec(vm: VirtualMachine, host: Pick<Host, 'spec'>, uuid?: string): EffectiveSpec {
  const { spec } = vm;
  const vmName = vmNameOf(vm);
  const vmDir = spec.vmDir ?? host.spec.vmDir;
  const folder = vmDir === '/' ? `/${vmName}` : `${vmDir}/${vmName}`;
  const disks = (spec.disks ?? []).map((disk): EffectiveDisk => {
    const sizeBytes = disk.size === undefined ? undefined : parseQuantity(disk.size);
    return {
      name: disk.name,
      path: disk.path ?? `${folder}/${disk.name}.${disk.format}`,
      format: disk.format,
      // qemu-img works in sectors.
      ...(sizeBytes === undefined ? {} : { sizeBytes: Math.ceil(sizeBytes / 512) * 512 }),
      ...(disk.reclaimPolicy === undefined ? {} : { reclaimPolicy: disk.reclaimPolicy }),
    };
  });
  return { vmName, vmDir, folder, disks, launch: launchSpec(spec, disks, spec.uuid ?? uuid ?? vm.metadata.uid) };
}

function launchSpec(spec: VirtualMachineSpec, disks: readonly EffectiveDisk[], uuid: string): LaunchSpec {
  const cdroms = (spec.cdroms ?? []).map(({ name, path }) => ({ name, path }));
  const networks = spec.networks ?? [{ name: 'net0', user: {} }];
  return {
    uuid,
    architecture: spec.architecture,
    vcpus: spec.vcpus,
    memoryMiB: toMiB(parseQuantity(spec.memory) ?? 0),
    firmware: spec.firmware?.type ?? (spec.architecture === 'arm64' ? 'UEFI' : 'BIOS'),
    accelerator: spec.accelerator,
    disks: disks.map(({ name, path, format }) => ({ name, path, format })),
    cdroms,
    networks: networks.map(({ name, mac }) => ({ name, mac: mac ?? derivedMac(uuid, name) })),
    vnc: spec.graphics === undefined ? cdroms.length > 0 : spec.graphics.vnc !== undefined,
  };
}

/** A stable address of QEMU's own range, 52:54:00, for one interface of one VM. */
function derivedMac(uuid: string, name: string): string {
  const hash = createHash('sha256').update(`${uuid}/${name}`).digest('hex');
  return `52:54:00:${hash.slice(0, 2)}:${hash.slice(2, 4)}:${hash.slice(4, 6)}`;
}

export interface PendingChange {
  /** As in `spec.disks[root].path`. */
  readonly path: string;
  readonly from?: string;
  readonly to?: string;
}

/** What a running process lacks of the wanted spec, over fields that both versions know. */
export function pendingChanges(launched: LaunchSpec, wanted: LaunchSpec): PendingChange[] {
  const changes: PendingChange[] = [];
  const compare = (path: string, from: unknown, to: unknown) => {
    if (from === undefined || from === to) return;
    changes.push({ path, from: String(from), to: String(to) });
  };
  compare('spec.uuid', launched.uuid, wanted.uuid);
  compare('spec.vcpus', launched.vcpus, wanted.vcpus);
  compare('spec.memory', mebibytes(launched.memoryMiB), mebibytes(wanted.memoryMiB));
  compare('spec.firmware.type', launched.firmware, wanted.firmware);
  compare('spec.accelerator', launched.accelerator, wanted.accelerator);
  compare('spec.graphics.vnc', launched.vnc, wanted.vnc);
  compareLists('spec.disks', launched.disks, wanted.disks, ({ path, format }) => `${path} (${format})`, changes);
  compareLists('spec.cdroms', launched.cdroms, wanted.cdroms, ({ path }) => path, changes);
  compareLists('spec.networks', launched.networks, wanted.networks, ({ mac }) => mac, changes);
  return changes;
}

function mebibytes(count: number | undefined): string | undefined {
  return count === undefined ? undefined : `${count}Mi`;
}

function compareLists<T extends { readonly name: string }>(
  path: string,
  launched: readonly T[] | undefined,
  wanted: readonly T[],
  show: (entry: T) => string,
  changes: PendingChange[],
): void {
  if (launched === undefined) return;
  for (const name of new Set([...launched, ...wanted].map((entry) => entry.name))) {
    const from = launched.find((entry) => entry.name === name);
    const to = wanted.find((entry) => entry.name === name);
    if (from !== undefined && to !== undefined && show(from) === show(to)) continue;
    changes.push({
      path: `${path}[${name}]`,
      ...(from === undefined ? {} : { from: show(from) }),
      ...(to === undefined ? {} : { to: show(to) }),
    });
  }
  const order = (list: readonly T[]) => list.map((entry) => entry.name).join(', ');
  const sameNames =
    launched.length === wanted.length && launched.every(({ name }) => wanted.some((entry) => entry.name === name));
  if (sameNames && order(launched) !== order(wanted)) changes.push({ path, from: order(launched), to: order(wanted) });
}

/** A short stable digest of what a process would be started from: a crash back-off ends when it changes. */
export function launchDigest(spec: LaunchSpec): string {
  return createHash('sha256').update(JSON.stringify(spec)).digest('hex').slice(0, 16);
}
