/** ISO images made by xorriso and mtools, as distributions make theirs. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Architecture } from '../../src/api/virtual-machine.ts';
import { bootArchitectures } from '../../src/qemu/iso.ts';
import { IsoInspector, inspectIso } from '../../src/qemu/iso-inspector.ts';
import { TestShell } from './support/stand-ins.ts';

const signal = new AbortController().signal;

let root: string;
let made = 0;
let runs = 0;
let shell: TestShell;

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'iso-'));
  shell = new TestShell({
    onRun: () => {
      runs += 1;
    },
  });
});

afterAll(async () => {
  await shell.close();
  rmSync(root, { recursive: true, force: true });
});

/** A tree with the files, as content of an image. */
function tree(files: Readonly<Record<string, Buffer | string>>): string {
  made += 1;
  const folder = join(root, `tree ${made}`);
  mkdirSync(folder);
  for (const [name, content] of Object.entries(files)) {
    const path = join(folder, name);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, content);
  }
  return folder;
}

function iso(folder: string, ...options: string[]): string {
  made += 1;
  const path = join(root, `it's image ${made}.iso`);
  execFileSync('xorriso', ['-as', 'mkisofs', '-quiet', '-V', 'TEST', '-o', path, ...options, folder], {
    stdio: 'pipe',
  });
  return path;
}

/** A FAT image with the loaders below EFI/BOOT, and so many other files before them there. */
function efiImage(loaders: readonly string[], { kib = 4096, bits = 12, others = 0 } = {}): Buffer {
  made += 1;
  const path = join(root, `efi${made}.img`);
  const env = { ...process.env, MTOOLS_SKIP_CHECK: '1' };
  const size = ['-T', String(kib * 2), '-h', '16', '-s', '32'];
  execFileSync('mformat', ['-C', '-i', path, ...size, ...(bits === 32 ? ['-F'] : []), '::'], { env });
  execFileSync('mmd', ['-i', path, '::EFI', '::EFI/BOOT'], { env });
  const file = join(root, 'loader');
  writeFileSync(file, 'MZ');
  const names = [...Array.from({ length: others }, (_, index) => `other-file-${index}.cfg`), ...loaders];
  for (const name of names) execFileSync('mcopy', ['-i', path, file, `::EFI/BOOT/${name}`], { env });
  return readFileSync(path);
}

const bios = ['-b', 'boot/bios.img', '-no-emul-boot', '-boot-load-size', '4', '-boot-info-table', '-c', 'boot/cat'];
const efi = ['-e', 'boot/efi.img', '-no-emul-boot'];
const seen = (path: string) => inspectIso(shell, path, signal);

interface Case {
  readonly what: string;
  readonly make: () => string;
  readonly carries: readonly Architecture[];
}

const cases: readonly Case[] = [
  {
    what: 'a BIOS boot image',
    make: () => iso(tree({ 'boot/bios.img': Buffer.alloc(4096) }), ...bios),
    carries: ['x86_64'],
  },
  {
    what: 'an x64 loader in an EFI image',
    make: () => iso(tree({ 'boot/efi.img': efiImage(['BOOTX64.EFI']) }), ...efi),
    carries: ['x86_64'],
  },
  {
    what: 'an arm64 loader in an EFI image, lower case',
    make: () => iso(tree({ 'boot/efi.img': efiImage(['bootaa64.efi', 'grubaa64.efi']) }), ...efi),
    carries: ['arm64'],
  },
  {
    what: 'an arm64 loader behind two hundred others, in a folder of many FAT clusters',
    make: () => iso(tree({ 'boot/efi.img': efiImage(['BOOTAA64.EFI'], { others: 200 }) }), ...efi),
    carries: ['arm64'],
  },
  {
    what: 'an arm64 loader in a FAT16 image',
    make: () => iso(tree({ 'boot/efi.img': efiImage(['BOOTAA64.EFI'], { kib: 32_768, others: 40 }) }), ...efi),
    carries: ['arm64'],
  },
  {
    what: 'an arm64 loader in a FAT32 image',
    make: () =>
      iso(tree({ 'boot/efi.img': efiImage(['BOOTAA64.EFI'], { kib: 65_536, bits: 32, others: 40 }) }), ...efi),
    carries: ['arm64'],
  },
  {
    what: 'an arm64 EFI image that is marked as one for the BIOS, as older tools do',
    make: () => iso(tree({ 'boot/efi.img': efiImage(['BOOTAA64.EFI']) }), '-b', 'boot/efi.img', '-no-emul-boot'),
    carries: ['arm64'],
  },
  {
    what: 'a BIOS image and an x64 EFI image, as a Debian installer for amd64 has',
    make: () =>
      iso(
        tree({ 'boot/bios.img': Buffer.alloc(4096), 'boot/efi.img': efiImage(['BOOTX64.EFI', 'BOOTIA32.EFI']) }),
        ...bios,
        '-eltorito-alt-boot',
        ...efi,
      ),
    carries: ['x86_64'],
  },
  {
    what: 'both architectures',
    make: () =>
      iso(
        tree({ 'boot/bios.img': Buffer.alloc(4096), 'boot/efi.img': efiImage(['BOOTX64.EFI', 'BOOTAA64.EFI']) }),
        ...bios,
        '-eltorito-alt-boot',
        ...efi,
      ),
    carries: ['x86_64', 'arm64'],
  },
  {
    what: 'loaders as plain files, with Rock Ridge and Joliet, in lower case',
    make: () => iso(tree({ 'efi/boot/bootaa64.efi': 'MZ', 'readme.txt': 'hello' }), '-R', '-J'),
    carries: ['arm64'],
  },
  {
    what: 'a loader as a plain file in a tree of many others',
    make: () => {
      const many = Array.from({ length: 500 }, (_, index) => [`a-rather-long-name-of-a-file-${index}.txt`, 'x']);
      return iso(tree({ ...Object.fromEntries(many), 'EFI/BOOT/BOOTX64.EFI': 'MZ' }), '-R', '-iso-level', '3');
    },
    carries: ['x86_64'],
  },
  { what: 'data alone', make: () => iso(tree({ 'user-data': '#cloud-config', 'meta-data': '' }), '-J'), carries: [] },
  {
    what: 'an emulated floppy with an EFI folder on it: a BIOS boots that',
    make: () => {
      const floppy = efiImage(['BOOTAA64.EFI'], { kib: 1440 });
      return iso(tree({ 'boot/floppy.img': floppy }), '-b', 'boot/floppy.img', '-c', 'boot/cat');
    },
    carries: ['x86_64'],
  },
];

