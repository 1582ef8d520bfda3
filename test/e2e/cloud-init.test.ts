/** The NoCloud seed: what a guest reads of it, what an independent reader of ISO images says, and where secrets may be. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { TestConsole } from '../guests/console.ts';
import { linuxGuest } from '../guests/linux.ts';
import { Rig } from './support/rig.ts';

const SEED = '.qemu-operator.seed.iso';
const KEY = `ssh-ed25519 ${'A'.repeat(68)} ada@laptop "ünï"`;

const seedOf = (rig: Rig, name: string) => join(rig.folder(name), SEED);

/** Label and files, as xorriso reads them. */
function readIso(path: string): { readonly label: string; readonly files: Readonly<Record<string, Buffer>> } {
  const folder = mkdtempSync(join(path, '..', '..', '..', 'read-'));
  const said = execFileSync('xorriso', ['-indev', path, '-osirrox', 'on', '-extract', '/', folder, '-pvd_info'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  execFileSync('chmod', ['-R', 'u+rwX', folder]);
  const files = readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))] as const);
  return { label: /Volume Id\s*: (.*)/.exec(said)?.[1] ?? '', files: Object.fromEntries(files) };
}

describe('a Linux guest', () => {
  test('finds the seed by its label and reads what was given, byte by byte', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const path = rig.path('images', 'linux.qcow2');
    copyFileSync(await linuxGuest(), path);
    const userData = `#!/bin/sh\r\necho 'größer 🐧'\n${'# much text\n'.repeat(2_000)}`;
    const networkData = 'version: 2\nethernets: {}\n';
    await rig.create('web-1', {
      memory: '128Mi',
      disks: [{ name: 'root', path }],
      cloudInit: { hostname: 'www.example.org', userData, networkData, sshAuthorizedKeys: [KEY] },
    });
    await rig.untilRunning('web-1');
    await rig.untilPrinted('web-1', 'linux:~# ');
    const console = await TestConsole.to(join(rig.folder('web-1'), 'console.sock'));
    onTestFinished(() => console.close());
    console.say('mkdir /seed; mount -o ro $(findfs LABEL=cidata) /seed; ls /seed | xargs; cat /seed/meta-data');
    await console.hears(/meta-data network-config user-data\r\n[\s\S]*public-keys/);
    expect(console.heard).toContain('local-hostname: "www.example.org"');
    expect(console.heard).toContain(`instance-id: "${(await rig.vm('web-1')).status?.uuid}"`);
    console.say('sha256sum /seed/*-data /seed/network-config');
    const sum = (content: string) => createHash('sha256').update(content).digest('hex');
    await console.hears(new RegExp(`${sum(userData)}  /seed/user-data`));
    await console.hears(new RegExp(`${sum(networkData)}  /seed/network-config`));
    console.say('touch /seed/x; dd if=/dev/zero of=/dev/vdb count=1; mount | grep vda');
    await console.hears(/Read-only file system/);
    await console.hears(/\/dev\/vda on \/disk/);
    await console.hears(/dd: can't open '\/dev\/vdb'|dd: error writing|Operation not permitted/);
  });
});

test('xorriso reads the same label and bytes, on both architectures; the seed is private and goes with the VM', async ({
  onTestFinished,
}) => {
  const rig = await Rig.start(onTestFinished);
  const disks = [{ name: 'data', size: '1Mi' }];
  await rig.create('web-1', { cloudInit: { sshAuthorizedKeys: [KEY] } });
  await rig.create('arm-1', { architecture: 'arm64', memory: '128Mi', disks, cloudInit: { userData: '#!/bin/sh\n' } });
  for (const name of ['web-1', 'arm-1']) await rig.untilRunning(name);
  await rig.untilPrinted('web-1', 'TINY-IO');
  await rig.untilPrinted('arm-1', /UEFI firmware|BdsDxe|UEFI Interactive Shell/);
  const { label, files } = readIso(seedOf(rig, 'web-1'));
  expect(label).toBe('cidata');
  const { uuid } = (await rig.vm('web-1')).status ?? {};
  expect(Object.fromEntries(Object.entries(files).map(([name, bytes]) => [name, bytes.toString('utf8')]))).toEqual({
    'meta-data': `instance-id: "${uuid}"\nlocal-hostname: "web-1"\npublic-keys:\n  - ${JSON.stringify(KEY)}\n`,
    'user-data': `#cloud-config\nhostname: "web-1"\nssh_authorized_keys:\n  - ${JSON.stringify(KEY)}\n`,
  });
  expect(readIso(seedOf(rig, 'arm-1')).files['user-data']?.toString()).toBe('#!/bin/sh\n');
  expect(statSync(seedOf(rig, 'web-1')).mode & 0o777).toBe(0o600);
  await rig.delete('web-1');
  await rig.untilGone('web-1');
  expect(existsSync(rig.folder('web-1'))).toBe(false);
});
