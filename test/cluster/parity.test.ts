/** The MCP tools on a cluster, with a team's rights: each action leaves the object that the equal kubectl command leaves. */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { isAlive } from '../e2e/support/process.ts';
import { testFolder } from '../e2e/support/rig.ts';
import { until } from '../e2e/support/wait.ts';
import { callTools, type ToolsClient } from './support/mcp.ts';
import { member, personEnv, startTeam, TEAM } from './support/team.ts';
import { TestCluster } from './support/test-cluster.ts';

const ends: (() => Promise<void>)[] = [];
const onFinished = (work: () => Promise<void>) => void ends.push(work);
let cluster: TestCluster;
let root: string;
let tools: ToolsClient;
const NAME = 'par';

beforeAll(async () => {
  cluster = await TestCluster.start(onFinished, { crds: false });
  root = testFolder(onFinished);
  await startTeam(onFinished, cluster, root);
  tools = await toolsOf(await member(cluster, 'editor', 'edit', true));
}, 1_800_000);

afterAll(async () => {
  for (const end of ends.reverse()) await end();
});

const toolsOf = (kubeconfig: string, flags: readonly string[] = []) =>
  callTools(onFinished, personEnv(cluster, kubeconfig), flags);

async function ok(tool: string, args: Record<string, unknown>) {
  const answer = await tools.call(tool, args);
  expect(answer).toMatchObject({ success: true });
  return answer;
}

const kubectl = (...words: readonly string[]) => cluster.kubectl([...words, '-n', TEAM]);
const get = async (name = NAME) => JSON.parse(await kubectl('get', 'qvm', name, '-o', 'json')) as VirtualMachine;

const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

/** All of the object but what time, chance and the API server's own bookkeeping make of it. */
async function portrait(): Promise<unknown> {
  const { apiVersion, kind, metadata, spec } = await get();
  const { [LAST_APPLIED]: _copy, ...annotations } = metadata.annotations ?? {};
  const { name, namespace, labels, finalizers } = metadata;
  const { restartedAt, ...wanted } = spec;
  const nonce = restartedAt === undefined ? undefined : 'a nonce';
  return {
    apiVersion,
    kind,
    metadata: { name, namespace, labels, finalizers, annotations },
    spec: { ...wanted, nonce },
  };
}

const disk = () => join(root, 'par.qcow2');
const wait = (what: string) => kubectl('wait', `--for=${what}`, `qvm/${NAME}`, '--timeout=60s');
const patch = (spec: object) => kubectl('patch', 'qvm', NAME, '--type=merge', '-p', JSON.stringify({ spec }));
const now = () => new Date().toISOString();

interface Action {
  readonly name: string;
  readonly tool: () => Promise<unknown>;
  readonly kubectl: () => Promise<unknown>;
}

const manage = (action: string, more: object = {}) => ok('manage_vm', { name: NAME, action, ...more });
const settled = (condition: string) => async () => {
  await wait(condition);
  await wait('condition=Ready');
};

