/** The disks of a QEMU command line of others. Pure. Source: qemu-system(1), "Block device options". */
import type { DiskFormat } from '../api/virtual-machine.ts';
import { type Remarks, remarkKeys } from './argv-remarks.ts';
import { DISK_IMAGE, KeyValues, type OptionWord } from './option-words.ts';

/** Paths are as they stand there: a relative one is of the process' folder. */
export interface ForeignDisk {
  readonly path: string;
  /** Absent: QEMU was left to guess. */
  readonly format?: DiskFormat;
}

export interface ForeignDrives {
  /** In the order in which they are booted. */
  readonly disks: readonly ForeignDisk[];
  readonly cdroms: readonly { readonly path: string }[];
  /** Firmware lies in flash. */
  readonly flash: boolean;
}

interface Medium extends ForeignDisk {
  readonly isReadOnly: boolean;
  readonly isCdrom: boolean;
}

interface Drive {
  readonly medium: () => Medium | undefined;
  readonly option: string;
  readonly id: string | undefined;
  /** Waits for a device that names it. */
  readonly needsDevice: boolean;
  readonly attached: Attached | undefined;
}

interface Attached {
  readonly bootindex: number;
  /** Where nothing says the order: SeaBIOS goes by the kind of a drive, then by its slot. Source: its src/boot.c. */
  readonly rank: number;
  readonly isCdrom: boolean;
}

/** A virtio drive without a device of its own gets one behind all others. */
const RANKS = { ide: 0, scsi: 1, virtio: 2, plainVirtio: 3, other: 4 } as const;

const BECOMES_VIRTIO = ': its disk becomes virtio-blk: the guest needs that driver, and names it otherwise';
const SHORT = /^-hd[a-d]$/;
const LAST = Number.MAX_SAFE_INTEGER;
/** What only tunes a drive, or is answered otherwise here. */
const TUNING =
  'file format driver if media index id bus unit readonly read-only cache cache.direct cache.writeback cache.no-flush ' +
  'aio discard detect-zeroes werror rerror copy-on-read auto-read-only node-name filename file.driver file.filename ' +
  'file.node-name file.read-only file.aio file.discard file.locking file.cache.direct file.cache.no-flush ' +
  'file.auto-read-only file.detect-zeroes locking file.file.driver file.file.filename throttle-group';
const TUNING_KEYS = TUNING.split(' ');

/** @param plainIsVirtio what a drive becomes of which nothing is said */
export function drivesOf(options: readonly OptionWord[], plainIsVirtio: boolean, remarks: Remarks): ForeignDrives {
  const nodes = nodesOf(options);
  const drives: Drive[] = [];
  let flash = false;
  for (const { name, value } of options) {
    if (name === '-pflash') flash = true;
    else if (SHORT.test(name) || name === DISK_IMAGE) {
      drives.push(plain(name, value, plainIsVirtio ? RANKS.plainVirtio : RANKS.ide, remarks));
      if (!plainIsVirtio) remarks.warn(`${name}${BECOMES_VIRTIO}`);
    } else if (name === '-cdrom') drives.push(plain(name, value, RANKS.ide, remarks));
    else if (name === '-drive') {
      const words = new KeyValues(value, 'file');
      if (words.get('if') === 'pflash') flash = true;
      else drives.push(driveOf(words, plainIsVirtio, remarks));
    } else if (/^-(fda|fdb|sd|mtdblock)$/.test(name)) remarks.warn(`${name} is not carried over`);
  }
  for (const [id, node] of nodes) drives.push(blockNode(id, node, nodes, remarks));
  return { flash, ...sorted(attach(drives, options, remarks), remarks) };
}

function nodesOf(options: readonly OptionWord[]): Map<string, KeyValues> {
  const nodes = new Map<string, KeyValues>();
  for (const { name, value } of options) {
    if (name !== '-blockdev') continue;
    const words = new KeyValues(value, 'driver');
    const id = words.get('node-name');
    if (id !== undefined) nodes.set(id, words);
  }
  return nodes;
}

function plain(option: string, value: string, rank: number, remarks: Remarks): Drive {
  const isCdrom = option === '-cdrom';
  const place = localPath(option, value, remarks);
  const medium = place && { ...place, isReadOnly: isCdrom, isCdrom };
  const attached = { bootindex: LAST, rank, isCdrom };
  return { medium: () => medium, option, id: undefined, needsDevice: false, attached };
}

