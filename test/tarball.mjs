/** The package as `npm pack` makes it, from a copy of this tree: the tree itself gets no dist/. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { ROOT } from './stages.mjs';

/** What git has or would take, so that nobody's leftovers get into the copy. */
function sources() {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  return listed.split('\0').filter((path) => path !== '' && !path.startsWith('node_modules'));
}

function copyOf(folder) {
  for (const path of sources()) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    cpSync(join(ROOT, path), join(folder, path), { force: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
}

/** Packs the product into `folder` and returns the tarball's path. */
export function packTarball(folder) {
  const copy = mkdtempSync(join(tmpdir(), 'pack-'));
  try {
    copyOf(copy);
    const args = ['pack', '--json', '--pack-destination', folder];
    execFileSync('npm', args, { cwd: copy, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    return join(folder, `qemu-operator-${version(copy)}.tgz`);
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

function version(folder) {
  return execFileSync('npm', ['pkg', 'get', 'version'], { cwd: folder, encoding: 'utf8' }).trim().replaceAll('"', '');
}
