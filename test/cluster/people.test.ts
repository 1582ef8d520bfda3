/** Commands on a cluster with the rights of whoever gives them: what a team may do works, and what it may not is named. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { isAlive } from '../e2e/support/process.ts';
import { testFolder } from '../e2e/support/rig.ts';
import type { Sshd } from '../e2e/support/sshd.ts';
import { NAMESPACE } from './support/chart.ts';
import { cli, member, startTeam, TEAM } from './support/team.ts';
import { TestCluster } from './support/test-cluster.ts';

const ends: (() => Promise<void>)[] = [];
let cluster: TestCluster;
let root: string;
let sshd: Sshd;
/** Kubeconfigs. */
let editor: string;
let viewer: string;

beforeAll(async () => {
  const onFinished = (work: () => Promise<void>) => void ends.push(work);
  cluster = await TestCluster.start(onFinished, { crds: false });
  root = testFolder(onFinished);
  sshd = await startTeam(onFinished, cluster, root);
  editor = await member(cluster, 'editor', 'edit', false);
  viewer = await member(cluster, 'viewer', 'view', false);
}, 1_800_000);

afterAll(async () => {
  for (const end of ends.reverse()) await end();
});

const as = (who: string, ...words: readonly string[]) => cli(cluster, who, words);

async function ok(who: string, words: readonly string[], input?: string): Promise<string> {
  const ended = await cli(cluster, who, words, input);
  if (ended.code !== 0) throw new Error(`${words.join(' ')}: ${ended.code} ${ended.stderr}`);
  return ended.stdout;
}

const manifest = (name: string, spec: object = {}) =>
  JSON.stringify({
    apiVersion: 'qemu-operator.dev/v1alpha1',
    kind: 'VirtualMachine',
    metadata: { name },
    spec: {
      hostName: 'rack1',
      architecture: 'x86_64',
      vcpus: 1,
      memory: '32Mi',
      networks: [],
      disks: [{ name: 'root', path: writeSparseTiny(join(root, `${name}.raw`)), format: 'raw' }],
      ...spec,
    },
  });

async function vmOf(name: string, namespace = TEAM): Promise<VirtualMachine> {
  return JSON.parse(await cluster.kubectl(['get', 'qvm', name, '-n', namespace, '-o', 'json'])) as VirtualMachine;
}

test('who may edit a namespace, and nothing else, has every command that changes and shows its machines', async () => {
  const name = 'virtualmachine.qemu-operator.dev/web';
  expect(await ok(editor, ['apply', '-f', '-', '--wait'], manifest('web'))).toBe(`${name} created\n`);
  const pid = (await vmOf('web')).status?.pid ?? 0;
  expect(isAlive(pid)).toBe(true);
  const listed = await cluster.kubectl(['get', 'qvm', '-n', TEAM]);
  expect((await ok(editor, ['get', 'qvm'])).split('\n')[0]).toBe(listed.split('\n')[0]);
  expect(await ok(editor, ['describe', 'qvm', 'web'])).toMatch(/^Name: +web\n/);
  expect(await ok(editor, ['events', 'qvm', 'web'])).toMatch(/the guest is running/);
  expect(await ok(editor, ['top', 'web'])).toMatch(/^NAME .*\nweb +\d+m .*\n$/);
  expect(await ok(editor, ['patch', 'qvm', 'web', '-p', '{spec: {restartPolicy: Never}}'])).toBe(`${name} patched\n`);
  expect(await ok(editor, ['annotate', 'qvm', 'web', 'team=a'])).toBe(`${name} annotated\n`);
  expect(await ok(editor, ['restart', 'web'])).toBe(`${name} restarted\n`);
  expect(await vmOf('web')).toMatchObject({
    spec: { restartPolicy: 'Never' },
    metadata: { annotations: { team: 'a' } },
  });
  expect(isAlive(pid)).toBe(false);
  expect(await ok(editor, ['stop', 'web'])).toBe(`${name} stopped\n`);
  expect((await vmOf('web')).status?.pid).toBeUndefined();
  expect(await ok(editor, ['__complete', 'start', 'w'])).toBe('web\tStopped\n');
  expect(await ok(editor, ['delete', 'qvm', 'web'])).toMatch(/"web" deleted/);
  expect((await as(editor, 'get', 'qvm', 'web')).code).toBe(3);
}, 300_000);

/** Words of the command, and what the refusal has to name. */
const REFUSED: readonly (readonly [words: readonly string[], said: RegExp])[] = [
  [
    ['stop', 'web2'],
    /cannot patch resource "virtualmachines" in API group "qemu-operator.dev" in the namespace "team-a"/,
  ],
  [['delete', 'qvm', 'web2'], /cannot delete resource "virtualmachines" .* in the namespace "team-a"/],
  [
    ['create', 'x', '--host', 'rack1', '--arch', 'x86_64'],
    /cannot create resource "virtualmachines" .* in the namespace "team-a"/,
  ],
  [['annotate', 'qvm', 'web2', 'a=b'], /cannot patch resource "virtualmachines" .* in the namespace "team-a"/],
  [['get', 'qvm', '-A'], /cannot list resource "virtualmachines" .* at the cluster scope/],
  [['get', 'qvm', 'web2', '-n', 'default'], /cannot get resource "virtualmachines" .* in the namespace "default"/],
  [['get', 'qhost'], /cannot list resource "hosts" .* at the cluster scope/],
  [['ssh', 'web2'], /cannot get resource "virtualmachines\/portforward" .* in the namespace "team-a"/],
  [['screenshot', 'web2', '-o', '-'], /cannot get resource "virtualmachines\/screenshot" .* in the namespace "team-a"/],
  [['secret', 'list'], /cannot list resource "secrets" .* in the namespace "team-a"/],
  [['host', 'remove', 'rack1'], /cannot get resource "hosts" .* at the cluster scope/],
];

