/**
 * What may be said of a VM's folder, disks and ISO images before anything is done: the rules that keep data safe.
 * A disk is created once; an existing file is attached as it is; nothing is ever shrunk, formatted or overwritten.
 */
import { type EffectiveDisk, FOLDER_FILES } from '../api/effective-spec.ts';
import { oneLine } from '../api/errors.ts';
import { formatQuantity } from '../api/quantity.ts';
import type { Decision, Subject } from './decision.ts';
import { act, blocked } from './decision.ts';
import { awaitsImage, decideCopy, imageProblem } from './images.ts';
import type { SeenFile } from './observed.ts';
import { pathProblem } from './paths.ts';
import type { DiskRecord, OwnershipRecord } from './record.ts';

/** Longest path of a UNIX socket, without its terminating zero. */
const MAX_SOCKET_PATH = 107;
const LONGEST_SOCKET = Object.values(FOLDER_FILES)
  .filter((name) => name.endsWith('.sock'))
  .reduce((longest, name) => (name.length > longest.length ? name : longest));
const SECTOR_BYTES = 512;

/** What about the storage only a person or a new spec can mend; undefined where all is well. */
export function storageProblem(subject: Subject, record: OwnershipRecord): Decision | undefined {
  const { wanted } = subject;
  const socket = `${wanted.folder}/${LONGEST_SOCKET}`;
  if (Buffer.byteLength(socket) > MAX_SOCKET_PATH) {
    return blocked(
      'PathTooLong',
      `${socket} has ${Buffer.byteLength(socket)} bytes; a UNIX socket's path has at most ${MAX_SOCKET_PATH}: use a shorter vmDir or vmName`,
    );
  }
  const shared = sharedFileProblem(subject);
  if (shared !== undefined) return shared;
  for (const disk of wanted.disks) {
    const problem =
      pathProblem(subject, disk.path, `disk ${disk.name}`) ?? diskProblem(subject, disk, record.disks[disk.name]);
    if (problem !== undefined) return problem;
  }
  for (const { name, path } of wanted.launch.cdroms) {
    const problem = pathProblem(subject, path, `cdrom ${name}`) ?? isoProblem(subject, name, path);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** One file may not be two disks, nor a disk and an ISO image, whatever names lead to it. */
function sharedFileProblem({ wanted, seen }: Subject): Decision | undefined {
  const disks = new Map<string, string>();
  const all = [
    ...wanted.disks.map(({ name, path }) => ({ what: `disk ${name}`, path, isDisk: true })),
    ...wanted.launch.cdroms.map(({ name, path }) => ({ what: `cdrom ${name}`, path, isDisk: false })),
  ];
  for (const { what, path, isDisk } of all) {
    const resolved = seen.files.get(path)?.resolved ?? path;
    const through = resolved === path ? path : `${path} (really ${resolved})`;
    const other = disks.get(resolved);
    if (other !== undefined) return blocked('InvalidSpec', `${what}: ${through} is ${other} of this VM as well`);
    if (isDisk) disks.set(resolved, what);
  }
  return undefined;
}

function isoProblem({ seen, wanted }: Subject, name: string, path: string): Decision | undefined {
  const file = seen.files.get(path);
  if (file === undefined || file.kind === 'absent') {
    const beside = (file?.beside ?? []).map((other) => oneLine(other, 80)).join(', ');
    const hint = beside === '' ? '' : `; beside it there is ${beside}`;
    return blocked('ISONotFound', `cdrom ${name}: ${path} does not exist on the host${hint}`);
  }
  if (file.type === 'other')
    return blocked('ISONotFound', `cdrom ${name}: ${path} is neither a regular file nor a block device`);
  if (!file.readable) return blocked('ISONotFound', `cdrom ${name}: ${path} cannot be read by the user that runs QEMU`);
  const boots = file.bootArchitectures ?? [];
  const { architecture } = wanted.launch;
  if (boots.length > 0 && !boots.includes(architecture)) {
    return blocked(
      'ISOWrongArchitecture',
      `cdrom ${name}: ${path} boots ${boots.join(' and ')}, this VM is ${architecture}`,
    );
  }
  return undefined;
}

function diskProblem(subject: Subject, disk: EffectiveDisk, noted: DiskRecord | undefined): Decision | undefined {
  const file = subject.seen.files.get(disk.path);
  const what = `disk ${disk.name}`;
  if (noted !== undefined && (noted.path !== disk.path || noted.format !== disk.format)) {
    return blocked(
      'NameConflict',
      `${what} was ${noted.path} (${noted.format}) before; its file was left untouched: use another name for ${disk.path}`,
    );
  }
  // An attached file may be larger than its spec.
  const grown = noted?.state === 'attached' ? undefined : noted?.sizeBytes;
  if (grown !== undefined && disk.sizeBytes !== undefined && disk.sizeBytes < grown) {
    const size = formatQuantity(grown);
    return blocked('DiskCannotShrink', `${what} grew to ${size}; set size: ${size} in your manifest`);
  }
  if (file === undefined || file.kind === 'absent') return missingDiskProblem(subject, disk, noted, file);
  return existingDiskProblem(subject, disk, noted, file);
}

function missingDiskProblem(
  subject: Subject,
  disk: EffectiveDisk,
  noted: DiskRecord | undefined,
  file: Extract<SeenFile, { kind: 'absent' }> | undefined,
): Decision | undefined {
  const what = `disk ${disk.name}`;
  if (noted?.state === 'created') {
    return blocked(
      'StorageMissing',
      `${what}: ${disk.path} was created on this host and is gone; it is not made anew. Mount or restore it, or remove the annotation qemu-operator.dev/provisioned to give its data up`,
    );
  }
  if (noted?.state === 'attached')
    return blocked(
      'DiskMissing',
      `${what}: ${disk.path} was attached before and is gone; restore it, or remove the disk from the spec`,
    );
  if (file?.link === true)
    return blocked(
      'DiskMissing',
      `${what}: ${disk.path} is a symbolic link to ${file.resolved}, which does not exist; mount or restore that, or remove the link`,
    );
  const image = disk.image === undefined ? undefined : imageProblem(subject, disk, disk.image);
  if (image !== undefined) return image;
  if (disk.sizeBytes === undefined && disk.image === undefined)
    return blocked(
      'InvalidSpec',
      `${what}: ${disk.path} does not exist and spec.disks[${disk.name}].size says no size to create it with`,
    );
  if (disk.path.startsWith(`${subject.wanted.folder}/`)) return undefined;
  if (file?.parent === 'absent')
    return blocked(
      'DiskMissing',
      `${what}: the folder of ${disk.path} does not exist; make it first: folders outside the VM's own are never made`,
    );
  if (!/\.(qcow2|raw|img)$/.test(disk.path))
    return blocked(
      'InvalidSpec',
      `${what}: a file that is created outside the VM's folder ends in .qcow2, .raw or .img; ${disk.path} does not`,
    );
  return undefined;
}

function existingDiskProblem(
  subject: Subject,
  disk: EffectiveDisk,
  noted: DiskRecord | undefined,
  file: Extract<SeenFile, { kind: 'present' }>,
): Decision | undefined {
  const what = `disk ${disk.name}`;
  if (file.type === 'other')
    return blocked('DiskFormatMismatch', `${what}: ${disk.path} is neither a regular file nor a block device`);
  if (!file.readable)
    return blocked(
      'DiskMissing',
      `${what}: ${disk.path} cannot be read by the user that runs QEMU; mend its owner or mode`,
    );
  const foreign = foreignFileProblem(subject, disk, noted, file);
  if (foreign !== undefined) return foreign;
  if (growthOf(disk, file.virtualBytes) === 'by-hand') {
    return blocked('RawDiskNotGrown', `${what}: a raw disk is grown by hand: ${resizeCommand(disk)}`);
  }
  return undefined;
}

/** What a person runs while the VM is off. */
export function resizeCommand({ path, sizeBytes }: Pick<EffectiveDisk, 'path' | 'sizeBytes'>): string {
  return `qemu-img resize -f raw '${path}' ${sizeBytes}`;
}

/** What a file that we did not create must satisfy. Once it was attached, its format is no question: a guest writes to it. */
function foreignFileProblem(
  subject: Subject,
  disk: EffectiveDisk,
  noted: DiskRecord | undefined,
  file: Extract<SeenFile, { kind: 'present' }>,
): Decision | undefined {
  if (noted !== undefined && noted.state !== 'attached') return undefined;
  const what = `disk ${disk.name}`;
  // Whatever is no qcow2 is taken for raw, a text file as well: to set that format would be the next refusal.
  if (noted === undefined && file.format === 'raw' && (file.virtualBytes ?? 0) % SECTOR_BYTES !== 0) {
    const odd = `${disk.path} is ${file.virtualBytes} bytes long, no whole number of ${SECTOR_BYTES}-byte sectors`;
    return blocked('DiskFormatMismatch', `${what}: ${odd}: it is no disk image`);
  }
  if (noted === undefined && file.format !== disk.format) {
    const holds =
      file.format === undefined
        ? `the header of ${disk.path} cannot be read, so that nobody knows whether it is ${disk.format}`
        : `${disk.path} holds a ${file.format} image, the spec says ${disk.format}; set format: ${file.format}`;
    return blocked('DiskFormatMismatch', `${what}: ${holds}`);
  }
  return disk.format === 'raw' || file.refersTo === undefined
    ? undefined
    : pathProblem(subject, file.refersTo, `${what}: the file behind ${disk.path}`);
}

/** What the wanted size asks of a file that has `bytes`: nothing, a growth by us, or by a person (raw). */
export function growthOf(
  { format, sizeBytes }: Pick<EffectiveDisk, 'format' | 'sizeBytes'>,
  bytes: number | undefined,
): 'none' | 'by-us' | 'by-hand' {
  if (sizeBytes === undefined || bytes === undefined || bytes >= sizeBytes) return 'none';
  return format === 'raw' ? 'by-hand' : 'by-us';
}

/**
 * The next step towards the wanted disks of a VM without a process; undefined where they are as wanted. What an image is
 * fetched for is only made for a VM that is on: a stop ends it.
 */
export function decideDisks(subject: Subject, record: OwnershipRecord, isOn: boolean): Decision | undefined {
  for (const disk of subject.wanted.disks) {
    const noted = record.disks[disk.name];
    const file = subject.seen.files.get(disk.path);
    if (noted === undefined && file?.kind === 'present') {
      return act(
        { type: 'attach-disk', disk, virtualBytes: file.virtualBytes ?? 0 },
        'Provisioning',
        `attaching the existing ${disk.path} as disk ${disk.name}`,
      );
    }
    if (disk.image !== undefined && awaitsImage(subject, record, disk)) {
      if (!isOn) continue;
      return decideCopy(subject, disk, disk.image);
    }
    if (noted === undefined || noted.state === 'creating') {
      return act(
        { type: 'create-disk', disk },
        'Provisioning',
        `creating disk ${disk.name} (${formatQuantity(disk.sizeBytes ?? 0)})`,
      );
    }
    const virtual = file?.kind === 'present' ? file.virtualBytes : undefined;
    if (disk.sizeBytes !== undefined && virtual !== undefined && growthOf(disk, virtual) === 'by-us') {
      return act(
        { type: 'grow-disk', disk, toBytes: disk.sizeBytes },
        'Provisioning',
        `growing disk ${disk.name} from ${formatQuantity(virtual)} to ${formatQuantity(disk.sizeBytes)}`,
      );
    }
  }
  return decideDiskNotes(subject, record);
}

/** Keeps in the record what the spec says of existing disks, so that a deletion years later knows it. */
export function decideDiskNotes(subject: Subject, record: OwnershipRecord): Decision | undefined {
  for (const disk of subject.wanted.disks) {
    const noted = record.disks[disk.name];
    if (noted === undefined || noted.state === 'creating') continue;
    const sizeBytes = Math.max(noted.sizeBytes ?? 0, disk.sizeBytes ?? 0);
    if (sizeBytes !== (noted.sizeBytes ?? 0) || noted.reclaimPolicy !== disk.reclaimPolicy) {
      return act(
        { type: 'note-disk', disk, sizeBytes },
        'Provisioning',
        `noting the spec of disk ${disk.name} in the record`,
      );
    }
  }
  return undefined;
}

/** The next growth of a running VM's disks. Launched disks only: a new one waits for the restart. */
export function decideLiveGrowth(
  subject: Subject,
  record: OwnershipRecord,
  diskBytes: ReadonlyMap<string, number>,
): Decision | undefined {
  const launched = new Set(record.launch?.spec.disks.map(({ name }) => name));
  for (const disk of subject.wanted.disks) {
    const bytes = diskBytes.get(disk.name);
    if (!launched.has(disk.name) || disk.sizeBytes === undefined || bytes === undefined) continue;
    if (growthOf(disk, bytes) === 'by-us') {
      return act(
        { type: 'grow-disk-live', disk, toBytes: disk.sizeBytes },
        'Running',
        `growing disk ${disk.name} from ${formatQuantity(bytes)} to ${formatQuantity(disk.sizeBytes)}`,
      );
    }
  }
  return undefined;
}
