/** The answer of a look, read: what only an odd machine shows. */
import { expect, test } from 'vitest';
import { parseProbe } from '../../src/qemu/probe.ts';

const REQUEST = { vmDirs: ['/vms'], logs: [], paths: [], bootIdFile: '', machineIdFile: '' };

test('the lock of a pidfile is found although files of other file systems have the same inode number', () => {
  const lines = [
    '@n host',
    '10.0 boot machine 1000 100 0',
    '@n locks',
    '1: POSIX  ADVISORY  WRITE 400 fd:01:77 0 EOF',
    '2: POSIX  ADVISORY  WRITE 500 00:2a:77 0 EOF',
    '3: POSIX  ADVISORY  READ  600 00:2a:77 100 101',
    '4: -> POSIX  ADVISORY  WRITE 700 00:2a:77 0 EOF',
    '@n end',
  ];
  const { lockHolders } = parseProbe(Buffer.from(lines.join('\n')), REQUEST, 'n');
  expect(lockHolders).toEqual(new Map([['77', new Set([400, 500])]]));
});
