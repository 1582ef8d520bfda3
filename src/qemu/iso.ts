/**
 * Which architectures an ISO image carries boot files for, so that an installer of the wrong kind is refused before
 * a VM is made. It says only what it is sure of: an image of another form carries none that we know.
 * Sources: ECMA-119 (ISO 9660), "El Torito" Bootable CD-ROM Format 1.0, UEFI 2.10 sections 3.5 and 13.3.2.
 */
import { ARCHITECTURES, type Architecture } from '../api/virtual-machine.ts';
import { ByteReader, ReadBudgetError, type ReadBytes } from './byte-reader.ts';
import { fatNames } from './fat.ts';

const SECTOR = 2048;
const FIRST_DESCRIPTOR = 16;
const DESCRIPTORS = 16;
const DESCRIPTOR_TYPE = { boot: 0, primary: 1, end: 255 } as const;
const CATALOG_ENTRY = 32;
const PLATFORM = { x86: 0, efi: 0xef } as const;
const BOOTABLE = 0x88;
const NO_EMULATION = 0;
const SECTION_HEADER = [0x90, 0x91];
/** Entries whose images are looked into; real images have one or two. */
const MAX_BOOT_ENTRIES = 8;

/** Files that UEFI starts from removable media, by architecture: as in ISO 9660 and as an 8.3 name. */
const BOOT_FILES: Readonly<Record<Architecture, { readonly iso: string; readonly fat: string }>> = {
  x86_64: { iso: 'BOOTX64.EFI', fat: 'BOOTX64 EFI' },
  arm64: { iso: 'BOOTAA64.EFI', fat: 'BOOTAA64EFI' },
};

interface BootEntry {
  readonly platform: number;
  /** Byte offset of its image. */
  readonly at: number;
  readonly emulated: boolean;
}

interface Extent {
  readonly at: number;
  readonly bytes: number;
}

/**
 * In the order of ARCHITECTURES; empty where nothing is known. Whatever the image holds, it ends soon and reads
 * little. Errors of `read` pass through.
 */
export async function bootArchitectures(read: ReadBytes): Promise<Architecture[]> {
  const found = new Set<Architecture>();
  try {
    await search(new ByteReader(read), found);
  } catch (error) {
    // An image that leads round in circles: what was found until then was there.
    if (!(error instanceof ReadBudgetError)) throw error;
  }
  return ARCHITECTURES.filter((architecture) => found.has(architecture));
}

async function search(reader: ByteReader, found: Set<Architecture>): Promise<void> {
  const descriptors = await readDescriptors(reader);
  const primary = descriptors.find((descriptor) => descriptor[0] === DESCRIPTOR_TYPE.primary);
  if (primary !== undefined) {
    const names = await filesIn(reader, recordAt(primary, 156), ['EFI', 'BOOT']);
    add(found, (architecture) => names.includes(BOOT_FILES[architecture].iso));
  }
  const boot = descriptors.find(isElTorito);
  if (boot === undefined) return;
  const catalog = await reader.at(boot.readUInt32LE(71) * SECTOR, SECTOR);
  for (const entry of bootEntries(catalog).slice(0, MAX_BOOT_ENTRIES)) await addBootEntry(reader, entry, found);
}

function add(found: Set<Architecture>, carries: (architecture: Architecture) => boolean): void {
  for (const architecture of ARCHITECTURES) if (carries(architecture)) found.add(architecture);
}

async function readDescriptors(reader: ByteReader): Promise<Buffer[]> {
  const area = await reader.at(FIRST_DESCRIPTOR * SECTOR, DESCRIPTORS * SECTOR);
  const descriptors: Buffer[] = [];
  for (let at = 0; at + SECTOR <= area.length; at += SECTOR) {
    const descriptor = area.subarray(at, at + SECTOR);
    if (descriptor.toString('latin1', 1, 6) !== 'CD001' || descriptor[0] === DESCRIPTOR_TYPE.end) break;
    descriptors.push(descriptor);
  }
  return descriptors;
}

