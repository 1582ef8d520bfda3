/** The gate itself: what `npm run check` promises to refuse, it refuses. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { staticStages } from '../stages.mjs';

const ROOT = join(import.meta.dirname, '..', '..');
const BIOME = join(ROOT, 'node_modules', '.bin', 'biome');

/**
 * Lints one file in a folder of its own that has the project's configuration: planted among the sources it would
 * fail a check that runs at the same time.
 */
function lint(source: string): { ok: boolean; output: string } {
  const folder = mkdtempSync(join(tmpdir(), 'gate-'));
  try {
    const configuration = JSON.parse(readFileSync(join(ROOT, 'biome.json'), 'utf8'));
    writeFileSync(join(folder, 'biome.json'), JSON.stringify({ ...configuration, $schema: undefined, vcs: undefined }));
    writeFileSync(join(folder, 'planted.ts'), source);
    const { status, stdout, stderr } = spawnSync(BIOME, ['check', '--error-on-warnings', 'planted.ts'], {
      cwd: folder,
      encoding: 'utf8',
    });
    return { ok: status === 0, output: stdout + stderr };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('the check lints everything, warnings included', () => {
  const [, lintStage] = staticStages();
  expect(lintStage?.args).toEqual(['check', '--error-on-warnings', '.']);
});

const PROMISE = `async function work(): Promise<void> {
  await Promise.resolve();
}

`;

test('a promise that is awaited passes', () => {
  const { ok, output } = lint(`${PROMISE}await work();\n`);
  expect(ok, output).toBe(true);
});

test('a floating promise is refused', () => {
  const { ok, output } = lint(`${PROMISE}work();\n`);
  expect(ok).toBe(false);
  expect(output).toContain('noFloatingPromises');
});

test('a promise where a condition belongs is refused', () => {
  const { ok, output } = lint(`${PROMISE}if (work()) console.log('always');\n`);
  expect(ok).toBe(false);
  expect(output).toContain('noMisusedPromises');
});

test('any, enums and default exports are refused', () => {
  const { ok, output } = lint(
    'export enum Colour {\n  Red,\n}\n\nexport default function (x: any): unknown {\n  return x;\n}\n',
  );
  expect(ok).toBe(false);
  for (const rule of ['noEnum', 'noDefaultExport', 'noExplicitAny']) expect(output).toContain(rule);
});
