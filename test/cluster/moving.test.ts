/** push and pull: machines go between a folder's store and a cluster as they run, whatever cuts the command off. */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import type { Host } from '../../src/api/host.ts';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { CliRig, type Running } from '../e2e/support/cli-rig.ts';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { argvOf, isAlive, qemusBelow, startTicksOf } from '../e2e/support/process.ts';
import { Sshd } from '../e2e/support/sshd.ts';
import { until } from '../e2e/support/wait.ts';
import { clusterForFile } from './support/api.ts';
import { startOperator } from './support/operator.ts';

const NAMESPACE = 'qemu-operator-system';
const TEAM = 'team-a';
const ADOPT = 'qemu-operator.dev/adopt';
const USER_DATA = '#cloud-config\n';

let rig: CliRig;
let sshd: Sshd;
let operator: Running;
const file = clusterForFile(async (cluster, onFinished) => {
  rig = new CliRig(onFinished);
  sshd = await Sshd.start(onFinished, { config: ['MaxStartups 100', `SetEnv HOME=${rig.root}`] });
  await cluster.kubectl(['create', 'namespace', NAMESPACE]);
  await cluster.kubectl(['create', 'namespace', TEAM]);
  operator = await startOperator(onFinished, cluster, ['--operator-namespace', NAMESPACE]);
});

/** Of the folder's store; push and pull are told the cluster. */
const start = (...words: readonly string[]) => rig.start([...words, '--kubeconfig', file.cluster.kubeconfig]);
const run = (...words: readonly string[]) => start(...words).ended;

async function ok(...words: readonly string[]) {
  const ended = await run(...words);
  if (ended.code !== 0) throw new Error(`${words.join(' ')}: ${ended.code} ${ended.stderr}`);
  return ended;
}

async function inCluster<T>(...words: readonly string[]): Promise<T> {
  return JSON.parse(await file.cluster.kubectl(['get', ...words, '-o', 'json'])) as T;
}

async function inFolder<T>(...words: readonly string[]): Promise<T> {
  return JSON.parse((await rig.ok(['get', ...words, '-o', 'json'])).stdout) as T;
}

const vmDir = () => rig.path('rack1');
const jsonIn = (path: string) => JSON.parse(readFileSync(path, 'utf8')) as { uid: string; storeUID: string };
const recordOf = (name: string) => jsonIn(join(vmDir(), name, '.qemu-operator.json'));
const marker = () => jsonIn(join(vmDir(), '.qemu-operator.json'));
const clusterUID = async () => (await inCluster<Host>('namespace', 'kube-system')).metadata.uid;
const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

/** What of the machines must be the same after each move. */
function seen() {
  const pids = qemusBelow(vmDir()).sort();
  const processes = pids.map((pid) => ({ pid, ticks: startTicksOf(pid), argv: argvOf(pid) }));
  const disks = [rig.path('web.raw'), join(vmDir(), 'web', 'data.qcow2'), rig.path('db.raw')].map(sha256);
  return { processes, disks };
}

const smallVm = (name: string, namespace: string, spec: object) => ({
  apiVersion: 'qemu-operator.dev/v1alpha1',
  kind: 'VirtualMachine',
  metadata: { name, namespace },
  spec: { hostName: 'rack1', architecture: 'x86_64', vcpus: 1, memory: '32Mi', accelerator: 'TCG', ...spec },
});

beforeAll(async () => {
  const key = ['--identity', sshd.identity, '--host-key-policy', 'AcceptNew', '--vm-dir', vmDir()];
  await rig.ok(['host', 'add', 'rack1', `${sshd.user}@127.0.0.1`, '--port', String(sshd.port), ...key]);
  await rig.ok(['secret', 'set', 'seed', 'user-data', '-n', TEAM], { input: USER_DATA });
  const disk = (name: string) => ({ name: 'root', format: 'raw', path: writeSparseTiny(rig.path(`${name}.raw`)) });
  const web = smallVm('web', 'default', {
    disks: [disk('web'), { name: 'data', size: '2Mi' }],
    networks: [{ name: 'lan', user: { hostForwards: [{ guestPort: 22 }] } }],
  });
  const db = smallVm('db', TEAM, {
    disks: [disk('db')],
    networks: [],
    cloudInit: { userDataSecretRef: { name: 'seed', key: 'user-data' } },
  });
  const off = smallVm('off', 'default', { powerState: 'PoweredOff', disks: [{ name: 'root', size: '1Mi' }] });
  const documents = [web, db, off].map((one) => JSON.stringify(one)).join('\n---\n');
  const untouched = sha256(rig.path('web.raw'));
  await rig.ok(['apply', '-f', '-', '--wait'], { input: documents });
  // The guest writes its mark at boot, and nothing more.
  await until(
    'both guests have booted',
    () => [sha256(rig.path('web.raw')), sha256(rig.path('db.raw'))],
    ([one, other]) => one === other && one !== untouched,
  );
}, 300_000);

