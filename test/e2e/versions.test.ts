/**
 * The versions of this run: of Node by itself, of QEMU by QMP. `npm run test:versions` says which they must be; in any
 * other run Node is the pinned one and QEMU the machine's own.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { qmp } from './support/oracle.ts';
import { Rig } from './support/rig.ts';
import { until } from './support/wait.ts';

const ROOT = join(import.meta.dirname, '..', '..');

/** Of `PROGRAM --version`. */
function majorOf(program: string): string | undefined {
  return /version (\d+)\./.exec(execFileSync(program, ['--version'], { encoding: 'utf8' }))?.[1];
}

const qemuMajor = process.env['QEMU_OPERATOR_TEST_QEMU'] ?? majorOf('qemu-system-x86_64');

function pinnedNode(): string {
  return (JSON.parse(readFileSync(join(ROOT, 'node_modules', 'node', 'package.json'), 'utf8')) as { version: string })
    .version;
}

test('Node is the one of this run', () => {
  expect(process.versions.node).toBe(process.env['QEMU_OPERATOR_TEST_NODE'] ?? pinnedNode());
});

test('qemu-img is the one of this run', () => {
  expect(majorOf('qemu-img')).toBe(qemuMajor);
});

describe.each(['x86_64', 'arm64'] as const)('a guest of %s', (architecture) => {
  test('runs under the QEMU of this run, and its Host says the version', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1', { architecture, memory: '64Mi', disks: [{ name: 'data', size: '1Mi' }] });
    await rig.untilRunning('web-1');
    interface Version {
      readonly qemu: { readonly major: number; readonly minor: number; readonly micro: number };
    }
    const { major, minor, micro } = (await qmp<Version>(rig.folder('web-1'), 'query-version')).qemu;
    expect(String(major)).toBe(qemuMajor);
    const host = await until(
      'the Host is told',
      () => rig.host(),
      ({ status }) => status?.info !== undefined,
    );
    expect(host.status?.info?.qemu?.[architecture]).toBe(`${major}.${minor}.${micro}`);
  });
});
