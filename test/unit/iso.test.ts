/** Images that nobody honest makes: the parser ends, reads little and says nothing that it does not know. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { bootArchitectures } from '../../src/qemu/iso.ts';

const SECTOR = 2048;

async function inspect(image: Buffer): Promise<{ found: string[]; reads: number; bytes: number }> {
  let reads = 0;
  let bytes = 0;
  const found = await bootArchitectures(async (offset, length) => {
    reads += 1;
    const part = image.subarray(offset, offset + length);
    bytes += part.length;
    return part;
  });
  return { found, reads, bytes };
}

function descriptor(image: Buffer, sector: number, type: number): Buffer {
  const part = image.subarray(sector * SECTOR, (sector + 1) * SECTOR);
  part[0] = type;
  part.write('CD001', 1, 'latin1');
  return part;
}

/** A directory record; a folder's extent may be anything. */
function record(into: Buffer, at: number, name: string, extent: { sector: number; bytes: number }): number {
  const length = 33 + name.length + (name.length % 2 === 0 ? 1 : 0);
  into[at] = length;
  into.writeUInt32LE(extent.sector, at + 2);
  into.writeUInt32LE(extent.bytes, at + 10);
  into[at + 25] = 2;
  into[at + 32] = name.length;
  into.write(name, at + 33, 'latin1');
  return at + length;
}

test('random bytes carry nothing', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 100_000, size: 'max' }), async (bytes) => {
      expect((await inspect(Buffer.from(bytes))).found).toEqual([]);
    }),
    { numRuns: 50 },
  );
});

test('folders that lead into themselves, with lengths beyond the image', async () => {
  const image = Buffer.alloc(40 * SECTOR);
  const root = { sector: 20, bytes: 0xffffffff };
  record(descriptor(image, 16, 1), 156, '\0', root);
  const folder = image.subarray(20 * SECTOR, 21 * SECTOR);
  record(folder, record(folder, 0, 'EFI', root), 'BOOT', root);
  const { found, reads, bytes } = await inspect(image);
  expect(found).toEqual([]);
  expect(reads).toBeLessThan(10);
  expect(bytes).toBeLessThan(1024 * 1024);
});

test('a boot catalog full of FAT images whose folder chain is a ring', async () => {
  const image = Buffer.alloc(64 * SECTOR);
  descriptor(image, 16, 0).write('EL TORITO SPECIFICATION', 7, 'latin1');
  image.writeUInt32LE(20, 16 * SECTOR + 71);
  const catalog = image.subarray(20 * SECTOR, 21 * SECTOR);
  catalog.set([1, 0xef]);
  catalog.writeUInt16LE(0xaa55, 30);
  for (let at = 32; at < SECTOR; at += 32) {
    catalog[at] = 0x88;
    catalog.writeUInt32LE(24, at + 8);
  }
  const fat = image.subarray(24 * SECTOR);
  fat.writeUInt16LE(512, 11);
  fat.set([1], 13);
  fat.writeUInt16LE(1, 14);
  fat.set([1], 16);
  fat.writeUInt16LE(0, 17);
  fat.writeUInt16LE(0xffff, 19);
  fat.writeUInt16LE(1, 22);
  fat.writeUInt16LE(0xaa55, 510);
  // FAT16: cluster 2 follows itself. The root has no entries of its own here, so `EFI` is looked for in vain.
  fat.writeUInt16LE(2, 512 + 4);
  fat.writeUInt32LE(2, 44);
  const { found, reads } = await inspect(image);
  expect(found).toEqual([]);
  expect(reads).toBeLessThanOrEqual(256);
});

test('the images of a large FAT32 ring use up the budget and end', async () => {
  const image = Buffer.alloc(64 * SECTOR);
  descriptor(image, 16, 0).write('EL TORITO SPECIFICATION', 7, 'latin1');
  image.writeUInt32LE(20, 16 * SECTOR + 71);
  const catalog = image.subarray(20 * SECTOR, 21 * SECTOR);
  catalog.set([1, 0]);
  catalog.writeUInt16LE(0xaa55, 30);
  for (let at = 32; at < SECTOR; at += 32) {
    catalog[at] = 0x88;
    catalog.writeUInt32LE(24, at + 8);
  }
  const fat = image.subarray(24 * SECTOR);
  fat.writeUInt16LE(512, 11);
  fat.set([1], 13);
  fat.writeUInt16LE(1, 14);
  fat.set([1], 16);
  fat.writeUInt32LE(0x7fffffff, 32);
  fat.writeUInt32LE(1, 36);
  fat.writeUInt32LE(2, 44);
  fat.writeUInt16LE(0xaa55, 510);
  fat.writeUInt32LE(2, 512 + 8);
  // A folder without an end, whose every entry is a deleted one.
  for (let at = 1024; at < 1536; at += 32) fat[at] = 0xe5;
  const { found, reads } = await inspect(image);
  // The first image has no EFI folder, so it is a BIOS's; then the budget ends the rest.
  expect(found).toEqual(['x86_64']);
  expect(reads).toBeLessThanOrEqual(256);
});

test('an error of the reader is passed on', async () => {
  const broken = bootArchitectures(() => Promise.reject(new Error('host away')));
  await expect(broken).rejects.toThrow('host away');
});
