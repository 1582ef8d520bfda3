/** The words that `ssh` is given. */
import { expect, test } from 'vitest';
import { sshOptions } from '../../src/cli/ssh.ts';

const LOGIN = { user: undefined, identity: undefined, uid: 'uid-1', keys: '/store/.state/known_hosts' };

test('the VM’s key under its uid, in a file of the store; a user and a key where they are said', () => {
  expect(sshOptions({ host: '127.0.0.1', port: 2222 }, LOGIN)).toEqual([
    ...['-o', 'HostKeyAlias=uid-1'],
    ...['-o', 'UserKnownHostsFile="/store/.state/known_hosts/uid-1"'],
    ...['-o', 'GlobalKnownHostsFile=/dev/null'],
    ...['-o', 'StrictHostKeyChecking=accept-new'],
    ...['-p', '2222'],
    ...['--', '127.0.0.1'],
  ]);
  const said = sshOptions({ host: '10.0.0.5', port: 22 }, { ...LOGIN, user: 'ann', identity: '/key' });
  expect(said.slice(8)).toEqual(['-p', '22', '-l', 'ann', '-i', '/key', '--', '10.0.0.5']);
});

test('a folder of any characters stays one file', () => {
  const words = sshOptions({ host: 'a', port: 1 }, { ...LOGIN, keys: '/my "store"/100%' });
  expect(words[3]).toBe('UserKnownHostsFile="/my \\"store\\"/100%%/uid-1"');
});
