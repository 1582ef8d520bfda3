/** test/versions/files.md: a new e2e file makes its author decide whether it runs over SSH and under other versions too. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { filesAgain } from '../versions/files.mjs';

test('each e2e file has one row, and one that is left out has a reason', () => {
  const files = readdirSync(join(import.meta.dirname, '..', 'e2e')).filter((name) => name.endsWith('.test.ts'));
  const rows = filesAgain();
  expect(rows.map(({ file }) => file).sort()).toEqual(files.map((name) => `test/e2e/${name}`).sort());
  for (const { file, ssh, qemu, node, reason, sshReason } of rows) {
    for (const cell of [ssh, qemu, node]) expect(cell, file).toMatch(/^(yes|no)$/);
    expect(reason.length > 10, file).toBe([qemu, node].includes('no'));
    expect(sshReason.length > 10, file).toBe(ssh === 'no');
  }
});