/** In this order on one machine. */
const ACTIONS: readonly Action[] = [
  {
    name: 'create',
    tool: () =>
      manage('create', { host: 'rack1', arch: 'x86_64', vcpus: 1, memory: '64M', disk: `path=${disk()},size=1M` }),
    kubectl: async () => {
      const spec = {
        ...{ hostName: 'rack1', architecture: 'x86_64', powerState: 'PoweredOff', vcpus: 1, memory: '64Mi' },
        disks: [{ name: 'root', path: disk(), size: '1Mi', format: 'qcow2' }],
      };
      const metadata = { name: NAME, namespace: TEAM };
      const document = { apiVersion: 'qemu-operator.dev/v1alpha1', kind: 'VirtualMachine', metadata, spec };
      await cluster.kubectl(['apply', '-f', '-'], JSON.stringify(document));
      await settled('condition=Running=false')();
    },
  },
  {
    name: 'modify of memory and vcpus, off',
    tool: () => manage('modify', { memory: '96M', vcpus: 2 }),
    kubectl: () => patch({ memory: '96Mi', vcpus: 2 }).then(settled('condition=Running=false')),
  },
  {
    name: 'start',
    tool: () => manage('start'),
    kubectl: () => patch({ powerState: 'PoweredOn', restartedAt: now() }).then(settled('condition=Running')),
  },
  {
    name: 'modify of memory and a disk, running',
    tool: () => manage('modify', { memory: '64M', disk: 'size=2M' }),
    kubectl: () =>
      patch({
        memory: '64Mi',
        restartedAt: now(),
        disks: [{ name: 'root', path: disk(), size: '2Mi', format: 'qcow2' }],
      }).then(settled('jsonpath={.status.memory}=64Mi')),
  },
  {
    name: 'restart',
    tool: () => manage('restart'),
    kubectl: () => patch({ powerState: 'PoweredOn', restartedAt: now() }).then(settled('condition=Running')),
  },
  {
    name: 'stop',
    tool: () => manage('stop'),
    kubectl: () => patch({ powerState: 'PoweredOff' }).then(settled('condition=Running=false')),
  },
  {
    name: 'start again',
    tool: () => manage('start'),
    kubectl: () => patch({ powerState: 'PoweredOn', restartedAt: now() }).then(settled('condition=Running')),
  },
  {
    name: 'stop by force',
    tool: () => manage('stop', { force: true }),
    kubectl: () => patch({ powerState: 'ForcedOff' }).then(settled('condition=Running=false')),
  },
];

async function through(by: 'tool' | 'kubectl'): Promise<Record<string, unknown>> {
  const portraits: Record<string, unknown> = {};
  for (const action of ACTIONS) {
    await action[by]();
    portraits[action.name] = await portrait();
  }
  return portraits;
}

test('after each action of manage_vm the object is the one that the equal kubectl command leaves', async () => {
  const byTool = await through('tool');
  await manage('delete');
  expect([existsSync(disk()), (await kubectl('get', 'qvm', '-o', 'name')).trim()]).toEqual([false, '']);

  const byKubectl = await through('kubectl');
  expect(byTool).toEqual(byKubectl);
  await kubectl('delete', 'qvm', NAME, '--timeout=60s');
  expect(existsSync(disk())).toBe(false);
}, 400_000);

test('a machine that kubectl made the tool deletes, its disk kept as told, and the other way round', async () => {
  await ACTIONS[0]?.kubectl();
  await manage('delete', { keep_disks: true });
  expect([existsSync(disk()), (await kubectl('get', 'qvm', '-o', 'name')).trim()]).toEqual([true, '']);
  rmSync(disk());
  await ACTIONS[0]?.tool();
  const retain = [{ op: 'add', path: '/spec/disks/0/reclaimPolicy', value: 'Retain' }];
  await kubectl('patch', 'qvm', NAME, '--type=json', '-p', JSON.stringify(retain));
  await kubectl('delete', 'qvm', NAME, '--timeout=60s');
  expect(existsSync(disk())).toBe(true);
  rmSync(disk());
}, 200_000);

const smallVm = (name: string, namespace: string, hostName: string, spec: object = {}) => ({
  apiVersion: 'qemu-operator.dev/v1alpha1',
  kind: 'VirtualMachine',
  metadata: { name, namespace },
  spec: { hostName, architecture: 'x86_64', vcpus: 1, memory: '32Mi', networks: [], powerState: 'PoweredOff', ...spec },
});

interface Listed {
  readonly name: string;
  readonly host: string;
  readonly namespace: string;
  readonly uid: string;
  readonly resource_version: string;
}

