/** kubectl's objects become machines: the operator on a real API server, its host this machine. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Host } from '../../src/api/host.ts';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { runState } from '../e2e/support/oracle.ts';
import { isAlive } from '../e2e/support/process.ts';
import { testFolder } from '../e2e/support/rig.ts';
import { startOperator } from './support/operator.ts';
import { TestCluster } from './support/test-cluster.ts';

const ends: (() => Promise<void>)[] = [];
const onFinished = (work: () => Promise<void>) => void ends.push(work);
let cluster: TestCluster;
let root: string;

const API_VERSION = 'qemu-operator.dev/v1alpha1';
const vmDir = () => join(root, 'vms');

beforeAll(async () => {
  cluster = await TestCluster.start(onFinished);
  root = testFolder(onFinished);
  await startOperator(onFinished, cluster, ['--allow-local-host']);
}, 1_800_000);

afterAll(async () => {
  for (const end of ends.reverse()) await end();
});

async function apply(...objects: readonly object[]): Promise<string> {
  return cluster.kubectl(['apply', '-f', '-'], objects.map((object) => JSON.stringify(object)).join('\n---\n'));
}

const host = (name: string, spec: object) => ({ apiVersion: API_VERSION, kind: 'Host', metadata: { name }, spec });

const vm = (name: string, spec: object) => ({
  apiVersion: API_VERSION,
  kind: 'VirtualMachine',
  metadata: { name },
  spec: { architecture: 'x86_64', vcpus: 1, memory: '32Mi', networks: [], ...spec },
});

async function get<T>(...words: readonly string[]): Promise<T> {
  return JSON.parse(await cluster.kubectl(['get', ...words, '-o', 'json'])) as T;
}

test('a VM that kubectl applies runs, follows its object, and goes with it', async () => {
  const disk = writeSparseTiny(join(root, 'web.raw'));
  const made = await apply(
    host('here', { local: {}, vmDir: vmDir(), allowedPaths: [root] }),
    vm('web', { hostName: 'here', disks: [{ name: 'root', path: disk, format: 'raw' }] }),
  );
  expect(made).toBe('host.qemu-operator.dev/here created\nvirtualmachine.qemu-operator.dev/web created\n');
  await cluster.kubectl(['wait', '--for=condition=Running', 'qvm/web', '--timeout=60s']);
  await cluster.kubectl(['wait', '--for=condition=Ready', 'qvm/web', 'qhost/here', '--timeout=60s']);
  const folder = join(vmDir(), 'web');
  expect(await runState(folder)).toBe('running');
  const running = await get<VirtualMachine>('qvm', 'web');
  const pid = running.status?.pid ?? 0;
  expect(isAlive(pid)).toBe(true);
  expect(running.metadata.finalizers).toEqual(['qemu-operator.dev/host-cleanup']);
  expect((await get<Host>('qhost', 'here')).status?.vms).toMatchObject({ managed: 1, running: 1 });
  expect(await cluster.kubectl(['get', 'qvm'])).toMatch(
    /^NAME +PHASE +READY +HOST +ARCH +VCPUS +MEMORY +AGE\nweb +Running +True +here +x86_64 +1 +32Mi +\d+s\n$/,
  );

  await cluster.kubectl(['patch', 'qvm', 'web', '--type=merge', '-p', '{"spec":{"powerState":"PoweredOff"}}']);
  await cluster.kubectl(['wait', '--for=condition=Running=false', 'qvm/web', '--timeout=60s']);
  await cluster.kubectl(['wait', '--for=condition=Ready', 'qvm/web', '--timeout=60s']);
  expect(isAlive(pid)).toBe(false);

  await cluster.kubectl(['delete', 'qvm', 'web', '--timeout=60s']);
  expect([existsSync(folder), existsSync(disk)]).toEqual([false, true]);
  await cluster.kubectl(['delete', 'qhost', 'here', '--timeout=60s']);
  expect(existsSync(join(vmDir(), '.qemu-operator.json'))).toBe(false);
});
