/** The Linux guest of the quickstart, for tests that need a shell in a machine. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** The script as it ships. */
export const BUILD_SCRIPT = join(import.meta.dirname, '..', '..', 'src', 'sample', 'build-linux-guest.sh');

const BUILD_DEADLINE_MS = 300_000;

let image: Promise<string> | undefined;

async function build(): Promise<string> {
  const { stdout } = await promisify(execFile)(BUILD_SCRIPT, { timeout: BUILD_DEADLINE_MS });
  return stdout.trimEnd().split('\n').at(-1) ?? '';
}

/**
 * Path of the cached qcow2 image, built when it is not there yet. Shared by all: give a VM a copy or an overlay.
 * Its shell prompt is `linux:~# `; it needs 128 MiB, and reaches the prompt in about five seconds under TCG.
 */
export function linuxGuest(): Promise<string> {
  image ??= build();
  return image;
}
