/** Aliases as OpenSSH itself resolves them. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { readSshConfig } from '../../src/host/ssh-config.ts';
import { effectiveLogin } from '../../src/remote/effective-login.ts';
import { standIn } from '../e2e/support/stand-ins.ts';

const folder = mkdtempSync(join(tmpdir(), 'qo-ssh-config-'));
afterAll(() => rmSync(folder, { recursive: true }));

const CONFIG = `
Include ${folder}/included
Host rack
  HostName 10.0.0.5
  IdentityFile ~/.ssh/id_rack
  IdentityFile %d/%%/%r@%h:%p-%n
  UserKnownHostsFile ~/.ssh/kh /etc/other
  IdentityAgent ~/agent.sock
  ProxyJump me@bastion:2200,[fe80::1]:22
Host bare
  IdentityAgent none
  UserKnownHostsFile none
  GlobalKnownHostsFile none
  IdentityFile none
`;

function read(address: string, config = CONFIG) {
  writeFileSync(join(folder, 'config'), config);
  writeFileSync(join(folder, 'included'), 'Host rack\n  Port 2222\n  User ops\n');
  return readSshConfig(address, new AbortController().signal, ['ssh', '-F', join(folder, 'config')]);
}

test('an alias is what the configuration says, includes, tokens and hops resolved', async () => {
  const home = userInfo().homedir;
  expect(await read('rack')).toEqual({
    hostName: '10.0.0.5',
    port: 2222,
    user: 'ops',
    identityFiles: [`${home}/.ssh/id_rack`, `${home}/%/ops@10.0.0.5:2222-rack`],
    agentSocket: `${home}/agent.sock`,
    knownHosts: [`${home}/.ssh/kh`, '/etc/other', '/etc/ssh/ssh_known_hosts', '/etc/ssh/ssh_known_hosts2'],
    isStrict: false,
    hasProxyCommand: false,
    jumps: [
      { address: 'bastion', user: 'me', port: 2200 },
      { address: 'fe80::1', port: 22 },
    ],
  });
});

test('what is switched off is not there', async () => {
  expect(await read('bare')).toEqual({
    hostName: 'bare',
    port: 22,
    user: userInfo().username,
    identityFiles: [],
    knownHosts: [],
    isStrict: false,
    hasProxyCommand: false,
    jumps: [],
  });
});

test('what decides on keys, and a program that leads there', async () => {
  const config = 'Host rack\n  HostKeyAlias known-rack\n  StrictHostKeyChecking yes\n  ProxyCommand nc %h %p\n';
  expect(await read('rack', config)).toMatchObject({
    hostKeyAlias: 'known-rack',
    isStrict: true,
    hasProxyCommand: true,
    jumps: [],
  });
});

test('an address that begins like an option never reaches ssh', async () => {
  await expect(read(`-oProxyCommand=touch ${folder}/ran`)).rejects.toThrow('cannot begin with "-"');
});

test('a configuration that ssh refuses is told with its words', async () => {
  await expect(read('rack', 'Nonsense yes\n')).rejects.toThrow(/Bad configuration option: nonsense/);
});

test('without OpenSSH there is nothing to say, and a caller that stops is not waited for', async () => {
  const never = new AbortController().signal;
  expect(await readSshConfig('rack', never, [join(folder, 'no-ssh')])).toBeUndefined();
  await expect(readSshConfig('rack', AbortSignal.abort(), ['ssh'])).rejects.toThrow();
});

test('a login takes from an alias what it does not say itself', async ({ onTestFinished }) => {
  await read('rack');
  const ssh = `#!/bin/sh\nexec /usr/bin/ssh -F '${join(folder, 'config')}' "$@"\n`;
  vi.stubEnv('PATH', standIn(join(folder, 'bin'), 'ssh', ssh));
  onTestFinished(() => void vi.unstubAllEnvs());
  expect(await effectiveLogin({ address: 'rack' })).toMatchObject({ port: 2222, user: 'ops' });
  expect(await effectiveLogin({ address: 'rack', port: 22 })).toMatchObject({ port: 22, user: 'ops' });
  expect(await effectiveLogin({ address: '10.0.0.9', user: 'me' })).toMatchObject({ port: 22, user: 'me' });
});
