/** `npm run generate -- --check` must be able to fail. */
import { spawnSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { generatedFiles } from '../generate.ts';

const SCRIPT = join(import.meta.dirname, '..', 'generate.ts');
let root = '';

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'generate-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function generate(...options: string[]): { code: number | null; out: string; complaints: string[] } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [SCRIPT, '--root', root, ...options], {
    encoding: 'utf8',
  });
  return {
    code: status,
    out: stdout,
    complaints: stderr.split('\n').filter((line) => line.includes('as the sources say')),
  };
}

test('what was generated is up to date, and is not written again', () => {
  expect(generate()).toMatchObject({ code: 0, out: expect.stringContaining('wrote crds/') });
  expect(generate('--check')).toMatchObject({ code: 0, complaints: [] });
  expect(generate()).toMatchObject({ code: 0, out: '' });
});

test('nothing there: every file is named', async () => {
  const { code, complaints } = generate('--check');
  expect(code).toBe(1);
  expect(complaints).toHaveLength((await generatedFiles()).size);
});

test('a file that was edited, and one too many, are named and mended', () => {
  generate();
  appendFileSync(join(root, 'crds/qemu-operator.dev_hosts.yaml'), '# edited\n');
  const template = 'charts/qemu-operator-crds/templates/qemu-operator.dev_hosts.yaml';
  appendFileSync(join(root, template), '# edited\n');
  const tooMany = ['crds/old.yaml', 'charts/qemu-operator-crds/templates/old.yaml'];
  for (const path of tooMany) writeFileSync(join(root, path), '');
  const { code, complaints } = generate('--check');
  expect(code).toBe(1);
  const named = complaints.map((line) => line.split(' ')[0]);
  expect(named).toEqual(['crds/qemu-operator.dev_hosts.yaml', template, ...tooMany]);
  expect(generate().code).toBe(0);
  expect(generate('--check').code).toBe(0);
});
