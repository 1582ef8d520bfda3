/**
 * A volume with a few files in its root, as ISO 9660 with Joliet: pure, without tools, the same bytes each time.
 * Source: ECMA-119, and the Joliet specification for the second set of directories, whose names are exact.
 */

const SECTOR = 2048;
/** Where things lie, in sectors; files follow. The first 16 are the system's. */
const AT = { primary: 16, joliet: 17, end: 18, paths: 19, primaryRoot: 23, jolietRoot: 24, files: 25 } as const;
const PATH_TABLE_BYTES = 10;
const DIRECTORY = 2;
/** UCS-2 level 3. */
const JOLIET_ESCAPE = '%/E';
/** No moment: the seed of the same content is the same file. 1970-01-01 00:00:00 GMT. */
const DATE = [70, 1, 1, 0, 0, 0, 0];

export interface IsoFile {
  readonly name: string;
  readonly content: Uint8Array;
}

interface Extent {
  readonly name: Buffer;
  readonly sector: number;
  readonly bytes: number;
  readonly flags: number;
}

/** busybox looks for a volume's label in the first 68 KiB, and finds none where there is less. Source: its volume_id. */
const LEAST_SECTORS = 36;

/**
 * @param label of the volume, at most 16 characters
 * @param files few enough for their directory to fill no more than a sector; names as they shall be read
 */
export function isoImage(label: string, files: readonly IsoFile[]): Buffer {
  const sorted = files.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  let sector: number = AT.files;
  const placed = sorted.map(({ name, content }) => {
    const at = sector;
    sector += Math.ceil(content.length / SECTOR);
    return { name, content, sector: at };
  });
  const sectors = Math.max(sector, LEAST_SECTORS);
  const image = Buffer.alloc(sectors * SECTOR);
  const put = (at: number, bytes: Uint8Array) => image.set(bytes, at * SECTOR);
  put(AT.primary, descriptor(1, label, sectors));
  put(AT.joliet, descriptor(2, label, sectors));
  put(AT.end, header(255));
  for (const [index, root] of [AT.primaryRoot, AT.jolietRoot].entries()) {
    put(AT.paths + 2 * index, pathTable(root, 'LE'));
    put(AT.paths + 2 * index + 1, pathTable(root, 'BE'));
  }
  put(
    AT.primaryRoot,
    directory(
      AT.primaryRoot,
      placed.map((file) => extent(plainName(file.name), file)),
    ),
  );
  put(
    AT.jolietRoot,
    directory(
      AT.jolietRoot,
      placed.map((file) => extent(ucs2(file.name), file)),
    ),
  );
  for (const file of placed) put(file.sector, file.content);
  return image;
}

function extent(name: Buffer, { sector, content }: { sector: number; content: Uint8Array }): Extent {
  return { name, sector, bytes: content.length, flags: 0 };
}

/** For readers that know no Joliet; Linux shows `META-DATA;1` as `meta-data`. */
function plainName(name: string): Buffer {
  return Buffer.from(`${name.toUpperCase()};1`, 'latin1');
}

function ucs2(text: string): Buffer {
  return Buffer.from(text, 'utf16le').swap16();
}

/** Both byte orders, one after the other. */
function both16(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(value, 0);
  bytes.writeUInt16BE(value, 2);
  return bytes;
}

function both32(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32LE(value, 0);
  bytes.writeUInt32BE(value, 4);
  return bytes;
}

/** ECMA-119, 9.1. */
function record({ name, sector, bytes, flags }: Extent): Buffer {
  const entry = Buffer.alloc(33 + name.length + (name.length % 2 === 0 ? 1 : 0));
  entry[0] = entry.length;
  entry.set(both32(sector), 2);
  entry.set(both32(bytes), 10);
  entry.set(DATE, 18);
  entry[25] = flags;
  entry.set(both16(1), 28);
  entry[32] = name.length;
  entry.set(name, 33);
  return entry;
}

/** The root's own record, also as its parent's: a name of one byte, 0 or 1. */
function rootRecord(sector: number, name: 0 | 1): Buffer {
  return record({ name: Buffer.from([name]), sector, bytes: SECTOR, flags: DIRECTORY });
}

/** @throws RangeError where the files are too many for a sector */
function directory(root: number, files: readonly Extent[]): Buffer {
  const entries = Buffer.concat([rootRecord(root, 0), rootRecord(root, 1), ...files.map(record)]);
  if (entries.length > SECTOR) throw new RangeError(`a directory of ${entries.length} bytes does not fit a sector`);
  return entries;
}

/** ECMA-119, 9.4: the root alone. */
function pathTable(root: number, order: 'LE' | 'BE'): Buffer {
  const table = Buffer.alloc(PATH_TABLE_BYTES);
  table[0] = 1;
  if (order === 'LE') table.writeUInt32LE(root, 2);
  else table.writeUInt32BE(root, 2);
  if (order === 'LE') table.writeUInt16LE(1, 6);
  else table.writeUInt16BE(1, 6);
  return table;
}

function header(type: number): Buffer {
  const bytes = Buffer.alloc(SECTOR);
  bytes[0] = type;
  bytes.write('CD001', 1, 'latin1');
  bytes[6] = 1;
  return bytes;
}

/** ECMA-119, 8.4 (primary) and 8.5 (supplementary: Joliet). */
function descriptor(type: 1 | 2, label: string, sectors: number): Buffer {
  const joliet = type === 2;
  const bytes = header(type);
  const text = (value: string, at: number, length: number) => {
    const padded = value.padEnd(joliet ? length / 2 : length, ' ');
    bytes.set(joliet ? ucs2(padded) : Buffer.from(padded, 'latin1'), at);
  };
  text('', 8, 32);
  text(label, 40, 32);
  bytes.set(both32(sectors), 80);
  if (joliet) bytes.write(JOLIET_ESCAPE, 88, 'latin1');
  bytes.set(both16(1), 120);
  bytes.set(both16(1), 124);
  bytes.set(both16(SECTOR), 128);
  bytes.set(both32(PATH_TABLE_BYTES), 132);
  const paths = joliet ? AT.paths + 2 : AT.paths;
  bytes.writeUInt32LE(paths, 140);
  bytes.writeUInt32BE(paths + 1, 148);
  bytes.set(rootRecord(joliet ? AT.jolietRoot : AT.primaryRoot, 0), 156);
  for (const at of [190, 318, 446, 574]) text('', at, 128);
  // Names of files; an odd length holds one character less in Joliet.
  for (const at of [702, 739, 776]) text('', at, 36);
  // Times that are not said: sixteen zeros as digits, and a zone of 0.
  for (const at of [813, 830, 847, 864]) bytes.write('0'.repeat(16), at, 'latin1');
  bytes[881] = 1;
  return bytes;
}
