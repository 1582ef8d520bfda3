/**
 * The manifest of a QEMU process that somebody started by hand: at its next start it is a VM of ours, on the same
 * disks. Nothing of it is touched.
 */
import { resolve } from 'node:path/posix';
import { oneLine } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import { API_VERSION } from '../api/meta.ts';
import type { DiskFormat } from '../api/virtual-machine.ts';
import type { Shell } from '../host/shell.ts';
import { type ForeignVm, readArgv } from '../qemu/argv.ts';
import type { ForeignDisk } from '../qemu/argv-drives.ts';
import type { ForeignNetwork } from '../qemu/argv-networks.ts';
import { parseImageHeader } from '../qemu/image-header.ts';
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

/** A file of the host, as the process' user may see it. */
interface FoundFile {
  readonly kind: 'file' | 'block' | 'other' | 'absent';
  readonly readable: boolean;
  readonly real: string;
  readonly head: Buffer;
  /** Whether the process has it open; undefined where nobody may know. */
  readonly isOpen?: boolean;
}

const TIMEOUT_MS = 10_000;
const HEAD_BYTES = 1024;

/** Arguments: the process, then paths. A file is the one that the process has if both lead to the same inode. */
const LOOK = `
LC_ALL=C; export LC_ALL
e() { base64 -w 0; }
fds=/proc/$1/fd; shift
known=0; [ -r "$fds" ] && [ -x "$fds" ] && known=1
for f in "$@"; do
  kind=absent; [ -e "$f" ] && kind=other; [ -f "$f" ] && kind=file; [ -b "$f" ] && kind=block
  readable=0; [ -r "$f" ] && readable=1
  open=-; [ $known = 1 ] && open=0
  for fd in "$fds"/*; do [ "$fd" -ef "$f" ] && { open=1; break; }; done
  echo "@file $kind $readable $open $(readlink -m -- "$f" | e) $(case $kind in file|block) head -c ${HEAD_BYTES} -- "$f" 2>/dev/null | e ;; esac)"
done
return 0
`;

async function look(
  shell: Shell,
  pid: number,
  paths: readonly string[],
  signal: AbortSignal,
): Promise<readonly FoundFile[]> {
  if (paths.length === 0) return [];
  const { stdout } = await shell.run(LOOK, [String(pid), ...paths], { timeoutMs: TIMEOUT_MS, signal });
  return stdout
    .toString('latin1')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([first]) => first === '@file')
    .map(([, kind, readable, open, real = '', head = '']) => ({
      kind: kind as FoundFile['kind'],
      readable: readable === '1',
      real: Buffer.from(real, 'base64').toString('utf8').trimEnd(),
      head: Buffer.from(head, 'base64'),
      ...(open === '-' ? {} : { isOpen: open === '1' }),
    }));
}

export interface Place {
  readonly host: Host;
  readonly shell: Shell;
  readonly name: string;
  readonly namespace: string;
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
  const paths = media.map(({ path }) => resolve(cwd ?? '/', path));
  const files = refusals.length > 0 ? [] : await look(place.shell, process.pid, paths, signal);
  const judged = files.map((file, index): Judged => judge(paths[index] ?? '', file, media[index]));
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

/** By its header, as the rules for existing disks have it. */
function judge(named: string, file: FoundFile, medium: ForeignDisk | undefined): Judged {
  const path = named === file.real || !named.includes('/../') ? named : file.real;
  const shown = oneLine(path, 300);
  const header = parseImageHeader(file.head, file.real);
  const format = medium?.format ?? header.format;
  const refuse = (refusal: string): Judged => ({ path, format, refusal: `${shown} ${refusal}` });
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