test('who may only look is refused the rest by verb, resource and namespace, and nothing is changed', async () => {
  await ok(editor, ['apply', '-f', '-', '--wait'], manifest('web2'));
  const before = await vmOf('web2');
  expect(await ok(viewer, ['get', 'qvm'])).toMatch(/web2 +Running/);
  expect(await ok(viewer, ['top'])).toMatch(/\nweb2 +\d+m /);
  expect(await ok(viewer, ['describe', 'qvm', 'web2'])).toMatch(/^Name: +web2\n/);
  for (const [words, said] of REFUSED) {
    const { code, stderr } = await as(viewer, ...words);
    expect({ words, code }).toEqual({ words, code: 1 });
    expect(stderr).toMatch(/^Error from server \(Forbidden\): /);
    expect(stderr).toMatch(said);
  }
  const { metadata, spec } = await vmOf('web2');
  expect([metadata.generation, spec]).toEqual([before.metadata.generation, before.spec]);
}, 300_000);

test('who sees Hosts and not their credentials is shown what needs none', async () => {
  const binding = ['--clusterrole=qemu-operator-hosts-view', `--serviceaccount=${TEAM}:viewer`];
  await cluster.kubectl(['create', 'clusterrolebinding', 'viewer', ...binding]);
  // All that is known of a machine without asking its host is shown all the same.
  expect(await ok(viewer, ['describe', 'qvm', 'web2'])).toMatch(/\n {2}PID: +\d+\n/);
  expect(await ok(viewer, ['top'])).toMatch(/\nrack1 +1 /);
}, 120_000);

test('a namespace that is not there is what the answer says', async () => {
  const nowhere = [
    ['get', 'qvm', 'web2'],
    ['start', 'web2'],
    ['create', 'x', '--host', 'rack1', '--arch', 'x86_64'],
  ];
  for (const words of nowhere) {
    const { code, stderr } = await as(cluster.kubeconfig, ...words, '-n', 'nope');
    expect([code, stderr]).toEqual([
      3,
      'Error from server (NotFound): namespace "nope" does not exist: kubectl create namespace nope\n',
    ]);
  }
}, 120_000);

test('what is about this machine says so, and makes no store', async () => {
  for (const words of [
    ['doctor'],
    ['quickstart'],
    ['service', 'status'],
    ['service', 'stop-guests'],
    ['push', '--all'],
  ]) {
    const { code, stderr } = await as(editor, ...words);
    expect({ words, code, stderr }).toMatchObject({ words, code: 2 });
    expect(stderr).toMatch(/^error: this is about this machine and a store in a folder: --store DIR\./);
  }
}, 120_000);

test('an administrator has every command, those that ask the host itself as well', async () => {
  const admin = cluster.kubeconfig;
  const adm = manifest('adm', { graphics: { vnc: {} } });
  expect((await cli(cluster, admin, ['plan', '-f', '-'], adm)).code).toBe(7);
  await ok(admin, ['apply', '-f', '-', '--wait'], adm);
  const pid = (await vmOf('adm', 'default')).status?.pid ?? 0;
  const editor = { EDITOR: "sed -i 's/restartPolicy: .*/restartPolicy: Never/'" };
  expect((await cli(cluster, admin, ['edit', 'qvm', 'adm'], undefined, editor)).stdout).toMatch(/adm edited/);
  expect((await as(admin, 'doctor', '--host', 'rack1')).stdout).toMatch(/qemu-system-x86_64/);
  // The object is lost and comes back, the process does not notice.
  await cluster.kubectl(['annotate', 'qvm', 'adm', 'qemu-operator.dev/orphan=true']);
  await cluster.kubectl(['delete', 'qvm', 'adm', '--timeout=60s']);
  await ok(admin, ['adopt', 'adm', '--host', 'rack1', '--wait']);
  expect([(await vmOf('adm', 'default')).status?.pid, isAlive(pid)]).toEqual([pid, true]);

  const key = readFileSync(sshd.identity);
  expect(await ok(admin, ['host', 'credentials', 'rack1', '--identity', sshd.identity])).toMatch(/Secret racks in/);
  const kept = await cluster.kubectl(['get', 'secret', 'racks', '-n', NAMESPACE, '-o', 'json']);
  expect(JSON.parse(kept)).toMatchObject({ data: { 'ssh-privatekey': key.toString('base64') } });
  expect(
    await ok(admin, ['host', 'trust', 'rack1', '--fingerprint', `SHA256:${'x'.repeat(43)}`]).catch(String),
  ).toMatch(/nothing was changed/);
  expect(await ok(admin, ['host', 'claim', 'rack1', '--take-over'])).toMatch(/there is nothing to settle/);
  await ok(admin, ['secret', 'set', 'seed', 'user-data'], '#cloud-config');
  expect(await ok(admin, ['secret', 'list'])).toMatch(/seed +user-data +13/);
  await ok(admin, ['secret', 'delete', 'seed']);
  expect(await cluster.kubectl(['get', 'secret', '-o', 'name'])).toBe('');
  await ok(admin, ['host', 'remove', 'rack2']);
  expect(existsSync(join(root, 'rack2', '.qemu-operator.json'))).toBe(false);
}, 300_000);