function driveOf(words: KeyValues, plainIsVirtio: boolean, remarks: Remarks): Drive {
  const option = '-drive';
  remarkKeys(remarks, option, words, TUNING_KEYS);
  const interfaceName = words.get('if');
  const isCdrom = words.get('media') === 'cdrom';
  const id = words.get('id');
  const needsDevice = interfaceName === 'none';
  const file = words.get('file.filename', 'file', 'filename');
  const unfit = interfaceName === 'floppy' || interfaceName === 'sd' || interfaceName === 'mtd';
  if (unfit) remarks.warn('-drive: a floppy, sd or mtd drive is not carried over');
  remarkLocking(option, words, remarks);
  const isVirtio = interfaceName === 'virtio' || (interfaceName === undefined && plainIsVirtio);
  if (!isVirtio && !needsDevice && !isCdrom && !unfit) remarks.warn(`${option}${BECOMES_VIRTIO}`);
  // A drive may be empty, and what a driver needs instead of a file is nothing here.
  const isEmpty = words.get('file.driver', 'driver') === undefined && (file ?? '') === '';
  const place = unfit || isEmpty ? undefined : mediumOf(option, words, file ?? '', remarks);
  const isReadOnly = isCdrom || words.isOn('readonly', 'read-only');
  const medium = place && { ...place, isReadOnly, isCdrom };
  const rank = isVirtio ? RANKS.plainVirtio : interfaceName === 'scsi' ? RANKS.scsi : RANKS.ide;
  const attached = needsDevice ? undefined : { bootindex: LAST, rank, isCdrom };
  return { medium: () => medium, option, id, needsDevice, attached };
}

/** It opens its file without a lock for writing. */
export const SNAPSHOT =
  'what the guest writes is lost when it ends, and nothing but you keeps another machine from writing to its disk';

function remarkLocking(option: string, words: KeyValues, remarks: Remarks): void {
  if (words.get('file.locking', 'locking') === 'off')
    remarks.warn(`${option}: its file is not locked: nothing but you keeps two machines from writing to it`);
  if (words.isOn('snapshot')) remarks.warn(`${option} snapshot: ${SNAPSHOT}`);
}

/** A driver other than file is another place than a file of the host. */
function mediumOf(option: string, words: KeyValues, file: string, remarks: Remarks): ForeignDisk | undefined {
  const driver = words.get('file.driver');
  if (driver !== undefined && !['file', 'host_device'].includes(driver)) {
    remarks.refuse(`${option}: a disk that is no file or block device of the host`);
    return undefined;
  }
  const place = localPath(option, file, remarks);
  return place && { ...place, ...formatOf(option, words.get('format', 'driver'), remarks) };
}

function formatOf(option: string, format: string | undefined, remarks: Remarks): { format?: DiskFormat } {
  if (format === undefined || format === 'host_device' || format === 'file') return {};
  if (format === 'qcow2' || format === 'raw') return { format };
  remarks.refuse(`${option}: a disk whose format is neither qcow2 nor raw; convert it: qemu-img convert -O qcow2`);
  return {};
}

/** Source: QEMU's path_has_protocol. */
function localPath(option: string, file: string, remarks: Remarks): { path: string } | undefined {
  const path = file.startsWith('file:') ? file.slice('file:'.length) : file;
  const first = /[:/]/.exec(path)?.[0];
  if (path === '' || first === ':' || path.startsWith('/dev/fdset/') || path.includes('\0')) {
    remarks.refuse(`${option}: a disk that is no file or block device of the host`);
    return undefined;
  }
  return { path };
}

/** A node of -blockdev and what it stands on. One that no device names is a part of another, and not read. */
function blockNode(id: string, words: KeyValues, nodes: ReadonlyMap<string, KeyValues>, remarks: Remarks): Drive {
  const medium = () => chainOf(words, nodes, remarks);
  return { medium, option: '-blockdev', id, needsDevice: true, attached: undefined };
}

const MAX_CHAIN = 8;

