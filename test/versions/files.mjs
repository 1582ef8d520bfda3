/** The rows of files.md: which e2e files run again, and why the others do not. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** @returns {{file: string, ssh: string, qemu: string, node: string, reason: string, sshReason: string}[]} */
export function filesAgain() {
  return readFileSync(join(import.meta.dirname, 'files.md'), 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .map(([, name = '', ssh = '', qemu = '', node = '', reason = '', sshReason = '']) => ({
      file: `test/e2e/${name.replaceAll('`', '')}.test.ts`,
      ssh,
      qemu,
      node,
      reason,
      sshReason,
    }));
}
