/** create: a machine without a manifest; one is written all the same. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { parse } from 'yaml';
import { FOLDER_FILES } from '../../src/api/effective-spec.ts';
import { CliRig } from './support/cli-rig.ts';
import { imageInfo, writeSparseTiny } from './support/images.ts';
import { runState } from './support/oracle.ts';
import { qemusBelow } from './support/process.ts';

const rigOf = () => new CliRig(onTestFinished);
const WEB = 'virtualmachine.qemu-operator.dev/web-1';
const KEY = `ssh-ed25519 ${'A'.repeat(68)} me@here`;

function keyFile(rig: CliRig): string {
  const file = rig.path('id_ed25519.pub');
  writeFileSync(file, `# mine\n${KEY}\n`);
  return file;
}

function privateKey(rig: CliRig): string {
  writeFileSync(rig.path('id'), '-----BEGIN OPENSSH PRIVATE KEY-----');
  return rig.path('id');
}

test('an image and a key make a running machine, and a manifest that says the same', async () => {
  const rig = rigOf();
  const image = writeSparseTiny(rig.path('images', 'base.raw'));
  const words = ['--image', image, '--disk-size', '8Mi', '--memory', '64Mi', '--vcpus', '1', '--forward', '80'];
  const { stdout, stderr } = await rig.ok(['create', 'web-1', ...words, '--ssh-key', keyFile(rig), '--user', 'ada']);
  expect(stdout).toBe(`${WEB} created\n`);
  expect(stderr).toMatch(/to log in, also while the guest still boots: .* ssh web-1\n/);
  expect(await runState(rig.folder('web-1'))).toBe('running');
  expect(imageInfo(join(rig.folder('web-1'), 'root.qcow2'))).toMatchObject({
    format: 'qcow2',
    'virtual-size': 8 * 2 ** 20,
  });
  const seed = readFileSync(join(rig.folder('web-1'), FOLDER_FILES.seed));
  expect(seed.includes(KEY)).toBe(true);
  const vm = JSON.parse((await rig.ok(['get', 'qvm', 'web-1', '-o', 'json'])).stdout) as {
    spec: { vcpus: number; cloudInit: unknown };
    status: { interfaces: { forwards: { guestPort: number }[] }[] };
  };
  expect([vm.spec.vcpus, vm.spec.cloudInit]).toEqual([1, { user: 'ada', sshAuthorizedKeys: [KEY] }]);
  expect(vm.status.interfaces[0]?.forwards[0]?.guestPort).toBe(80);
  const again = await rig.run(['create', 'web-1', '--image', image]);
  expect([again.code, again.stderr]).toEqual([4, expect.stringContaining('already exists')]);
});

test('--dry-run prints a manifest that apply takes, and writes nothing', async () => {
  const rig = rigOf();
  const image = writeSparseTiny(rig.path('images', 'base.raw'));
  const { stdout } = await rig.ok(['create', 'web-1', '--image', image, '--memory', '32Mi', '--off', '--dry-run']);
  expect(parse(stdout)).toMatchObject({ kind: 'VirtualMachine', spec: { powerState: 'PoweredOff', memory: '32Mi' } });
  expect((await rig.ok(['get', 'qvm'])).stdout).not.toContain('web-1');
  writeFileSync(rig.path('web-1.yaml'), stdout);
  await rig.ok(['apply', '-f', rig.path('web-1.yaml')]);
  expect(qemusBelow(rig.vmDir)).toEqual([]);
  expect(existsSync(rig.folder('web-1'))).toBe(true);
});

test('the user is the caller by name, unless it is said or user data says who there is', async () => {
  const rig = rigOf();
  writeFileSync(rig.path('user-data'), '#cloud-config\n');
  const cloudInit = async (...words: readonly string[]) => {
    const { stdout } = await rig.ok(['create', 'web-1', '--image', '/a.qcow2', '--dry-run', ...words]);
    return parse(stdout).spec.cloudInit;
  };
  const key = ['--ssh-key', keyFile(rig)];
  expect(await cloudInit(...key)).toEqual({ user: userInfo().username, sshAuthorizedKeys: [KEY] });
  expect(await cloudInit('--user', 'ada')).toEqual({ user: 'ada' });
  const own = ['--user-data', rig.path('user-data')];
  expect(await cloudInit(...key, ...own)).toEqual({ userData: '#cloud-config\n', sshAuthorizedKeys: [KEY] });
  expect(await cloudInit(...own, '--user', 'ada')).toEqual({ user: 'ada', userData: '#cloud-config\n' });
});

test.each([
  ['a private key', (rig: CliRig) => ['--ssh-key', privateKey(rig)], /is a private key; name the public one/],
  ['a key file that is not there', (rig: CliRig) => ['--ssh-key', rig.path('none.pub')], /none\.pub/],
  ['a checksum of nothing', () => ['--checksum', `sha256:${'0'.repeat(64)}`], /give --image too/],
  [
    'an http image without a checksum',
    () => ['--image', 'http://images.example/a.qcow2'],
    /checksum.*is required for an http: url/,
  ],
  ['a forward without sense', () => ['--forward', 'ssh'], /must be \[\[ADDRESS:\]HOSTPORT:\]GUESTPORT/],
  ['a forward into a bridge', () => ['--forward', '22', '--bridge', 'br0'], /needs user networking/],
  ['vcpus without sense', () => ['--vcpus', 'many'], /spec\.vcpus.*many/],
] as const)('%s is refused before anything is written', async (_what, words, message) => {
  const rig = rigOf();
  const { code, stderr } = await rig.run(['create', 'web-1', ...words(rig)]);
  expect(code).not.toBe(0);
  expect(stderr).toMatch(message);
  expect((await rig.ok(['get', 'qvm'])).stdout).not.toContain('web-1');
});
