/** A second machine, over Debian's own sshd: added with one command, it runs VMs as this one does. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeSshGuest } from '../guests/ssh.ts';
import { MAIN, Running } from './support/cli-rig.ts';
import { isAlive } from './support/process.ts';
import { RemotePlace } from './support/remote-place.ts';
import { until } from './support/wait.ts';

describe('one machine', () => {
  const endings: (() => Promise<void>)[] = [];
  let remote: RemotePlace;
  let pid = 0;

  beforeAll(async () => {
    remote = await RemotePlace.start((work) => endings.push(work));
  });
  afterAll(async () => {
    for (const end of endings.toReversed()) await end();
  });

  test('is added with one command, which tells its key', async () => {
    const { code, stdout, stderr } = await remote.added('rack1');
    expect([code, stderr]).toEqual([
      0,
      expect.stringMatching(/is new and is trusted from now on: ssh-ed25519 SHA256:/),
    ]);
    expect(stdout).toContain(`host/rack1 created (${remote.sshd.user}@127.0.0.1, VMs in ${remote.vmDir})`);
    const host = await remote.get('qhost/rack1');
    expect(host.spec.ssh).toMatchObject({ hostKeys: [remote.sshd.hostKey()], credentialsSecretRef: { name: 'rack1' } });
    for (const type of ['Ready', 'Reachable', 'HostKeyVerified', 'CredentialsValid', 'Claimed', 'VMDirReady'])
      expect(await remote.condition('qhost/rack1', type), type).toBe('True Ready');
    expect(host.status.info.machineID).toBe(readFileSync('/etc/machine-id', 'utf8').trim());
    expect(host.status.ssh.hostKey).toMatch(/^ssh-ed25519 SHA256:/);
    const secret = join(remote.rig.store, '.state/secrets/qemu-operator-system/rack1/ssh-privatekey-path');
    expect([readFileSync(secret, 'utf8'), statSync(secret).mode & 0o777]).toEqual([remote.sshd.identity, 0o600]);
  });

  test('runs a machine, which is a QEMU of its sshd, not of ours', async () => {
    const { rig } = remote;
    await rig.ok(['apply', '-f', rig.manifest('web-1', { hostName: 'rack1', graphics: { vnc: {} } })]);
    pid = (await remote.get('qvm/web-1')).status.pid;
    expect(isAlive(pid)).toBe(true);
    expect(readFileSync(join(remote.vmDir, 'web-1', 'qemu.pid'), 'utf8').trim()).toBe(String(pid));
  });

  test('is told about, and its logs, console and figures come through', async () => {
    const { rig } = remote;
    await until(
      'the guest is up',
      async () => (await rig.ok(['logs', 'web-1', '--console'])).stdout,
      (text) => text.includes('TINY-UP'),
    );
    expect((await rig.ok(['describe', 'qvm', 'web-1'])).stdout).toContain('qemu-system-x86_64');
    expect((await rig.ok(['host', 'describe', 'rack1'])).stdout).toMatch(/Address: +root@127\.0\.0\.1, port \d+/);
    expect((await rig.ok(['host', 'list'])).stdout).toMatch(/^rack1 +True/m);
    const picture = rig.path('screen.png');
    await rig.ok(['screenshot', 'web-1', '-o', picture]);
    expect(readFileSync(picture).subarray(1, 4).toString()).toBe('PNG');
    expect((await rig.ok(['top', 'web-1'])).stdout).toMatch(/web-1/);
    expect((await rig.ok(['doctor', '--host', 'rack1'])).stdout).toContain('logged in to rack1');
    const screen = rig.start(['vnc', 'web-1']);
    await screen.says(/Password: \S{8}\n/);
    await screen.stop('SIGINT');
  });

  test('has its consoles on a terminal here, for one client at a time', async () => {
    const { rig } = remote;
    const command = `'${process.execPath}' '${MAIN}' console web-1; echo "code $?"`;
    const words = ['--quiet', '--flush', '--return', '--command', command, '/dev/null'];
    const child = spawn('script', words, { cwd: rig.root, env: { ...rig.env, SHELL: '/bin/sh' }, stdio: 'pipe' });
    const terminal = new Running(child, undefined);
    await terminal.says(/Connected to the console of web-1/);
    const second = await rig.run(['console', 'web-1'], { input: '' });
    expect([second.code, second.stderr]).toEqual([4, expect.stringContaining('the console is held by')]);
    child.stdin.write('\u001d');
    expect((await terminal.ended).stdout).toMatch(/Disconnected from web-1\.[\s\S]*code 0/);
  });

  test('lets us log in to its guests, which listen at its loopback alone', async () => {
    const { rig } = remote;
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', rig.path('key')]);
    const path = rig.path('images', 'ssh.raw');
    await writeSshGuest(path, readFileSync(rig.path('key.pub'), 'utf8'));
    const disks = [{ name: 'root', format: 'raw', path }];
    const networks = [{ name: 'net0', user: {} }];
    const manifest = rig.manifest('web-2', { hostName: 'rack1', memory: '160Mi', disks, networks });
    await rig.ok(['apply', '-f', manifest]);
    const { code, stdout } = await until(
      'the guest lets us in',
      () => rig.run(['ssh', 'root@web-2', '-i', rig.path('key'), '--', 'echo', 'from the guest']),
      (ended) => ended.code !== 255,
      120_000,
    );
    expect([code, stdout.trim()]).toEqual([0, 'from the guest']);
    await rig.ok(['delete', 'qvm', 'web-2']);
  }, 240_000);

  test('goes with its last machine, and leaves nothing', async () => {
    const { rig } = remote;
    await rig.ok(['delete', 'qvm', 'web-1']);
    expect([isAlive(pid), existsSync(join(remote.vmDir, 'web-1'))]).toEqual([false, false]);
    await rig.ok(['host', 'remove', 'rack1']);
    expect(readdirSync(remote.vmDir)).toEqual([]);
    expect(existsSync(join(rig.store, '.state/secrets/qemu-operator-system/rack1'))).toBe(false);
  });
});

test('wrong credentials add nothing, and are told without being told', async ({ onTestFinished }) => {
  const remote = await RemotePlace.start(onTestFinished);
  const { rig, sshd } = remote;
  const { user, port } = sshd;
  const words = ['host', 'add', 'rack1', `${user}@127.0.0.1`, '--port', String(port), '--password'];
  const { code, stdout, stderr } = await rig.run(words, { input: 'hunter2-hunter2\n' });
  expect([code, stderr]).toEqual([6, expect.stringMatching(/password/)]);
  expect(stdout + stderr).not.toMatch(/hunter2|Secret/);
  expect((await rig.run(['get', 'qhost', 'rack1'])).code).toBe(3);
});

test('an unknown key under Strict is refused, with what makes it known', async ({ onTestFinished }) => {
  const remote = await RemotePlace.start(onTestFinished);
  const { code, stderr } = await remote.add('rack1', ['-i', remote.sshd.identity, '--host-key-policy', 'Strict']);
  const { user, address, port } = remote.sshd;
  expect(code).toBe(6);
  expect(stderr).toContain(`then ssh -p ${port} ${user}@${address} once; or take --host-key-policy AcceptNew`);
});

test('one that goes later than the command that removes it leaves no credentials', async ({ onTestFinished }) => {
  const place = await RemotePlace.start(onTestFinished);
  await place.rig.controller(onTestFinished);
  await place.added('rack1');
  await place.rig.ok(['apply', '--wait', '-f', place.rig.manifest('web-1', { hostName: 'rack1' })]);
  await place.rig.ok(['host', 'remove', 'rack1', '--no-wait']);
  const kept = place.rig.path('store/.state/secrets/qemu-operator-system/rack1');
  expect(existsSync(kept)).toBe(true);
  await place.rig.ok(['delete', 'qvm', 'web-1']);
  await until(
    'its Secret is gone',
    () => existsSync(kept),
    (there) => !there,
    60_000,
  );
});
