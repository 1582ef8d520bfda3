/** test/faults.md is complete and true: every fault that was asked for has a row, and every row names a test that exists. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

const TEST = join(import.meta.dirname, '..');

/** What must be proved, and, where a name alone is cheap, a text that its test must hold. */
const FAULTS: readonly (readonly [fault: string, holds?: string])[] = [
  ["vmDir's file system unmounted while the controller is down", "'mount', '--move'"],
  ['a disk removed by hand'],
  ['another machine-id'],
  ["another store's marker"],
  ['object re-created under the same name, then adopted'],
  ['manifest removed by `git checkout`', "'checkout'"],
  ['duplicate create'],
  ['unknown VM'],
  ['bad size', "memory: 'lots'"],
  ['bad arch', 'riscv64'],
  ['bad action', "action: 'Start'"],
  ['bad name', '$(id)'],
  ['bad path', '/a/../b'],
  ['unknown field', 'vcpu: 2'],
  ['injection: `../x`', "'../x'"],
  ['injection: `a;b`', "'a;b'"],
  ['injection: newline', "'a\\nb'"],
  ['injection: leading dash', "'-name'"],
  ['injection: 300 characters', "'x'.repeat(300)"],
  ['injection: unicode', '虚拟机'],
  ['injection: paths that a shell or an option list would understand', '$(touch pwned)'],
  ['a seed that cannot be written', 'No space left on device'],
  ['a Secret that is not there', 'SecretNotFound'],
  ['missing ISO'],
  ['missing folder'],
  ["missing QEMU, in the seed's words and with how to install it", 'command not found'],
  ['QEMU 5', '5.2.0'],
  ['disk held by another process', '/proc/locks'],
  ['full disk at create'],
  ['full disk at run (`io-error`)', "'io-error'"],
  ['full disk in the store', 'the disk is full'],
  ['read-only store'],
  ['QEMU killed', "'SIGKILL'"],
  ['guest powers off'],
  ['guest reboots', 'reboot -f'],
  ['guest panics', '/proc/sysrq-trigger'],
  ['guest ignores powerdown', 'GuestIgnoresPowerdown'],
  ['host reboot (boot id)', 'bootIdFile'],
  ['clock jumps', '-86400000'],
  ['two controllers on one store'],
  ['two stores on one host'],
  ['agent that never answers', '/dev/virtio-ports/org.qemu.guest_agent.0'],
];

const COLUMNS = ['Fault', 'Test file', 'Test', 'Real part used', 'What was seen'];

interface Row {
  readonly fault: string;
  readonly file: string;
  readonly title: string;
  readonly part: string;
  readonly seen: string;
}

function cells(line: string): string[] {
  return line
    .split(/(?<!\\)\|/)
    .slice(1, -1)
    .map((cell) => cell.trim().replaceAll('\\|', '|'));
}

const lines = readFileSync(join(TEST, 'faults.md'), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('|'));

const rows: Row[] = lines.slice(2).map((line) => {
  const [fault = '', file = '', title = '', part = '', seen = ''] = cells(line);
  return { fault, file: file.replace(/^`|`$/g, ''), title, part, seen };
});

/** The text of a test file; empty where there is none. */
function textOf(file: string): string {
  const path = join(TEST, file);
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

/** Whether a test or a group of this title stands in the file and runs. */
function hasTest(text: string, title: string): boolean {
  const quoted = [`'${title.replaceAll("'", "\\'")}'`, `"${title}"`, `\`${title}\``];
  const calls = /\b(?:test|describe)((?:\.\w+)*)(?:<[^(]*>)?\(/g;
  const skipped = [...text.matchAll(calls)].some(([, more = '']) => /\.(skip|todo|only|fails)/.test(more));
  return !skipped && quoted.some((word) => new RegExp(`\\(\\s*${escaped(word)},`).test(text));
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

test('the table has its columns', () => {
  expect(cells(lines[0] ?? '')).toEqual(COLUMNS);
});

describe('has a row for', () => {
  test.each(FAULTS)('%s', (fault, holds = '') => {
    const found = rows.filter((row) => row.fault === fault);
    expect(found).not.toEqual([]);
    expect(found.some(({ file }) => textOf(file).includes(holds))).toBe(true);
  });
});

describe('names a test that runs', () => {
  test.each(rows)('$fault: $file', ({ file, title, part, seen }) => {
    expect(file).toMatch(/^(unit|property|conformance|e2e|cluster)\/[\w.-]+\.test\.ts$/);
    expect(existsSync(join(TEST, file))).toBe(true);
    expect(hasTest(textOf(file), title), `${file} has a test called ${title}`).toBe(true);
    expect([part, seen].every((cell) => cell.length > 3)).toBe(true);
  });
});

test('a row whose test is gone, renamed or skipped is noticed', () => {
  const text = "test('a', async () => {});\ndescribe.concurrent('b', () => {});\ntest.each(x)('%s', () => {});";
  expect(['a', 'b', 'c', 'async'].map((title) => hasTest(text, title))).toEqual([true, true, false, false]);
  expect(hasTest(`${text}\ntest.skip('a', () => {});`, 'a')).toBe(false);
});
