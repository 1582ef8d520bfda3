/** The NoCloud seed: what a guest reads of it, what an independent reader of ISO images says, and where secrets may be. */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { copyFileSync, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { TestConsole } from '../guests/console.ts';
import { linuxGuest } from '../guests/linux.ts';
import { CliRig, MAIN, Running } from './support/cli-rig.ts';
import { readIso } from './support/images.ts';
import { argvOf, processesNaming } from './support/process.ts';
import { conditionOf, Rig, testFolder } from './support/rig.ts';
import { standIn, TestShell } from './support/stand-ins.ts';
import { until } from './support/wait.ts';

const SEED = '.qemu-operator.seed.iso';
const KEY = `ssh-ed25519 ${'A'.repeat(68)} ada@laptop "ünï"`;

const seedOf = (rig: Rig, name: string) => join(rig.folder(name), SEED);

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

describe('a change', () => {
  test('waits for a restart and is in the next seed, of the same instance; without cloudInit the seed goes', async ({
    onTestFinished,
  }) => {
    const rig = await Rig.start(onTestFinished);
    await rig.create('web-1');
    const bare = await rig.untilRunning('web-1');
    await rig.edit('web-1', { cloudInit: { sshAuthorizedKeys: [KEY] } });
    const required = (vm: VirtualMachine) => conditionOf(vm, 'RestartRequired')?.status === 'True';
    const added = await rig.until('web-1', 'RestartRequired', required);
    expect(added.status?.pendingChanges).toEqual([
      { path: 'spec.cloudInit.hostname', to: 'web-1' },
      { path: 'spec.cloudInit.userData', to: 'generated' },
      { path: 'spec.cloudInit.sshAuthorizedKeys', to: expect.stringMatching(/^sha256:[0-9a-f]{12}$/) },
    ]);
    expect([existsSync(seedOf(rig, 'web-1')), conditionOf(added, 'Ready')?.status]).toEqual([false, 'True']);
    await rig.edit('web-1', { restartedAt: '1' });
    const first = await rig.untilRestarted('web-1', bare);
    const before = readIso(seedOf(rig, 'web-1')).files;

    await rig.edit('web-1', { cloudInit: { hostname: 'other', userData: '#!/bin/sh\n' } });
    const changed = await rig.until('web-1', 'RestartRequired', required);
    expect(conditionOf(changed, 'RestartRequired')?.message).toBe(
      'a restart applies: spec.cloudInit.hostname, spec.cloudInit.userData; a guest that has booted before takes no new keys and network data, and little of new user data',
    );
    expect(readIso(seedOf(rig, 'web-1')).files).toEqual(before);
    await rig.edit('web-1', { updateStrategy: { type: 'Restart' } });
    const second = await rig.untilRestarted('web-1', first);
    const after = readIso(seedOf(rig, 'web-1')).files;
    const instance = ({ 'meta-data': text = Buffer.alloc(0) }: typeof after) => text.toString().split('\n')[0];
    expect([after['user-data']?.toString(), instance(after)]).toEqual(['#!/bin/sh\n', instance(before)]);

    await rig.edit('web-1', { cloudInit: null });
    await rig.untilRestarted('web-1', second);
    expect(readdirSync(rig.folder('web-1')).filter((name) => name.includes('seed'))).toEqual([]);
  });

  test('a disk may not lie where the seed does', async ({ onTestFinished }) => {
    const rig = await Rig.start(onTestFinished);
    const path = seedOf(rig, 'web-1');
    await rig.create('web-1', { disks: [{ name: 'root', size: '1Mi', path }] });
    expect(conditionOf(await rig.untilReason('web-1', 'PathNotAllowed'), 'Ready')?.message).toContain(SEED);
    expect(existsSync(path)).toBe(false);
  });
});

test('a seed that cannot be written: nothing is started, nothing half written is left, and it is tried again', async ({
  onTestFinished,
}) => {
  const root = testFolder(onTestFinished);
  const full = 'printf half; echo "write error: No space left on device" >&2; exit 1';
  const text = `#!/bin/sh\n[ "$1" = -d ] || exec /usr/bin/base64 "$@"\n${full}\n`;
  const shell = new TestShell({ path: standIn(join(root, 'bin'), 'base64', text) });
  const rig = await Rig.start(onTestFinished, { root, shell });
  await rig.create('web-1', { cloudInit: {} });
  expect(conditionOf(await rig.untilReason('web-1', 'InsufficientStorage'), 'Ready')?.message).toContain(SEED);
  expect(readdirSync(rig.folder('web-1')).filter((name) => name.includes('seed'))).toEqual([]);
  expect(processesNaming(rig.folder('web-1'))).toEqual([]);
  shell.path = undefined;
  await rig.untilRunning('web-1');
  expect(readIso(seedOf(rig, 'web-1')).label).toBe('cidata');
});

describe('a Secret', () => {
  const SECRET = 'hunter2-9f3a';
  const USER_DATA = `#cloud-config\npassword: ${SECRET}\n`;

  test('comes from stdin, is waited for, and is nowhere but in its file and in the seed', async ({
    onTestFinished,
  }) => {
    const rig = new CliRig(onTestFinished);
    const controller = await rig.controller(onTestFinished);
    const cloudInit = { userDataSecretRef: { name: 'web-1', key: 'user-data' } };
    const applied = await rig.run(['apply', '-f', rig.manifest('web-1', { cloudInit }), '--wait']);
    expect(applied.code).toBe(1);
    expect(applied.stderr).toContain('SecretNotFound');
    expect(applied.stderr).toContain('qemu-operator secret set web-1 user-data < FILE');
    const set = await rig.ok(['secret', 'set', 'web-1', 'user-data'], { input: USER_DATA });
    expect(set.stdout).toBe(`secret/web-1 created (key user-data, ${USER_DATA.length} bytes)\n`);
    const running = async () => (await vmOf(rig)).status?.phase === 'Running';
    await until('it runs', running, Boolean);
    const listed = await rig.ok(['secret', 'list', '-A']);
    expect(listed.stdout).toMatch(/^default +web-1 +user-data +\d+$/m);

    const seed = join(rig.folder('web-1'), SEED);
    expect(readIso(seed).files['user-data']?.toString()).toBe(USER_DATA);
    await rig.ok(['secret', 'set', 'web-1', 'user-data'], { input: USER_DATA.replace('#', '##') });
    const pending = async () => (await vmOf(rig)).status?.pendingChanges;
    await until('the change is noticed', pending, (changes) => changes !== undefined);
    expect(await pending()).toEqual([{ path: 'spec.cloudInit.userData', from: '(secret)', to: '(secret)' }]);
    const described = await rig.ok(['describe', 'qvm', 'web-1']);
    expect(described.stdout).toContain('user data of Secret web-1, key user-data');
    expect(described.stdout).toContain(seed);
    expect(described.stdout).toContain('takes no new keys and network data');
    const logs = await rig.ok(['logs', 'web-1']);

    const secretFile = join(rig.store, '.state', 'secrets', 'default', 'web-1', 'user-data');
    expect([seed, secretFile].map((path) => statSync(path).mode & 0o777)).toEqual([0o600, 0o600]);
    expect(filesHolding(rig.root, SECRET).sort()).toEqual([seed, secretFile].sort());
    const commandLines = processesNaming(rig.root).map((pid) => argvOf(pid).join(' '));
    expect(commandLines.some((words) => words.includes('qemu-system-x86_64'))).toBe(true);
    const told = [applied, set, listed, described, logs].map(({ stdout, stderr }) => stdout + stderr);
    for (const text of [...commandLines, ...told, controller.stderr, controller.stdout])
      for (const form of formsOf(SECRET)) expect(text).not.toContain(form);

    const largest = randomBytes(256 * 1024);
    await rig.ok(['secret', 'set', 'web-1', 'user-data'], { input: largest });
    await rig.ok(['restart', 'web-1']);
    expect(readIso(seed).files['user-data']?.equals(largest)).toBe(true);
    await rig.ok(['secret', 'delete', 'web-1']);
    await rig.ok(['delete', 'qvm', 'web-1']);
    expect(filesHolding(rig.root, SECRET)).toEqual([]);
  });

  test('is told of by names alone: wrong words are refused without repeating a value', async ({ onTestFinished }) => {
    const rig = new CliRig(onTestFinished);
    for (const words of [
      ['web-1', 'k', SECRET],
      ['web-1', `k=${SECRET}`],
    ]) {
      const refused = await rig.run(['secret', 'set', ...words], { input: '' });
      expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('comes from stdin') });
      expect(refused.stderr + refused.stdout).not.toContain(SECRET);
    }
    expect(await rig.run(['secret', 'set', 'web-1', 'k'], { input: '' })).toMatchObject({ code: 1 });
    expect(await rig.run(['secret', 'delete', 'web-1'])).toMatchObject({ code: 3 });
  });

  test('typed on a terminal is not shown', async ({ onTestFinished }) => {
    const rig = new CliRig(onTestFinished);
    const command = `'${process.execPath}' '${MAIN}' secret set web-1 k; echo "code $?"`;
    const words = ['--quiet', '--flush', '--return', '--command', command, '/dev/null'];
    const child = spawn('script', words, { cwd: rig.root, env: { ...rig.env, SHELL: '/bin/sh' }, stdio: 'pipe' });
    const terminal = new Running(child, undefined);
    await terminal.says(/not shown\): /);
    child.stdin.write(`${SECRET}x\x7f\r`);
    expect((await terminal.ended).stdout).toMatch(new RegExp(`created \\(key k, ${SECRET.length} bytes\\)[^]*code 0`));
    expect(terminal.stdout).not.toContain(SECRET);
  });
});

async function vmOf(rig: CliRig): Promise<VirtualMachine> {
  return JSON.parse((await rig.ok(['get', 'qvm', 'web-1', '-o', 'json'])).stdout) as VirtualMachine;
}

/** A text as it is, and in base64 at each of the three places where it may begin. */
function formsOf(text: string): string[] {
  const shifted = [0, 1, 2].map((before) => Buffer.from(' '.repeat(before) + text).toString('base64'));
  // The groups at both ends hold bytes of the neighbours.
  return [text, ...shifted.map((form) => form.slice(4, -4))];
}

/** Regular files below a folder with this text in them: store, logs, records, images. */
function filesHolding(folder: string, text: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((path) => {
      const bytes = readFileSync(path);
      return formsOf(text).some((form) => bytes.includes(form));
    });
}
