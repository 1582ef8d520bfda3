/** Names in one folder of a FAT file system (12, 16 or 32), as EFI boot images are. Source: Microsoft's fatgen103. */
import type { ByteReader } from './byte-reader.ts';

interface Fat {
  readonly bits: 12 | 16 | 32;
  /** Bytes from the start of the image. */
  readonly tableAt: number;
  readonly rootAt: number;
  readonly rootBytes: number;
  readonly rootCluster: number;
  readonly dataAt: number;
  readonly clusterBytes: number;
}

interface FatEntry {
  /** The 11 characters of an 8.3 name, in upper case. */
  readonly name: string;
  readonly folder: boolean;
  readonly cluster: number;
}

const ENTRY_BYTES = 32;
const FAT12_CLUSTERS = 4085;
const FAT16_CLUSTERS = 65_525;
/** A folder that is longer than this is not read further; EFI folders have a handful of entries. */
const MAX_FOLDER_CLUSTERS = 32;
const FOLDER = 0x10;
const LONG_NAME = 0x0f;
const VOLUME_LABEL = 0x08;

/**
 * The 8.3 names (11 characters, `BOOTX64 EFI`) in the folder that the path of 8.3 names leads to.
 * Undefined where the image is no FAT file system; empty where the folder is absent.
 * @param at where the image begins
 */
export async function fatNames(reader: ByteReader, at: number, path: readonly string[]): Promise<string[] | undefined> {
  const fat = parseBootSector(await reader.at(at, 512), at);
  if (fat === undefined) return undefined;
  let entries = await rootEntries(reader, fat);
  for (const part of path) {
    const folder = entries.find((entry) => entry.folder && entry.name === part.padEnd(11));
    if (folder === undefined) return [];
    entries = await folderEntries(reader, fat, folder.cluster);
  }
  return entries.filter(({ folder }) => !folder).map(({ name }) => name);
}

function parseBootSector(sector: Buffer, at: number): Fat | undefined {
  if (sector.length < 512 || sector.readUInt16LE(510) !== 0xaa55) return undefined;
  const sectorBytes = sector.readUInt16LE(11);
  const clusterSectors = sector.readUInt8(13);
  const reserved = sector.readUInt16LE(14);
  const tables = sector.readUInt8(16);
  const rootEntryCount = sector.readUInt16LE(17);
  const tableSectors = sector.readUInt16LE(22) || sector.readUInt32LE(36);
  const totalSectors = sector.readUInt16LE(19) || sector.readUInt32LE(32);
  const plausible =
    [512, 1024, 2048, 4096].includes(sectorBytes) &&
    isPowerOfTwo(clusterSectors) &&
    [reserved, tables, tableSectors, totalSectors].every((figure) => figure > 0);
  if (!plausible) return undefined;
  const rootBytes = Math.ceil((rootEntryCount * ENTRY_BYTES) / sectorBytes) * sectorBytes;
  const tableAt = at + reserved * sectorBytes;
  const rootAt = tableAt + tables * tableSectors * sectorBytes;
  const clusterBytes = clusterSectors * sectorBytes;
  const clusters = (totalSectors * sectorBytes - (rootAt + rootBytes - at)) / clusterBytes;
  return {
    bits: clusters < FAT12_CLUSTERS ? 12 : clusters < FAT16_CLUSTERS ? 16 : 32,
    tableAt,
    rootAt,
    rootBytes,
    rootCluster: sector.readUInt32LE(44),
    dataAt: rootAt + rootBytes,
    clusterBytes,
  };
}

function isPowerOfTwo(figure: number): boolean {
  return figure > 0 && (figure & (figure - 1)) === 0;
}

async function rootEntries(reader: ByteReader, fat: Fat): Promise<FatEntry[]> {
  if (fat.bits === 32) return folderEntries(reader, fat, fat.rootCluster);
  return parseEntries(await reader.at(fat.rootAt, fat.rootBytes));
}

async function folderEntries(reader: ByteReader, fat: Fat, first: number): Promise<FatEntry[]> {
  const entries: FatEntry[] = [];
  // The count also ends a chain that leads back into itself.
  let cluster: number | undefined = first;
  for (let seen = 0; cluster !== undefined && seen < MAX_FOLDER_CLUSTERS; seen += 1) {
    const content = await reader.at(fat.dataAt + (cluster - 2) * fat.clusterBytes, fat.clusterBytes);
    entries.push(...parseEntries(content));
    if (content.length === 0 || endsHere(content)) break;
    cluster = await nextCluster(reader, fat, cluster);
  }
  return entries;
}

/** An entry whose first byte is 0 ends the folder. */
function endsHere(content: Buffer): boolean {
  for (let at = 0; at + ENTRY_BYTES <= content.length; at += ENTRY_BYTES) {
    if (content[at] === 0) return true;
  }
  return false;
}

function parseEntries(content: Buffer): FatEntry[] {
  const entries: FatEntry[] = [];
  for (let at = 0; at + ENTRY_BYTES <= content.length; at += ENTRY_BYTES) {
    const entry = content.subarray(at, at + ENTRY_BYTES);
    if (entry[0] === 0) break;
    const attributes = entry.readUInt8(11);
    const unused = entry[0] === 0xe5 || (attributes & LONG_NAME) === LONG_NAME || (attributes & VOLUME_LABEL) !== 0;
    if (unused) continue;
    entries.push({
      name: entry.toString('latin1', 0, 11).toUpperCase(),
      folder: (attributes & FOLDER) !== 0,
      cluster: entry.readUInt16LE(26) + entry.readUInt16LE(20) * 0x10000,
    });
  }
  return entries;
}

/** Undefined at the end of the chain, and for a figure that no chain can hold. */
async function nextCluster(reader: ByteReader, { bits, tableAt }: Fat, cluster: number): Promise<number | undefined> {
  const bytes = bits === 32 ? 4 : 2;
  const offset = bits === 12 ? cluster + Math.floor(cluster / 2) : cluster * bytes;
  const field = await reader.at(tableAt + offset, bytes);
  if (field.length < bytes) return undefined;
  const raw = bits === 32 ? field.readUInt32LE(0) & 0x0fffffff : field.readUInt16LE(0);
  const next = bits === 12 ? (cluster % 2 === 0 ? raw & 0xfff : raw >> 4) : raw;
  const last = bits === 12 ? 0xff0 : bits === 16 ? 0xfff0 : 0x0ffffff0;
  return next >= 2 && next < last ? next : undefined;
}
