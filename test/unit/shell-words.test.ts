/** What describe prints of a command line, read back by a real shell. */
import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { commandLines, shellWord } from '../../src/cli/shell-words.ts';

const byBash = (text: string) =>
  execFileSync('bash', ['-c', `printf '%s\\0' ${text}`], { encoding: 'utf8' })
    .split('\0')
    .slice(0, -1);

test('any words come back as they were', () => {
  const words = fc.string({ unit: 'binary', maxLength: 20 }).filter((text) => !text.includes('\0'));
  const lines = fc.array(fc.oneof(words, fc.constantFrom("'", '\\', '$(reboot)', '-x', 'a b', '\n', '\u202e')), {
    minLength: 1,
    maxLength: 12,
  });
  fc.assert(
    fc.property(lines, (argv) => {
      expect(byBash(argv.map(shellWord).join(' '))).toEqual(argv);
      expect(byBash(commandLines(argv).join('\n'))).toEqual(argv);
    }),
    { numRuns: 40 },
  );
});

test('nothing that a terminal would obey is printed', () => {
  const hostile = '\u001b]0;title\u0007\u202e\u009b31m\r\n';
  expect(shellWord(hostile)).toMatch(/^[\x20-\x7e]+$/);
});

test('plain words stay plain, each option begins a line', () => {
  expect(commandLines(['/usr/bin/qemu', '-name', 'guest=web-1', '-daemonize', '-m', '32M'])).toEqual([
    '/usr/bin/qemu \\',
    '  -name guest=web-1 \\',
    '  -daemonize \\',
    '  -m 32M',
  ]);
});
