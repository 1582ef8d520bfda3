/** What a guest draws now, as a PNG: QEMU writes it into the VM's folder, from where it is fetched and removed. */
import { randomBytes } from 'node:crypto';
import { SCREENSHOT_PREFIX } from '../api/effective-spec.ts';
import type { Shell } from '../host/shell.ts';
import { PNG_SIGNATURE, pngFromPpm } from './png.ts';
import { tellMonitor, UserMonitorError } from './user-monitor.ts';

/** The machine has no display that could be drawn. */
export class NoScreenError extends Error {
  override name = 'NoScreenError';
}

const TIMEOUT_MS = 10_000;

/** QEMU would make the file readable by its group; it keeps the mode of one that is there. */
const MAKE = 'umask 077; set -C; : >"$1"';
const FETCH = 'cat "$1"';
const REMOVE = 'rm -f "$1"';

/**
 * @param folder the VM's own folder on the shell's host
 * @throws NoScreenError, UserMonitorError, DialError where the VM is not running, and what Shell.run throws
 */
export async function screenshot(shell: Shell, folder: string, signal: AbortSignal): Promise<Buffer> {
  const path = `${folder}/${SCREENSHOT_PREFIX}${randomBytes(6).toString('hex')}`;
  try {
    await run(shell, MAKE, path, signal);
    await draw(shell, folder, path, signal);
    const picture = await run(shell, FETCH, path, signal);
    return picture.subarray(0, PNG_SIGNATURE.length).equals(PNG_SIGNATURE) ? picture : pngFromPpm(picture);
  } finally {
    // Also where the caller is interrupted: nobody else knows the file.
    await run(shell, REMOVE, path, AbortSignal.timeout(TIMEOUT_MS)).catch(() => undefined);
  }
}

/** PNG since QEMU 7.1, where it was built with it; PPM always. */
async function draw(shell: Shell, folder: string, filename: string, signal: AbortSignal): Promise<void> {
  const screendump = (format: object) =>
    tellMonitor(shell, folder, [{ execute: 'screendump', arguments: { filename, ...format } }], signal);
  try {
    await screendump({ format: 'png' }).catch((error: unknown) => {
      if (!(error instanceof UserMonitorError) || !/format|png/i.test(error.message)) throw error;
      return screendump({});
    });
  } catch (error) {
    if (error instanceof UserMonitorError && /no console/i.test(error.message)) throw new NoScreenError(error.message);
    throw error;
  }
}

async function run(shell: Shell, script: string, path: string, signal: AbortSignal): Promise<Buffer> {
  const { code, stdout, stderr } = await shell.run(script, [path], { timeoutMs: TIMEOUT_MS, signal });
  if (code !== 0) throw new Error(`${path}: ${stderr.toString('utf8').trim().slice(0, 300)}`);
  return stdout;
}
