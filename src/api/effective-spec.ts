/**
 * A VirtualMachine with every default resolved against its Host: what is really wanted there. Pure, so that the
 * loop, `plan` and the tools foresee the same.
 */
import { createHash } from 'node:crypto';
import { cloudInitChanges, type LaunchCloudInit, launchCloudInit } from './cloud-init.ts';
import type { Host } from './host.ts';
import type { HostForward } from './networks.ts';
import { parseQuantity, toMiB } from './quantity.ts';
import type { Architecture, DiskFormat, DiskSpec, VirtualMachine, VirtualMachineSpec } from './virtual-machine.ts';

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
  readonly networks: readonly LaunchNetwork[];
  readonly vnc: boolean;
  /** Absent: no seed. */
  readonly cloudInit?: LaunchCloudInit | undefined;
}

/** What a disk is made from: exactly one of url and path. */
export interface EffectiveImage {
  readonly url?: string;
  readonly path?: string;
  readonly checksum?: { readonly algorithm: 'sha256' | 'sha512'; readonly digest: string };
}

/** User-mode where no bridge is named. */
export interface LaunchNetwork {
  readonly name: string;
  readonly mac: string;
  readonly bridge?: string | undefined;
  /** Absent: none. */
  readonly forwards?: readonly HostForward[] | undefined;
}

/** The forwards of a launch, with the name of their network. */
export function forwardsOf({ networks }: LaunchSpec): (HostForward & { readonly network: string })[] {
  return networks.flatMap(({ name, forwards = [] }) => forwards.map((forward) => ({ ...forward, network: name })));
}

export interface EffectiveDisk {
  readonly name: string;
  readonly path: string;
  readonly format: DiskFormat;
  /** Absent: the size of the existing file or of the image. */
  readonly sizeBytes?: number;
  readonly image?: EffectiveImage;
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
  // A seed that a person made may well be `seed.iso`.
  seed: '.qemu-operator.seed.iso',
  job: 'job.json',
  jobScript: 'job.sh',
  jobLock: 'job.lock',
  jobHeaders: 'job.headers',
  jobErrors: 'job.err',
} as const;

/** How the files begin that hold a picture of the screen for a moment. */
export const SCREENSHOT_PREFIX = '.screenshot.';

/** Name of the marker in a vmDir. */
export const MARKER_FILE = '.qemu-operator.json';

/** Name of the folder in a vmDir that keeps the images which were fetched, each under its checksum. */
export const IMAGES_FOLDER = '.qemu-operator.images';

export function vmNameOf(vm: Pick<VirtualMachine, 'metadata' | 'spec'>): string {
  return vm.spec.vmName ?? vm.metadata.name;
}

/** Where a VM lies: its vmDir, and its own folder in it. */
export function placeOf(
  vm: Pick<VirtualMachine, 'metadata' | 'spec'>,
  host: Pick<Host, 'spec'>,
): Pick<EffectiveSpec, 'vmDir' | 'folder'> {
  const vmDir = vm.spec.vmDir ?? host.spec.vmDir;
  return { vmDir, folder: vmDir === '/' ? `/${vmNameOf(vm)}` : `${vmDir}/${vmNameOf(vm)}` };
}

/**
 * @param uuid the one kept in the VM's record, used where the spec says none; absent before its first launch
 * @param secretDigest of the value that cloudInit.userDataSecretRef names; absent where nobody looked or it is not there
 */
export function effectiveSpec(
  vm: VirtualMachine,
  host: Pick<Host, 'spec'>,
  uuid?: string,
  secretDigest?: string,
): EffectiveSpec {
  const { spec } = vm;
  const vmName = vmNameOf(vm);
  const { vmDir, folder } = placeOf(vm, host);
  const disks = (spec.disks ?? []).map((disk): EffectiveDisk => {
    const sizeBytes = disk.size === undefined ? undefined : parseQuantity(disk.size);
    return {
      name: disk.name,
      path: disk.path ?? `${folder}/${disk.name}.${disk.format}`,
      format: disk.format,
      // qemu-img works in sectors.
      ...(sizeBytes === undefined ? {} : { sizeBytes: Math.ceil(sizeBytes / 512) * 512 }),
      ...(disk.image === undefined ? {} : { image: effectiveImage(disk.image) }),
      ...(disk.reclaimPolicy === undefined ? {} : { reclaimPolicy: disk.reclaimPolicy }),
    };
  });
  const launch = launchSpec(spec, disks, spec.uuid ?? uuid ?? vm.metadata.uid);
  const cloudInit = spec.cloudInit && launchCloudInit(spec.cloudInit, vm.metadata, secretDigest);
  return { vmName, vmDir, folder, disks, launch: cloudInit === undefined ? launch : { ...launch, cloudInit } };
}

function effectiveImage({ url, path, checksum }: NonNullable<DiskSpec['image']>): EffectiveImage {
  const [algorithm, digest] = (checksum?.split(':') ?? []) as ['sha256' | 'sha512', string];
  return {
    ...(url === undefined ? {} : { url }),
    ...(path === undefined ? {} : { path }),
    ...(checksum === undefined ? {} : { checksum: { algorithm, digest } }),
  };
}

function launchSpec(spec: VirtualMachineSpec, disks: readonly EffectiveDisk[], uuid: string): LaunchSpec {
  const cdroms = (spec.cdroms ?? []).map(({ name, path }) => ({ name, path }));
  const networks: NonNullable<VirtualMachineSpec['networks']> = spec.networks ?? [{ name: 'net0', user: {} }];
  return {
    uuid,
    architecture: spec.architecture,
    vcpus: spec.vcpus,
    memoryMiB: toMiB(parseQuantity(spec.memory) ?? 0),
    firmware: spec.firmware?.type ?? (spec.architecture === 'arm64' ? 'UEFI' : 'BIOS'),
    accelerator: spec.accelerator,
    disks: disks.map(({ name, path, format }) => ({ name, path, format })),
    cdroms,
    networks: networks.map(({ name, mac, user, bridge }) => ({
      name,
      mac: mac ?? derivedMac(uuid, name),
      ...(bridge === undefined ? {} : { bridge: bridge.name }),
      ...(user?.hostForwards === undefined || user.hostForwards.length === 0 ? {} : { forwards: user.hostForwards }),
    })),
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
  readonly from?: string | undefined;
  readonly to?: string | undefined;
}

/**
 * What a running process lacks of the wanted spec until its next start, over fields that both versions know.
 * Forwards are none: they follow the spec at once.
 */
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
  compareLists('spec.networks', launched.networks, wanted.networks, networkWords, changes);
  return [...changes, ...cloudInitChanges(launched.cloudInit, wanted.cloudInit)];
}

function networkWords({ mac, bridge }: LaunchNetwork): string {
  return bridge === undefined ? mac : `${mac} (bridge ${bridge})`;
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
  return createHash('sha256')
    .update(JSON.stringify(asAsked(spec)))
    .digest('hex')
    .slice(0, 16);
}

/** Without the ports that were chosen: another choice is no other spec. */
function asAsked(spec: LaunchSpec): LaunchSpec {
  const networks = spec.networks.map(({ forwards, ...network }) => ({
    ...network,
    ...(forwards === undefined
      ? {}
      : {
          forwards: forwards.map(({ allocated, hostPort, protocol, hostAddress, guestPort }) => ({
            protocol,
            hostAddress,
            ...(allocated === true || hostPort === undefined ? {} : { hostPort }),
            guestPort,
          })),
        }),
  }));
  return { ...spec, networks };
}
