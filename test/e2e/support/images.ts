/** Disks and ISO images for the tests' VMs. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { tinyDisk } from '../../guests/tiny.ts';

const SECTOR = 512;
const MIB = 1_048_576;

export interface ImageInfo {
  readonly format: string;
  readonly 'virtual-size': number;
  readonly 'actual-size': number;
}

/** qemu-img's own view, without taking a running VM's lock. */
export function imageInfo(path: string): ImageInfo {
  const text = execFileSync('qemu-img', ['info', '-U', '--output=json', path], { encoding: 'utf8' });
  return JSON.parse(text) as ImageInfo;
}

/** Of what a guest would read; the format is the suffix's. */
export function contentHash(disk: string): string {
  const raw = `${disk}.content`;
  const format = disk.endsWith('.raw') ? 'raw' : 'qcow2';
  execFileSync('qemu-img', ['convert', '-f', format, '-O', 'raw', disk, raw]);
  const hash = createHash('sha256').update(readFileSync(raw)).digest('hex');
  rmSync(raw);
  return hash;
}

/** The boot sector and a hole: the guest's own write needs space that is not taken yet. */
export function writeSparseTiny(path: string, sizeBytes = MIB): string {
  mkdirSync(dirname(path), { recursive: true });
  const file = openSync(path, 'w');
  writeSync(file, tinyDisk(), 0, SECTOR, 0);
  ftruncateSync(file, sizeBytes);
  closeSync(file);
  return path;
}

/** The guest as qcow2. */
export function writeTinyQcow2(path: string): string {
  const raw = writeSparseTiny(`${path}.raw`);
  execFileSync('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', raw, path]);
  return path;
}

/** A guest that halts with interrupts off: it runs, and hears no power button. */
export function writeDeafDisk(path: string): string {
  mkdirSync(dirname(path), { recursive: true });
  const disk = Buffer.alloc(MIB);
  disk.set([0xfa, 0xf4, 0xeb, 0xfd]);
  disk.set([0x55, 0xaa], SECTOR - 2);
  writeFileSync(path, disk);
  return path;
}

/** A BIOS ISO image, El Torito without emulation: its boot image is the tiny guest. */
export function writeTinyIso(path: string): string {
  const folder = `${path}.tree`;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'boot.bin'), tinyDisk().subarray(0, 4 * SECTOR));
  const boot = ['-b', 'boot.bin', '-no-emul-boot', '-boot-load-size', '4'];
  execFileSync('xorriso', ['-as', 'mkisofs', '-quiet', ...boot, '-o', path, folder], { stdio: 'pipe' });
  return path;
}

/** A UEFI ISO image that only an arm64 machine can boot. */
export function writeArm64Iso(path: string): string {
  const folder = `${path}.tree`;
  mkdirSync(folder, { recursive: true });
  const esp = join(folder, 'efi.img');
  const program = `${path}.efi`;
  writeFileSync(program, 'MZ');
  execFileSync('mformat', ['-C', '-i', esp, '-T', '2880', '::']);
  execFileSync('mmd', ['-i', esp, '::/EFI', '::/EFI/BOOT']);
  execFileSync('mcopy', ['-i', esp, program, '::/EFI/BOOT/BOOTAA64.EFI']);
  const boot = ['-e', 'efi.img', '-no-emul-boot'];
  execFileSync('xorriso', ['-as', 'mkisofs', '-quiet', ...boot, '-o', path, folder], { stdio: 'pipe' });
  return path;
}

/** Puts the tiny guest into a disk that exists. */
export function writeTinyInto(path: string): void {
  const raw = writeSparseTiny(`${path}.tiny`);
  execFileSync('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'qcow2', raw, path]);
  rmSync(raw);
}

/** Whether the disk still begins with the tiny guest. */
export function readTiny(path: string): boolean {
  const raw = `${path}.read`;
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, raw]);
  const same = readFileSync(raw).subarray(0, SECTOR).equals(tinyDisk().subarray(0, SECTOR));
  rmSync(raw);
  return same;
}

/** Label and files, as xorriso reads them. */
export function readIso(path: string): { readonly label: string; readonly files: Readonly<Record<string, Buffer>> } {
  const folder = mkdtempSync(join(path, '..', '..', '..', 'read-'));
  const said = execFileSync('xorriso', ['-indev', path, '-osirrox', 'on', '-extract', '/', folder, '-pvd_info'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  execFileSync('chmod', ['-R', 'u+rwX', folder]);
  const files = readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))] as const);
  rmSync(folder, { recursive: true });
  return { label: /Volume Id\s*: (.*)/.exec(said)?.[1] ?? '', files: Object.fromEntries(files) };
}
