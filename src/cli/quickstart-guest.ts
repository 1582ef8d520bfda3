/** The disk of the quickstart's machine: built once for this user, copied once for the machine. */
import { constants, copyFileSync, existsSync, linkSync, mkdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { MARKER_FILE } from '../api/effective-spec.ts';
import type { Host } from '../api/host.ts';
import { ANNOTATIONS } from '../api/meta.ts';
import type { Context } from './context.ts';
import { CliError, EXIT } from './exit-codes.ts';

const SAMPLE = join(import.meta.dirname, '..', 'sample');
export const SAMPLE_MANIFEST = join(SAMPLE, 'linux.yaml');

const DISK_MODE_MASK = 0o077;

/** Path of the cached image. What takes the time is told on stderr. @throws CliError with what is missing */
export async function guestImage({ runProgram, signal }: Context): Promise<string> {
  const script = join(SAMPLE, 'build-linux-guest.sh');
  const { code, stdout } = await runProgram('/bin/sh', [script], { as: 'progress', signal });
  const image = stdout.trimEnd().split('\n').at(-1) ?? '';
  if (code === 0 && image !== '') return image;
  throw new CliError(
    EXIT.failed,
    'the sample Linux disk could not be built, see above. All that quickstart needs on Debian: ' +
      'sudo apt-get install --no-install-recommends qemu-system-x86 qemu-utils mtools syslinux',
  );
}

/** The file that the manifest means: its disk has no path of its own. */
export function diskPath(host: Host, vmName: string): string {
  return join(host.spec.vmDir, vmName, 'root.qcow2');
}

/** A vmDir that was claimed and is not there now: a file system that is not mounted. Nothing is put in its place. */
export function isVmDirLost({ metadata, spec }: Host): boolean {
  return metadata.annotations?.[ANNOTATIONS.claimed] !== undefined && !existsSync(join(spec.vmDir, MARKER_FILE));
}

/** Copies the image unless the file exists; whole or not at all. Returns whether it was copied. */
export function placeDisk(image: string, path: string): boolean {
  if (existsSync(path)) return false;
  const umask = process.umask(DISK_MODE_MASK);
  const partial = `${path}.${process.pid}.partial`;
  try {
    mkdirSync(join(path, '..'), { recursive: true });
    copyFileSync(image, partial, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    // Unlike a rename, a link never replaces what another quickstart put there in the meantime.
    linkSync(partial, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw new CliError(EXIT.failed, `cannot copy the sample disk to ${path}: ${(error as Error).message}`);
  } finally {
    rmSync(partial, { force: true });
    process.umask(umask);
  }
}

/** What a quickstart left that was ended before its machine existed: a copy in a folder that no VM has claimed. */
export function removeUnclaimedDisk(path: string): boolean {
  const folder = join(path, '..');
  if (!existsSync(path) || existsSync(join(folder, MARKER_FILE))) return false;
  rmSync(path);
  try {
    rmdirSync(folder);
  } catch {
    // It holds something of others.
  }
  return true;
}