function isElTorito(descriptor: Buffer): boolean {
  return (
    descriptor[0] === DESCRIPTOR_TYPE.boot && descriptor.toString('latin1', 7, 39).startsWith('EL TORITO SPECIFICATION')
  );
}

/** The initial entry takes its platform from the validation entry; each section header names its own. */
function bootEntries(catalog: Buffer): BootEntry[] {
  const valid = catalog.length >= 2 * CATALOG_ENTRY && catalog[0] === 1 && catalog.readUInt16LE(30) === 0xaa55;
  if (!valid) return [];
  const entries: BootEntry[] = [];
  let platform = catalog.readUInt8(1);
  for (let at = CATALOG_ENTRY; at + CATALOG_ENTRY <= catalog.length; at += CATALOG_ENTRY) {
    const kind = catalog.readUInt8(at);
    if (SECTION_HEADER.includes(kind)) platform = catalog.readUInt8(at + 1);
    if (kind !== BOOTABLE) continue;
    const emulated = (catalog.readUInt8(at + 1) & 0xf) !== NO_EMULATION;
    entries.push({ platform, at: catalog.readUInt32LE(at + 8) * SECTOR, emulated });
  }
  return entries;
}

/**
 * Older tools mark an EFI image as one for the BIOS (platform 0), so an image that is a FAT file system with EFI's
 * folder is judged by its names. An emulated floppy is a BIOS's, whatever is on it.
 */
async function addBootEntry(reader: ByteReader, entry: BootEntry, found: Set<Architecture>): Promise<void> {
  const { platform, at, emulated } = entry;
  if (platform !== PLATFORM.efi && platform !== PLATFORM.x86) return;
  const names = emulated ? undefined : await fatNames(reader, at, ['EFI', 'BOOT']);
  const loaders = (names ?? []).filter((name) => name.startsWith('BOOT') && name.endsWith('EFI'));
  if (loaders.length > 0) add(found, (architecture) => loaders.includes(BOOT_FILES[architecture].fat));
  else if (platform === PLATFORM.x86) found.add('x86_64');
}

interface IsoEntry extends Extent {
  readonly name: string;
  readonly folder: boolean;
}

/** Upper-case names of the files in the folder that the path leads to. */
async function filesIn(reader: ByteReader, root: IsoEntry | undefined, path: readonly string[]): Promise<string[]> {
  let entries = root === undefined ? [] : await entriesOf(reader, root);
  for (const part of path) {
    const folder = entries.find((entry) => entry.folder && entry.name === part);
    if (folder === undefined) return [];
    entries = await entriesOf(reader, folder);
  }
  return entries.filter(({ folder }) => !folder).map(({ name }) => name);
}

async function entriesOf(reader: ByteReader, { at, bytes }: Extent): Promise<IsoEntry[]> {
  const content = await reader.at(at, bytes);
  const entries: IsoEntry[] = [];
  for (let offset = 0; offset < content.length; ) {
    const length = content.readUInt8(offset);
    // Records do not cross sectors: a zero length fills the rest of one.
    if (length === 0) offset = (Math.floor(offset / SECTOR) + 1) * SECTOR;
    else {
      const entry = recordAt(content, offset);
      if (entry !== undefined) entries.push(entry);
      offset += length;
    }
  }
  return entries;
}

const RECORD_HEADER = 33;

function recordAt(content: Buffer, offset: number): IsoEntry | undefined {
  if (offset + RECORD_HEADER > content.length) return undefined;
  const nameEnd = offset + RECORD_HEADER + content.readUInt8(offset + 32);
  if (nameEnd > content.length) return undefined;
  return {
    at: content.readUInt32LE(offset + 2) * SECTOR,
    bytes: content.readUInt32LE(offset + 10),
    folder: (content.readUInt8(offset + 25) & 2) !== 0,
    // `BOOTX64.EFI;1`, or `EFI.` from careless tools.
    name: content
      .toString('latin1', offset + RECORD_HEADER, nameEnd)
      .toUpperCase()
      .replace(/;\d*$/, '')
      .replace(/\.$/, ''),
  };
}
