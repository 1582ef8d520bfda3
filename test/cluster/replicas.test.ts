/** Two operators on one cluster: they share its Hosts, and each takes over what the other lets go, dies of or freezes on. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import type { Running } from '../e2e/support/cli-rig.ts';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { isAlive } from '../e2e/support/process.ts';
import { testFolder } from '../e2e/support/rig.ts';
import { until } from '../e2e/support/wait.ts';
import { clusterForFile } from './support/api.ts';
import { startOperator } from './support/operator.ts';
import { smallVm, sshHosts } from './support/ssh-hosts.ts';

const HOSTS = Array.from({ length: 6 }, (_, i) => `rack-${i}`);
/** It was let go, and did not run out: a Lease counts for ten seconds. */
const HAND_OVER_MS = 6_000;

let root: string;
const vmDir = (host: string) => join(root, host);
const vmOf = (host: string) => `on-${host}`;

const file = clusterForFile(async (cluster, onFinished) => {
  root = testFolder(onFinished);
  const hostOf = await sshHosts(onFinished, cluster, root);
  const objects = HOSTS.flatMap((name) => {
    const disks = [{ name: 'root', path: writeSparseTiny(join(root, `${name}.raw`)), format: 'raw' }];
    return [hostOf(name, vmDir(name)), smallVm(vmOf(name), name, { disks, restartPolicy: 'Always' })];
  });
  await cluster.apply(...objects);
});
const start = () => startOperator(file.onFinished, file.cluster);

/** As the marker on the host has it. */
const epochOf = (host: string) =>
  (JSON.parse(readFileSync(join(vmDir(host), '.qemu-operator.json'), 'utf8')) as { epoch: number }).epoch;
const epochs = () => HOSTS.map(epochOf);

async function pids(): Promise<number[]> {
  const { items } = JSON.parse(await file.cluster.kubectl(['get', 'qvm', '-o', 'json'])) as { items: VirtualMachine[] };
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
  file.cluster.kubectl([
    'wait',
    '--for=condition=Ready',
    ...HOSTS.flatMap((name) => [`qhost/${name}`, `qvm/${vmOf(name)}`]),
    '--timeout=60s',
  ]);

test('replicas share the Hosts, and hand them over', async () => {
  const first = await start();
  await allReady();
  expect(hostsOf(first)).toEqual(HOSTS);
  const started = await pids();
  const before = epochs();

  // A second one gets a part of them: its epochs rise, and no guest notices.
  const second = await start();
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
  const leases = await file.cluster.kubectl([
    'get',
    'lease',
    '-l',
    'app.kubernetes.io/name=qemu-operator',
    '-o',
    'name',
  ]);
  expect(leases.trim().split('\n')).toHaveLength(1);
  await first.stop('SIGTERM');
});

test.each([
  ['killed', 'SIGKILL'],
  ['frozen', 'SIGSTOP'],
] as const)(
  'the Hosts of a replica that is %s are taken over, and it does nothing there any more',
  async (_what, signal) => {
    const [one, two] = [await start(), await start()];
    await allReady();
    await sleep(3_000);
    const before = epochs();
    const started = await pids();
    one.child.kill(signal);
    // Work for whoever has the Hosts now.
    const nonce = JSON.stringify({ spec: { restartedAt: signal } });
    await Promise.all(
      HOSTS.map((host) => file.cluster.kubectl(['patch', 'qvm', vmOf(host), '--type=merge', '-p', nonce])),
    );
    const restarted = await until('all run again', pids, (now) =>
      now.every((pid, i) => pid !== started[i] && isAlive(pid)),
    );
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
