/** The package as people have it: packed, and installed in an empty folder that everybody may read. */
import { execFile } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packTarball } from '../../tarball.mjs';
import type { OnFinished } from './rig.ts';

const run = promisify(execFile);
export const INSTALL_MS = 240_000;

/** The folder; `node_modules/.bin/qemu-operator` in it is the command. */
export async function installed(onFinished: OnFinished): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'installed-'));
  onFinished(async () => rmSync(folder, { recursive: true, force: true }));
  chmodSync(folder, 0o755);
  writeFileSync(join(folder, 'package.json'), '{}');
  const options = ['--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'];
  await run('npm', ['install', ...options, packTarball(folder)], { cwd: folder, timeout: INSTALL_MS });
  return folder;
}
