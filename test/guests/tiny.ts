/**
 * Guests that are small enough to be written by a test: they start in a fraction of a second under TCG, print
 * TINY-UP on their serial port and answer the ACPI power button with TINY-POWERDOWN and an orderly power-off.
 */
import { writeFile } from 'node:fs/promises';

const SECTOR_BYTES = 512;
const BOOT_SIGNATURE = Buffer.from([0x55, 0xaa]);

/** A boot sector for pc and q35 under SeaBIOS (tiny.S): one 4 KiB write and read of its disk, then TINY-IO. */
const BOOT_SECTOR =
  '+jHAjtiOwI7QvAB8iBZmfL54fOhEAPu0QzDA6DIAtELoLQByBr6CfOgvALoABrgAAe+6Agbv9LoABu32xAF09r6MfOgUALoEBrgAIO/06/2KFmZ8' +
  'vmh8zRPDrITAdAa6+APu6/XDgJAQAAgAAHwAAAgAAAAAAAAAVElOWS1VUA0KAFRJTlktSU8NCgBUSU5ZLVBPV0VSRE9XTg0KAAAAAA==';

/** Firmware for `-machine virt` (tinya.S); it has no disk. */
const ARM64_FIRMWARE =
  'kwUAWGAEABAdAACUdQUAWJYFAFi3BQBYIQCAUsECALnhAgC54R+AUuEGALkBAKhSwQIBuRjgO9WBAoDSGAvBmhjiG9UhAIDSIeIb1d8/A9V/IAPV' +
  '4w5AueMSALmiAkC5Av8PNqABAFAFAACUIAMAWAIAANR/IAPV////FwEUQDhhAAA0YQIAuf3//xfAA1/WVElOWS1VUA0KAFRJTlktUE9XRVJET1dO' +
  'DQoAAB8gA9UAAAAJAAAAAAAACAkAAAAAAAAACAAAAAAAAAEIAAAAAAgAAIQAAAAA';

/** The size of arm64's pflash0; the rest of the file is a hole. */
const ARM64_FLASH_BYTES = 64 * 1024 * 1024;

/** The whole of a raw x86_64 disk that boots: 1 MiB, so that its own test write has room. */
export function tinyDisk(sizeBytes = 1024 * 1024): Buffer {
  const disk = Buffer.alloc(sizeBytes);
  Buffer.from(BOOT_SECTOR, 'base64').copy(disk);
  BOOT_SIGNATURE.copy(disk, SECTOR_BYTES - BOOT_SIGNATURE.length);
  return disk;
}

/** Writes the bootable raw disk to `path`. */
export async function writeTinyDisk(path: string, sizeBytes?: number): Promise<void> {
  await writeFile(path, tinyDisk(sizeBytes));
}

/** Writes the arm64 firmware to `path`, for `-bios` or as a raw pflash0. */
export async function writeTinyArm64Firmware(path: string): Promise<void> {
  const flash = Buffer.alloc(ARM64_FLASH_BYTES);
  Buffer.from(ARM64_FIRMWARE, 'base64').copy(flash);
  await writeFile(path, flash);
}
