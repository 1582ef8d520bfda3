/** Two operators on one cluster: they share its Hosts, and each takes over what the other lets go, dies of or freezes on. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import type { Running } from '../e2e/support/cli-rig.ts';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { isAlive } from '../e2e/support/process.ts';
import { testFolder } from '../e2e/support/rig.ts';
import { Sshd } from '../e2e/support/sshd.ts';
import { until } from '../e2e/support/wait.ts';
import { startOperator } from './support/operator.ts';
import { TestCluster } from './support/test-cluster.ts';

const HOSTS = Array.from({ length: 6 }, (_, i) => `rack-${i}`);
const TAKE_OVER_MS = 20_000;
const HAND_OVER_MS = 1_000;
const API_VERSION = 'qemu-operator.dev/v1alpha1';

const ends: (() => Promise<void>)[] = [];
const onFinished = (work: () => Promise<void>) => void ends.push(work);
let cluster: TestCluster;
let root: string;

const vmDir = (host: string) => join(root, host);
const vmOf = (host: string) => `on-${host}`;

beforeAll(async () => {
  cluster = await TestCluster.start(onFinished);
  root = testFolder(onFinished);
  const sshd = await Sshd.start(onFinished, { config: ['MaxStartups 100', `SetEnv HOME=${root}`] });
  await cluster.kubectl(['create', 'secret', 'generic', 'key', `--from-file=ssh-privatekey=${sshd.identity}`]);
  const objects = HOSTS.flatMap((name) => {
    const ssh = {
      ...{ address: '127.0.0.1', port: sshd.port, user: sshd.user },
      ...{ credentialsSecretRef: { name: 'key' }, hostKeys: [sshd.hostKey()] },
    };
    const disks = [{ name: 'root', path: writeSparseTiny(join(root, `${name}.raw`)), format: 'raw' }];
    const spec = { hostName: name, architecture: 'x86_64', vcpus: 1, memory: '32Mi', networks: [], disks };
    return [
      {
        apiVersion: API_VERSION,
        kind: 'Host',
        metadata: { name },
        spec: { ssh, vmDir: vmDir(name), allowedPaths: [root] },
      },
      {
        apiVersion: API_VERSION,
        kind: 'VirtualMachine',
        metadata: { name: vmOf(name) },
        spec: { ...spec, restartPolicy: 'Always' },
      },
    ];
  });
  await cluster.kubectl(['apply', '-f', '-'], objects.map((object) => JSON.stringify(object)).join('\n---\n'));
}, 1_800_000);

afterAll(async () => {
  for (const end of ends.reverse()) await end();
});

/** As the marker on the host has it. */
const epochOf = (host: string) =>
  (JSON.parse(readFileSync(join(vmDir(host), '.qemu-operator.json'), 'utf8')) as { epoch: number }).epoch;
const epochs = () => HOSTS.map(epochOf);

async function pids(): Promise<number[]> {
  const { items } = JSON.parse(await cluster.kubectl(['get', 'qvm', '-o', 'json'])) as { items: VirtualMachine[] };
  return items.map(({ status }) => status?.pid ?? 0);
}

/** Hosts that an operator has acted on, by its own log. */
function hostsOf({ stderr }: Running): string[] {
  const lines = stderr.split('\n').filter((line) => line.startsWith('{'));
  const acting = lines
    .map((line) => JSON.parse(line) as { msg: string; host?: string })
    .filter(({ msg }) => msg === 'acting');
  return [...new Set(acting.map(({ host = '' }) => host))].sort();
}

const allReady = () =>
  cluster.kubectl([
    'wait',
    '--for=condition=Ready',
    ...HOSTS.flatMap((name) => [`qhost/${name}`, `qvm/${vmOf(name)}`]),
    '--timeout=60s',
  ]);

test('replicas share the Hosts, and hand them over', async () => {
  const first = await startOperator(onFinished, cluster);
  await allReady();
  expect(hostsOf(first)).toEqual(HOSTS);
  const started = await pids();
  const before = epochs();

  // A second one gets a part of them: its epochs rise, and no guest notices.
  const second = await startOperator(onFinished, cluster);
  const shared = await until('the second one has claimed its Hosts', epochs, (now) =>
    now.some((epoch, i) => epoch > (before[i] ?? 0)),
  );
  await sleep(3_000);
  const moved = HOSTS.filter((_, i) => epochOf(HOSTS[i] ?? '') > (before[i] ?? 0));
  expect(shared.length).toBe(HOSTS.length);
  expect(moved.length).toBeLessThan(HOSTS.length);
  expect(await pids()).toEqual(started);

  // A clean stop: the first one has its part back within a second.
  const stable = epochs();
  await second.stop('SIGTERM');
  const stoppedAt = performance.now();
  await until(
    'the first one has claimed them again',
    () => moved.filter((host) => epochOf(host) > (stable[HOSTS.indexOf(host)] ?? 0)),
    (back) => back.length === moved.length,
  );
  expect(performance.now() - stoppedAt).toBeLessThan(HAND_OVER_MS);
  await allReady();
  expect(await pids()).toEqual(started);
  const leases = await cluster.kubectl(['get', 'lease', '-l', 'app.kubernetes.io/name=qemu-operator', '-o', 'name']);
  expect(leases.trim().split('\n')).toHaveLength(1);
  await first.stop('SIGTERM');
});

test.each([
  ['killed', 'SIGKILL'],
  ['frozen', 'SIGSTOP'],
] as const)(
  'the Hosts of a replica that is %s are taken over, and it does nothing there any more',
  async (_what, signal) => {
    const [one, two] = [await startOperator(onFinished, cluster), await startOperator(onFinished, cluster)];
    await allReady();
    await sleep(3_000);
    const before = epochs();
    const started = await pids();
    one.child.kill(signal);
    const from = performance.now();
    // Work for whoever has the Hosts now.
    const nonce = JSON.stringify({ spec: { restartedAt: signal } });
    await Promise.all(HOSTS.map((host) => cluster.kubectl(['patch', 'qvm', vmOf(host), '--type=merge', '-p', nonce])));
    const restarted = await until('all run again', pids, (now) =>
      now.every((pid, i) => pid !== started[i] && isAlive(pid)),
    );
    expect(performance.now() - from).toBeLessThan(TAKE_OVER_MS);
    const after = epochs();
    expect(after.every((epoch, i) => epoch >= (before[i] ?? 0))).toBe(true);
    expect(after.some((epoch, i) => epoch > (before[i] ?? 0))).toBe(true);
    if (signal === 'SIGSTOP') {
      one.child.kill('SIGCONT');
      // It comes back among the live ones, and gets its part again; machines run on.
      await until('it has its part back', epochs, (now) => now.some((epoch, i) => epoch > (after[i] ?? 0)));
      await sleep(5_000);
      await allReady();
      expect(await pids()).toEqual(restarted);
      await one.stop('SIGTERM');
    }
    await two.stop('SIGTERM');
  },
);