async function expectInCluster(before: ReturnType<typeof seen>): Promise<void> {
  expect(seen()).toEqual(before);
  expect(marker().storeUID).toBe(await clusterUID());
  for (const [name, namespace] of MACHINES) {
    const { metadata } = await inCluster<VirtualMachine>('qvm', name, '-n', namespace);
    expect(recordOf(name)).toMatchObject({ uid: metadata.uid, storeUID: await clusterUID() });
    expect(metadata.annotations?.[ADOPT]).toBeUndefined();
  }
  await file.cluster.kubectl(['wait', '--for=condition=Ready', 'qvm', '--all', '-A', '--timeout=60s']);
  expect((await rig.ok(['get', 'qvm', '-A'])).stdout).toBe('');
  expect((await rig.run(['get', 'qhost', 'rack1'])).code).toBe(3);
}

const MACHINES = [
  ['web', 'default'],
  ['db', TEAM],
  ['off', 'default'],
] as const;

async function expectInFolder(before: ReturnType<typeof seen>): Promise<void> {
  expect(seen()).toEqual(before);
  for (const [name, namespace] of MACHINES) {
    const { metadata } = await inFolder<VirtualMachine>('qvm', name, '-n', namespace);
    expect(recordOf(name).uid).toBe(metadata.uid);
    expect(metadata.annotations?.[ADOPT]).toBeUndefined();
  }
  expect(marker().storeUID).not.toBe(await clusterUID());
  expect(await file.cluster.kubectl(['get', 'qvm,qhost', '-A', '-o', 'name'])).toBe('');
}

test('a Host and its machines go to the cluster and back, and no process notices', async () => {
  const before = seen();
  expect(before.processes).toHaveLength(2);
  const dry = await ok('push', 'rack1', '--dry-run');
  expect(dry.stdout).toMatch(/virtualmachine.qemu-operator.dev\/web would move \(dry run\)/);
  expect(await file.cluster.kubectl(['get', 'qvm,qhost', '-A', '-o', 'name'])).toBe('');

  const pushed = await ok('push', 'rack1');
  expect(pushed.stdout.trim().split('\n').sort()).toEqual([
    'host.qemu-operator.dev/rack1 moved',
    'virtualmachine.qemu-operator.dev/db moved',
    'virtualmachine.qemu-operator.dev/off moved',
    'virtualmachine.qemu-operator.dev/web moved',
  ]);
  await expectInCluster(before);
  // The operator logs in with the key itself, and has what the machine's seed is made from.
  const key = Buffer.from(readFileSync(sshd.identity)).toString('base64');
  const secret = await inCluster<{ data: Record<string, string> }>('secret', 'rack1', '-n', NAMESPACE);
  expect(secret.data['ssh-privatekey']).toBe(key);
  const seed = await inCluster<{ data: Record<string, string> }>('secret', 'seed', '-n', TEAM);
  expect(Buffer.from(seed.data['user-data'] ?? '', 'base64').toString()).toBe(USER_DATA);
  // A second time there is nothing to do.
  expect(await run('push', 'rack1')).toMatchObject({ code: 0, stdout: '', stderr: 'host/rack1 is there already\n' });

  await ok('pull', 'rack1');
  await expectInFolder(before);
}, 300_000);

/** What the command says when a step is done. */
const STEPS = [
  /\/web created in the other store/,
  /host.qemu-operator.dev\/rack1 created in the other store/,
  /is taken over with 3 machines/,
  /virtualmachine.*moved/,
  /host.*moved/,
];

async function killedAt(running: Running, step: RegExp): Promise<void> {
  await until(
    `the command says ${step}`,
    () => [running.stderr + running.stdout, running.child.exitCode] as const,
    ([text, code]) => step.test(text) || code !== null,
  );
  running.child.kill('SIGKILL');
  await running.ended;
}

test.each(STEPS)(
  'killed when it says %s, and repeated, it ends well',
  async (step) => {
    const before = seen();
    await killedAt(start('push', 'rack1'), step);
    expect(seen()).toEqual(before);
    await ok('push', 'rack1');
    await expectInCluster(before);
    await killedAt(start('pull', 'rack1'), step);
    expect(seen()).toEqual(before);
    await ok('pull', 'rack1');
    await expectInFolder(before);
  },
  300_000,
);

test('a service drives the folder meanwhile; the cluster is obeyed afterwards, and the service is not', async ({
  onTestFinished,
}) => {
  const before = seen();
  await rig.controller(onTestFinished);
  await ok('push', '--all');
  await expectInCluster(before);
  await ok('pull', 'rack1');
  await expectInFolder(before);
  const pids = before.processes.map(({ pid }) => pid);
  await rig.ok(['stop', 'web', '--wait']);
  expect(pids.filter(isAlive)).toHaveLength(1);
  await rig.ok(['start', 'web', '--wait']);
}, 300_000);

