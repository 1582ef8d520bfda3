/**
 * The manifest of a QEMU process that somebody started by hand: at its next start it is a VM of ours, on the same
 * disks. Nothing of it is touched.
 */
import { oneLine } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import { API_VERSION } from '../api/meta.ts';
import type { DiskFormat } from '../api/virtual-machine.ts';
import type { Shell } from '../host/shell.ts';
import { type ForeignVm, readArgv } from '../qemu/argv.ts';
import type { ForeignDisk } from '../qemu/argv-drives.ts';
import type { ForeignNetwork } from '../qemu/argv-networks.ts';
import { parseImageHeader } from '../qemu/image-header.ts';
import { type Claim, claimsByFile } from './claims.ts';
import { type FoundFile, findFiles } from './files.ts';
import { foreignFormat } from './foreign-format.ts';
import type { QemuProcess } from './machine.ts';

export interface Stranger {
  readonly process: QemuProcess;
  readonly vm: ForeignVm;
}

export function strangerOf(process: QemuProcess): Stranger {
  return { process, vm: readArgv(process.argv) };
}

export interface Imported {
  readonly manifest: {
    readonly apiVersion: string;
    readonly kind: 'VirtualMachine';
    readonly metadata: { readonly name: string; readonly namespace: string };
    /** As a person would write it. */
    readonly spec: Readonly<Record<string, unknown>>;
  };
  /** One sentence each; none has a value of the command line that is not understood. */
  readonly warnings: readonly string[];
  readonly refusals: readonly string[];
}

export interface Place {
  readonly host: Host;
  readonly shell: Shell;
  readonly name: string;
  readonly namespace: string;
  /** What the VMs of the machine have already. */
  readonly claims: readonly Claim[];
}

/** @throws what Shell.run throws */
export async function imported(stranger: Stranger, place: Place, signal: AbortSignal): Promise<Imported> {
  const { process, vm } = stranger;
  const warnings = [...vm.warnings];
  const refusals = [...vm.refusals];
  const { cwd } = process;
  const media = [...vm.disks, ...vm.cdroms];
  if (cwd === undefined && media.some(({ path }) => !path.startsWith('/')))
    refusals.push(
      'its disks are named from a folder that this user may not know: ask as the user that runs it, or as root',
    );
  const { shell, claims } = place;
  const files = refusals.length > 0 ? [] : await findFiles(shell, process, media, signal);
  const owners = files.length === 0 ? new Map() : await claimsByFile(shell, claims, signal);
  const judged = files.map((file, index) => judge(file, media[index], owners.get(file.real)));
  for (const { warning, refusal } of judged) {
    if (warning !== undefined) warnings.push(warning);
    if (refusal !== undefined) refusals.push(refusal);
  }
  const disks = judged.slice(0, vm.disks.length);
  const cdroms = judged.slice(vm.disks.length);
  if (vm.uuid === undefined) warnings.push('it has no -uuid: it gets one of its own');
  const { host, name, namespace } = place;
  return {
    manifest: {
      apiVersion: API_VERSION,
      kind: 'VirtualMachine',
      metadata: { name, namespace },
      spec: specOf(vm, host, disks, cdroms),
    },
    warnings,
    refusals,
  };
}

interface Judged {
  readonly path: string;
  readonly format: DiskFormat;
  readonly warning?: string;
  readonly refusal?: string;
}

/** By its header, as the rules for existing disks have it. @param owner whose disk it is already */
function judge(file: FoundFile, medium: ForeignDisk | undefined, owner: string | undefined): Judged {
  const { named } = file;
  const path = named === file.real || !named.includes('/../') ? named : file.real;
  const shown = oneLine(path, 300);
  const header = parseImageHeader(file.head, file.real);
  const format = medium?.format ?? header.format;
  const refuse = (refusal: string): Judged => ({ path, format, refusal: `${shown} ${refusal}` });
  if (owner !== undefined) return refuse(`is a disk of ${owner}`);
  if (file.kind === 'absent' && medium?.path.startsWith('/') === false)
    return refuse(
      'is not there: it was named from a folder that QEMU has left; start it again with the absolute path of the file',
    );
  if (file.kind === 'absent')
    return refuse('is not there: the process has it in a file system of its own, or it was removed');
  if (file.kind === 'other') return refuse('is neither a regular file nor a block device');
  if (!file.readable) return refuse('cannot be read by the user that would run it');
  const other = medium?.format === undefined ? foreignFormat(file.head) : undefined;
  if (other !== undefined)
    return refuse(`is a ${other} image; convert it, and change its command line: qemu-img convert -O qcow2`);
  if (medium?.format !== undefined && medium.format !== header.format)
    return refuse(`is given to its guest as ${medium.format}, and its header is that of a ${header.format} image`);
  if (file.isOpen === false)
    return {
      path,
      format,
      warning: `${shown} is not the file that the process has open now: look before you start it`,
    };
  if (format === 'qcow2' && header.refersTo !== undefined)
    return {
      path,
      format,
      warning: `${shown} stands on ${oneLine(header.refersTo, 300)}, which must stay where it is`,
    };
  return { path, format };
}

function specOf(
  vm: ForeignVm,
  host: Host,
  disks: readonly Judged[],
  cdroms: readonly Judged[],
): Imported['manifest']['spec'] {
  const own = vm.architecture === 'arm64' ? 'UEFI' : 'BIOS';
  return {
    hostName: host.metadata.name,
    ...(vm.uuid === undefined ? {} : { uuid: vm.uuid }),
    architecture: vm.architecture,
    powerState: 'PoweredOff',
    vcpus: vm.vcpus,
    memory: `${vm.memoryMiB}Mi`,
    ...(vm.firmware === own ? {} : { firmware: { type: vm.firmware } }),
    ...(vm.accelerator === 'Auto' ? {} : { accelerator: vm.accelerator }),
    ...(disks.length === 0
      ? {}
      : {
          disks: disks.map(({ path, format }, index) => ({
            name: `disk${index}`,
            path,
            format,
            reclaimPolicy: 'Retain',
          })),
        }),
    ...(cdroms.length === 0 ? {} : { cdroms: cdroms.map(({ path }, index) => ({ name: `cdrom${index}`, path })) }),
    networks: vm.networks.map(networkOf),
    graphics: vm.vnc ? { vnc: {} } : {},
  };
}

function networkOf({ mac, bridge, forwards }: ForeignNetwork, index: number) {
  const hostForwards = forwards.map((forward) => ({ ...forward }));
  return {
    name: `net${index}`,
    ...(bridge === undefined
      ? { user: hostForwards.length === 0 ? {} : { hostForwards } }
      : { bridge: { name: bridge } }),
    mac,
  };
}
