/** Who counts as a replica that lives, where Leases of others are there before it comes. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { loadKubeConfig } from '../../src/kube/kube-config.ts';
import { ReplicaLeases } from '../../src/kube/replica-leases.ts';
import { KubeTransport } from '../../src/kube/transport.ts';
import { until } from '../e2e/support/wait.ts';
import { clusterForFile } from './support/api.ts';

const TIMES = { durationMs: 4_000, renewMs: 1_000, leftMs: 60_000 };
/** Seconds of the API server, and what its replicas may differ by. */
const CLOCK_MS = 3_000;
const file = clusterForFile();

/** What each replica was told of those that live. */
async function replica(name: string) {
  const load = () => loadKubeConfig({ kubeconfig: file.cluster.kubeconfig });
  const transport = new KubeTransport({ load, userAgent: name });
  const told: (readonly string[])[] = [];
  const leases = new ReplicaLeases({
    ...{ transport, namespace: 'default', application: 'op', name, times: TIMES },
    onChange: (live) => told.push(live),
  });
  await leases.start();
  file.onFinished(async () => {
    await leases.stop();
    await transport.close();
  });
  await until('it is told who lives', () => told.length, Boolean);
  return { leases, told };
}

/** Of a replica that writes it once and is never heard of again, whatever its clock says. */
async function written(name: string, renewTime: string): Promise<string> {
  const metadata = { name, labels: { 'app.kubernetes.io/name': 'op' } };
  const spec = { holderIdentity: name, leaseDurationSeconds: 4, renewTime };
  const lease = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata, spec };
  await file.cluster.kubectl(['create', '-f', '-'], JSON.stringify(lease));
  return name;
}

test('one that died before does not count, by the clock of the API server; one that was just written does', async () => {
  const dead = await written('dead', '2099-01-01T00:00:00.000000Z');
  await sleep(TIMES.durationMs + CLOCK_MS);
  const alive = await written('alive', '2001-01-01T00:00:00.000000Z');
  const { leases, told } = await replica('new');
  expect(told).toEqual([[alive, leases.id].sort()]);
  // It is not heard of again.
  const alone = await until(
    'it is alone',
    () => told.at(-1),
    (live) => live?.length === 1,
  );
  expect(alone).toEqual([leases.id]);
  expect(told.flat()).not.toContain(dead);
  await sleep(CLOCK_MS);
  // Whoever comes is heard of at once, and who leaves in order is forgotten at once.
  const other = await replica('other');
  const both = [leases.id, other.leases.id].sort();
  expect(other.told).toEqual([both]);
  await until(
    'both are known',
    () => told.at(-1),
    (live) => live?.length === 2,
  );
  expect(told.at(-1)).toEqual(both);
  const leftAt = performance.now();
  await other.leases.stop();
  await until(
    'it is alone again',
    () => told.at(-1),
    (live) => live?.length === 1,
  );
  expect(performance.now() - leftAt).toBeLessThan(TIMES.durationMs / 2);
});