function chainOf(top: KeyValues, nodes: ReadonlyMap<string, KeyValues>, remarks: Remarks): Medium | undefined {
  const isReadOnly = top.isOn('read-only');
  let format: DiskFormat | undefined;
  let words: KeyValues | undefined = top;
  let prefix = '';
  for (let depth = 0; words !== undefined && depth < MAX_CHAIN; depth += 1) {
    const driver: string | undefined = words.get(`${prefix}driver`);
    if (prefix === '') remarkKeys(remarks, '-blockdev', words, TUNING_KEYS);
    if (driver === 'file' || driver === 'host_device' || driver === 'host_cdrom') {
      remarkLocking('-blockdev', words, remarks);
      const place = localPath('-blockdev', words.get(`${prefix}filename`) ?? '', remarks);
      return place && { ...place, format: format ?? 'raw', isReadOnly, isCdrom: driver === 'host_cdrom' };
    }
    if (driver === 'qcow2' || driver === 'raw') format ??= driver;
    else if (driver !== 'throttle' && driver !== 'copy-on-read') break;
    const below: string | undefined = words.get(`${prefix}file`);
    if (below === undefined) prefix = `${prefix}file.`;
    else {
      words = nodes.get(below);
      prefix = '';
    }
  }
  remarks.refuse('-blockdev: a disk that is no qcow2 or raw file or block device of the host');
  return undefined;
}

const BLOCK_DEVICE = /^(virtio-blk|ide-(hd|cd|drive)|scsi-(hd|cd|disk|block)|nvme|usb-storage|sd-card|floppy)/;

export function isBlockDevice(device: KeyValues): boolean {
  return BLOCK_DEVICE.test(device.get('driver') ?? '');
}

/** Devices give the order and say what is a CD-ROM. */
function attach(drives: readonly Drive[], options: readonly OptionWord[], remarks: Remarks): Drive[] {
  const free = new Map(drives.flatMap((drive) => (drive.id === undefined ? [] : [[drive.id, drive] as const])));
  const attached = drives.filter((drive) => !drive.needsDevice);
  for (const { name, value } of options) {
    const device = name === '-device' ? new KeyValues(value, 'driver') : undefined;
    const id = device?.get('drive');
    if (device === undefined || id === undefined || !isBlockDevice(device)) continue;
    const drive = free.get(id);
    const driver = device.get('driver') ?? '';
    const isCdrom = /-cd$/.test(driver);
    if (device.get('serial') !== undefined) remarks.warn('-device serial: the guest sees another serial of its disk');
    if (!/^virtio-blk/.test(driver) && !isCdrom) remarks.warn(`-device${BECOMES_VIRTIO}`);
    if (drive === undefined) remarks.refuse('-device: a disk that the command line names nowhere');
    if (drive?.needsDevice !== true) continue;
    free.delete(id);
    attached.push({ ...drive, attached: { bootindex: bootIndexOf(device), rank: rankOf(driver), isCdrom } });
  }
  for (const { needsDevice, option } of free.values())
    if (needsDevice && option === '-drive') remarks.warn('-drive: one that no device names is left out');
  return attached;
}

function rankOf(driver: string): number {
  if (driver.startsWith('ide-')) return RANKS.ide;
  if (driver.startsWith('scsi-')) return RANKS.scsi;
  return driver.startsWith('virtio-blk') ? RANKS.virtio : RANKS.other;
}

function bootIndexOf(device: KeyValues): number {
  const index = Number(device.get('bootindex') ?? LAST);
  return Number.isSafeInteger(index) && index >= 0 ? index : LAST;
}

function sorted(drives: readonly Drive[], remarks: Remarks): Pick<ForeignDrives, 'disks' | 'cdroms'> {
  const place = ({ attached }: Drive) => [attached?.bootindex ?? LAST, attached?.rank ?? LAST] as const;
  const ordered = drives.toSorted((a, b) => place(a)[0] - place(b)[0] || place(a)[1] - place(b)[1]);
  const disks: ForeignDisk[] = [];
  const cdroms: { path: string }[] = [];
  for (const { medium: read, attached, option } of ordered) {
    const medium = read();
    if (medium === undefined) continue;
    const { path, format, isReadOnly } = medium;
    if (medium.isCdrom || attached?.isCdrom === true) cdroms.push({ path });
    else if (isReadOnly) remarks.warn(`${option}: a disk that is only read is left out: a disk here is written to`);
    else disks.push({ path, ...(format === undefined ? {} : { format }) });
  }
  return { disks, cdroms };
}
