/** The answer of a look, read: what only an odd machine shows. */
import { expect, test } from 'vitest';
import { parseProbe } from '../../src/qemu/probe.ts';

const REQUEST = {
  vmDirs: ['/vms'],
  logs: [],
  paths: [],
  ports: true,
  bridges: true,
  bootIdFile: '',
  machineIdFile: '',
};

test('who listens on which port: IPv4, IPv6 that means both, and no other', () => {
  const lines = [
    '@n host',
    '10.0 boot machine 1000 100 0',
    '@n ports',
    '/proc/net/tcp 0100007F:1F90 11',
    '/proc/net/tcp6 00000000000000000000000000000000:0016 12',
    '/proc/net/tcp6 0000000000000000FFFF00000200000A:0050 13',
    '/proc/net/tcp6 00000000000000000000000001000000:0051 14',
    '/proc/net/udp 00000000:0035 15',
    '@n end',
  ];
  expect(parseProbe(Buffer.from(lines.join('\n')), REQUEST, 'n').ports).toEqual([
    { protocol: 'TCP', hostAddress: '127.0.0.1', hostPort: 8080, inode: '11' },
    { protocol: 'TCP', hostAddress: '0.0.0.0', hostPort: 22, inode: '12' },
    { protocol: 'TCP', hostAddress: '10.0.0.2', hostPort: 80, inode: '13' },
    { protocol: 'UDP', hostAddress: '0.0.0.0', hostPort: 53, inode: '15' },
  ]);
});

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