describe('an image with', () => {
  test.each(cases)('$what', async ({ make, carries }) => {
    expect(await seen(make())).toEqual(carries);
  });
});

test('an image is read in few round trips, and again only when its file changed', async () => {
  runs = 0;
  const inspector = new IsoInspector(shell);
  const path = iso(tree({ 'boot/efi.img': efiImage(['BOOTAA64.EFI']) }), ...efi);
  expect(await inspector.architectures(path, 1, 2, signal)).toEqual(['arm64']);
  expect(runs).toBeLessThanOrEqual(3);
  const once = runs;
  await inspector.architectures(path, 1, 2, signal);
  expect(runs).toBe(once);
  await inspector.architectures(path, 3, 2, signal);
  expect(runs).toBe(2 * once);
});

test('a file that cannot be read is told, and not remembered', async () => {
  const inspector = new IsoInspector(shell);
  const path = join(root, 'later.iso');
  await expect(inspector.architectures(path, 1, 2, signal)).rejects.toThrow(/cannot read .*later\.iso/);
  writeFileSync(path, readFileSync(iso(tree({ 'EFI/BOOT/BOOTX64.EFI': 'MZ' }))));
  expect(await inspector.architectures(path, 1, 2, signal)).toEqual(['x86_64']);
});

test('an image that was cut off is read as far as it goes', async () => {
  const path = iso(tree({ 'boot/efi.img': efiImage(['BOOTX64.EFI']) }), ...efi);
  for (const length of [300_000, 60_000, 40_000, 34_000, 32_768, 100, 0]) {
    truncateSync(path, length);
    const found = await seen(path);
    expect(['[]', '["x86_64"]']).toContain(JSON.stringify(found));
  }
});

test('whatever bytes are changed, it answers soon and reads little', async () => {
  const image = readFileSync(
    iso(
      tree({ 'EFI/BOOT/BOOTX64.EFI': 'MZ', 'boot/efi.img': efiImage(['BOOTAA64.EFI'], { kib: 512, others: 60 }) }),
      ...efi,
    ),
  );
  // Where the structures are: descriptors, path tables, folders, the catalog, and the FAT behind them.
  const place = fc.integer({ min: 16 * 2048, max: Math.min(image.length, 600_000) - 1 });
  const change = fc.tuple(place, fc.uint8Array({ minLength: 1, maxLength: 64 }));
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 20 }), async (changes) => {
      const broken = Buffer.from(image);
      for (const [at, bytes] of changes) broken.set(bytes.subarray(0, broken.length - at), at);
      let reads = 0;
      const found = await bootArchitectures(async (offset, length) => {
        reads += 1;
        expect(length).toBeLessThanOrEqual(1024 * 1024);
        return broken.subarray(offset, offset + length);
      });
      expect(reads).toBeLessThanOrEqual(256);
      expect(new Set(['x86_64', 'arm64', ...found]).size).toBe(2);
    }),
    { numRuns: 500 },
  );
});