test('list_vms is what kubectl lists, on all Hosts, in the namespaces that are open to the caller', async () => {
  await cluster.kubectl(['create', 'namespace', 'team-b']);
  const raw = { disks: [{ name: 'root', path: writeSparseTiny(join(root, 'b.raw')), format: 'raw' }] };
  const objects = [
    smallVm('b', TEAM, 'rack1', { ...raw, powerState: 'PoweredOn' }),
    smallVm('a', TEAM, 'rack2'),
    smallVm('c', 'team-b', 'rack2'),
  ];
  await cluster.kubectl(['apply', '-f', '-'], objects.map((one) => JSON.stringify(one)).join('\n---\n'));
  await cluster.kubectl(['wait', '--for=condition=Ready', 'qvm', '--all', '-A', '--timeout=60s']);
  const asKubectl = async (...where: readonly string[]) => {
    const list = JSON.parse(await cluster.kubectl(['get', 'qvm', ...where, '-o', 'json'])) as {
      items: VirtualMachine[];
    };
    return list.items.map(({ metadata, spec }) => ({
      name: metadata.name,
      host: spec.hostName,
      namespace: metadata.namespace,
      uid: metadata.uid,
      resource_version: metadata.resourceVersion,
    }));
  };
  const asTool = async (client: ToolsClient, args: object) => {
    const { data } = await client.call('list_vms', { ...args });
    const { vms, vm_count, host } = data as { vms: Listed[]; vm_count: number; host: string };
    expect([vm_count, host]).toEqual([vms.length, 'all']);
    return vms.map(({ name, host: itsHost, namespace, uid, resource_version }) => ({
      ...{ name, host: itsHost, namespace, uid, resource_version },
    }));
  };
  // What is written in between changes a resourceVersion: both lists are to be of one moment.
  const areAlike = (client: ToolsClient, args: object, where: readonly string[]) =>
    until(
      'the tool lists what kubectl lists',
      async () => [await asTool(client, args), await asKubectl(...where)].map((list) => JSON.stringify(list)),
      ([one, other]) => one === other,
    );
  await areAlike(tools, {}, ['-n', TEAM]);
  const admin = await toolsOf(cluster.kubeconfig, ['-n', 'team-b']);
  await areAlike(admin, {}, ['-A']);
  await areAlike(admin, { namespace: 'team-b' }, ['-n', 'team-b']);
  // What the context or -n says is where a machine is made.
  const made = await admin.call('manage_vm', {
    name: 'd',
    action: 'create',
    host: 'rack1',
    arch: 'x86_64',
    disk: 'size=1M',
  });
  expect(made).toMatchObject({ success: true, data: { details: { namespace: 'team-b' } } });
}, 200_000);

test('samples come from whoever drives the host: the caller needs neither the host nor its credentials', async () => {
  const pid = (await get('b')).status?.pid ?? 0;
  expect(isAlive(pid)).toBe(true);
  const viewer = await toolsOf(await member(cluster, 'viewer', 'view', true));
  const { success, data } = await viewer.call('monitor_vm_status', { name: 'b', count: 2, interval: 1 });
  const { timestamp, metrics_data } = data as {
    timestamp: string[];
    metrics_data: { memory: { residentBytes: number }[] };
  };
  expect([success, timestamp.length]).toEqual([true, 2]);
  expect(metrics_data.memory[0]?.residentBytes).toBeGreaterThan(1_000_000);
  expect((await kubectl('get', 'qmon', '-o', 'name')).trim()).toBe('');
}, 120_000);

test('what a right is missing for is named, and no protection is blamed', async () => {
  const looker = await toolsOf(await member(cluster, 'looker', 'view', true));
  const refused = await looker.call('manage_vm', { name: 'a', action: 'start' });
  expect(refused).toMatchObject({ success: false, isError: true, data: { error: { code: 'Forbidden' } } });
  expect(refused.message).toMatch(/cannot patch resource "virtualmachines" .* in the namespace "team-a"/);
  const blind = await toolsOf(await member(cluster, 'blind', 'edit', false));
  const unseen = await blind.call('list_vms', {});
  expect(unseen).toMatchObject({ success: false, data: { error: { code: 'Forbidden' } } });
  expect(unseen.message).toMatch(/cannot list resource "hosts" .* at the cluster scope/);
}, 120_000);