test('what the other side does not take over is not released, and a second time it goes on', async () => {
  const before = seen();
  operator.child.kill('SIGSTOP');
  const cut = await run('push', 'rack1', '--timeout', '4s');
  expect([cut.code, cut.stdout]).toEqual([5, '']);
  expect(cut.stderr).toMatch(/is not claimed by it yet.*Nothing is released here: repeat the command/);
  expect(marker().storeUID).not.toBe(await clusterUID());
  expect((await rig.ok(['get', 'qvm', '-A', '-o', 'name'])).stdout.trim().split('\n')).toHaveLength(3);
  operator.child.kill('SIGCONT');
  await ok('push', 'rack1');
  await expectInCluster(before);
  await ok('pull', 'rack1');
  await expectInFolder(before);
}, 300_000);

test('what would lose something is refused, all of it at once, and nothing is written', async () => {
  const other = {
    ...smallVm('web', 'default', { powerState: 'PoweredOff' }),
    metadata: { name: 'web', namespace: 'default' },
  };
  await file.cluster.kubectl(['apply', '-f', '-'], JSON.stringify(other));
  await file.cluster
    .kubectl([
      'create',
      'secret',
      'generic',
      'seed',
      '-n',
      TEAM,
      '--from-literal=user-data=x',
      '--dry-run=client',
      '-o',
      'yaml',
    ])
    .then((text) => file.cluster.kubectl(['apply', '-f', '-'], text));
  await rig.ok(['annotate', 'qvm', 'off', 'qemu-operator.dev/paused=true']);
  const refused = await run('push', 'rack1');
  expect([refused.code, refused.stdout]).toEqual([4, '']);
  expect(refused.stderr).toMatch(/default\/off is paused/);
  expect(refused.stderr).toMatch(/virtualmachine.qemu-operator.dev\/web in default is another one there/);
  expect(refused.stderr).toMatch(/Secret team-a\/seed has another value of user-data/);
  expect(await file.cluster.kubectl(['get', 'qvm,qhost', '-A', '-o', 'name'])).toBe(
    'virtualmachine.qemu-operator.dev/web\n',
  );
  await rig.ok(['annotate', 'qvm', 'off', 'qemu-operator.dev/paused-']);
  await file.cluster.kubectl(['delete', 'qvm', 'web']);
  await file.cluster.kubectl(['delete', 'secret', 'seed', '-n', TEAM]);
  // A third store's folder is nobody's to move.
  const path = join(vmDir(), '.qemu-operator.json');
  const own = readFileSync(path, 'utf8');
  writeFileSync(path, JSON.stringify({ ...marker(), checksum: undefined, storeUID: 'another' }));
  const foreign = await run('push', 'rack1');
  writeFileSync(path, own);
  expect([foreign.code, foreign.stderr]).toMatchObject([
    4,
    expect.stringMatching(/is claimed by another store \(uid another\)/),
  ]);
}, 300_000);

test('the box itself goes to a Host that the cluster has of it, and back to localhost', async ({ onTestFinished }) => {
  await rig.ok(['apply', '-f', rig.manifest('box'), '--wait']);
  const [pid = 0] = qemusBelow(rig.vmDir);
  const ticks = startTicksOf(pid);
  const controller = rig.start(['run']);
  onTestFinished(async () => void (await controller.stop('SIGKILL')));
  await controller.says(/controller started/);
  const inTheCluster = ['--store', 'kubernetes', '--vm-dir', rig.vmDir, '--identity', sshd.identity];
  const login = ['host', 'add', 'box1', `${sshd.user}@127.0.0.1`, '--port', String(sshd.port), '--no-wait'];
  await ok(...login, ...inTheCluster);
  const alone = await run('push', 'localhost');
  expect([alone.code, alone.stderr]).toMatchObject([1, expect.stringMatching(/make a Host of it there/)]);

  expect((await ok('push', 'localhost', '--as', 'box1')).stdout).toBe('virtualmachine.qemu-operator.dev/box moved\n');
  await file.cluster.kubectl(['wait', '--for=condition=Ready', 'qvm/box', '--timeout=60s']);
  expect((await inCluster<VirtualMachine>('qvm', 'box')).status?.pid).toBe(pid);
  // It could still have acted there: the take-over ended it.
  expect((await controller.ended).code).toBeNull();

  await ok('pull', 'box1', '--as', 'localhost');
  expect([isAlive(pid), startTicksOf(pid)]).toEqual([true, ticks]);
  expect((await inFolder<VirtualMachine>('qvm', 'box')).spec.hostName).toBe('localhost');
  await rig.ok(['delete', 'qvm', 'box']);
  expect(isAlive(pid)).toBe(false);
}, 300_000);
