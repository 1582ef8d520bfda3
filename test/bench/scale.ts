/** Eight thousand VMs on simulated hosts under the operator's own wiring, and a list of twenty thousand, on a real API server. */

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { API_VERSION } from '../../src/api/meta.ts';
import { loadKubeConfig } from '../../src/kube/kube-config.ts';
import { KubeTransport } from '../../src/kube/transport.ts';
import { openKubeStore } from '../../src/store/kube-store.ts';
import type { TestCluster } from '../cluster/support/test-cluster.ts';
import { until } from '../e2e/support/wait.ts';
import { adminOf, createAll, type Document, startCluster, startOperator, Watched } from './cluster.ts';
import { type Finding, shownNumber, spread, timed } from './figures.ts';
import { cpuSeconds } from './live.ts';
import { residentMegabytes } from './memory.ts';
import { type Place, stopChild } from './place.ts';

const VMS = 8_000;
const MORE_VMS = 20_000;
const PER_HOST = 100;
const NAMESPACES = 20;
const APPLICATIONS = 50;
const SETTLE_DEADLINE_MS = 900_000;
/** Until the first metrics, which come in two looks, are written. */
const CALM_MS = 30_000;
const REST_SECONDS = 60;
const MEGABYTES = 350;
const LIST_MS = 50;
const LISTS = 50;

interface Cluster {
  readonly cluster: TestCluster;
  readonly admin: KubeTransport;
}

let shared: Promise<Cluster> | undefined;

/** Both benches fill the same one. */
function theCluster(place: Place): Promise<Cluster> {
  shared ??= start(place);
  return shared;
}

async function start(place: Place): Promise<Cluster> {
  const cluster = await startCluster(place);
  const admin = adminOf(place, cluster);
  await addNamespaces(admin);
  return { cluster, admin };
}

async function addNamespaces(admin: KubeTransport): Promise<void> {
  const names = Array.from({ length: NAMESPACES }, (_, i) => namespaceOf(i));
  await createAll(
    admin,
    names.map((name) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } })),
  );
}

/** With Hosts for as many VMs. */
async function fill(admin: KubeTransport, vms: number): Promise<void> {
  await createAll(
    admin,
    Array.from({ length: vms / PER_HOST }, (_, i) => host(i * PER_HOST)),
  );
  await addVms(admin, 0, vms);
}

async function addVms(admin: KubeTransport, from: number, to: number): Promise<void> {
  await createAll(
    admin,
    Array.from({ length: to - from }, (_, i) => vm(from + i)),
  );
}

const namespaceOf = (i: number) => `team-${i % NAMESPACES}`;
const hostOf = (i: number) => `rack-${Math.floor(i / PER_HOST)}`;

/** As people write them, with a label or two. */
function vm(i: number): Document {
  const labels = { app: `app-${i % APPLICATIONS}`, tier: i % 2 === 0 ? 'web' : 'db' };
  const spec = {
    ...{ hostName: hostOf(i), architecture: 'x86_64', vcpus: 1, memory: '512Mi' },
    disks: [{ name: 'root', size: '10Gi' }],
  };
  const metadata = { name: `vm-${i}`, namespace: namespaceOf(i), labels };
  return { apiVersion: API_VERSION, kind: 'VirtualMachine', metadata, spec } as Document;
}

function host(i: number): Document {
  const name = hostOf(i);
  const ssh = { address: '192.0.2.1', user: 'ops', credentialsSecretRef: { name } };
  const spec = { ssh, vmDir: '/var/lib/qemu', allowedPaths: ['/'] };
  return { apiVersion: API_VERSION, kind: 'Host', metadata: { name }, spec } as Document;
}

export async function benchScale(place: Place, vms = VMS): Promise<Finding[]> {
  const { cluster, admin } = await theCluster(place);
  const hosts = vms / PER_HOST;
  await fill(admin, vms);
  const watched = await Watched.start(place, admin);
  const from = performance.now();
  const operator = await startOperator(place, cluster, [
    '--import',
    join(place.built(), 'test', 'bench', 'simulated-hosts.js'),
  ]);
  const { pid } = operator;
  await watched.untilReady(vms, SETTLE_DEADLINE_MS);
  const settled = (performance.now() - from) / 1000;
  const [atWork, changes] = [cpuSeconds(pid), watched.changes];
  await sleep(CALM_MS);
  const rest = await restOf(pid, watched);
  const [memory, most] = [residentMegabytes(pid, 'VmRSS'), residentMegabytes(pid, 'VmHWM')];
  for (let i = 0; i < hosts; i += 1)
    await admin.json({
      method: 'PATCH',
      path: `/apis/${API_VERSION}/hosts/${hostOf(i * PER_HOST)}`,
      contentType: 'application/merge-patch+json',
      body: { spec: { metricsIntervalSeconds: 0 } },
    });
  // Each VM's last metrics are taken out of its status once.
  await untilCalm(watched);
  const quiet = await restOf(pid, watched);
  await stopChild(operator.child);
  const what = `${vms} VMs on ${hosts} simulated hosts, which live in the measured process; 1 run`;
  return [
    {
      name: `cluster: ${vms} VMs, operator started to all Running`,
      figure: settled,
      unit: 's',
      from: `${shownNumber(atWork)} s of its CPU, ${shownNumber(changes / vms)} changes of each VM, ${shownNumber(changes / settled)} a second; the API server and etcd have the same processors; ${what}`,
    },
    {
      name: `cluster: resident memory with ${vms} VMs`,
      figure: memory,
      unit: 'MB',
      bound: MEGABYTES,
      from: `at rest; the most until then ${shownNumber(most)} MB; KubeVirt's virt-controller has 1,400 MB; ${what}`,
    },
    {
      name: `cluster: ${vms} VMs at rest, metrics every 60 s`,
      figure: rest.percent,
      unit: '% of a core',
      from: `in ${REST_SECONDS} s, with ${shownNumber(rest.writes / REST_SECONDS)} writes of metrics a second; ${what}`,
    },
    {
      name: `cluster: ${vms} VMs at rest, no metrics`,
      figure: quiet.percent,
      unit: '% of a core',
      from: `in ${REST_SECONDS} s, with a look at each host; ${quiet.writes} changes of VMs; ${what}`,
    },
  ];
}

async function untilCalm(watched: Watched): Promise<void> {
  for (let before = -1; before !== watched.changes; ) {
    before = watched.changes;
    await sleep(CALM_MS);
  }
}

async function restOf(pid: number, watched: Watched): Promise<{ percent: number; writes: number }> {
  const [cpu, changes, from] = [cpuSeconds(pid), watched.changes, performance.now()];
  await sleep(REST_SECONDS * 1000);
  const percent = ((cpuSeconds(pid) - cpu) / (performance.now() - from)) * 100_000;
  return { percent, writes: watched.changes - changes };
}

/** From the cache of an operator: each list after a change, so that nothing is left of the one before. */
export async function benchList(place: Place, vms = MORE_VMS): Promise<Finding[]> {
  const { cluster, admin } = await theCluster(place);
  const known = Number((await cluster.kubectl(['get', 'qvm', '-A', '-o', 'name'])).match(/\n/g)?.length ?? 0);
  await addVms(admin, known, vms);
  const load = () => loadKubeConfig({ kubeconfig: cluster.kubeconfig });
  const transport = new KubeTransport({ load, userAgent: 'bench-cache' });
  const store = await openKubeStore({ transport, fieldManager: 'bench', cached: true });
  await until(
    'all are in the cache',
    async () => (await store.list('VirtualMachine')).items.length,
    (length) => length === vms,
  );
  const [byLabel, byNamespace]: [number[], number[]] = [[], []];
  for (let i = 0; i < LISTS; i += 1) {
    const ref = { namespace: namespaceOf(i), name: `vm-${i}` };
    await store.patch('VirtualMachine', ref, { metadata: { annotations: { 'example.org/round': `${i}` } } });
    await store.get('VirtualMachine', ref);
    const filter = { labels: { app: `app-${i % APPLICATIONS}` } };
    byLabel.push(await timed(() => expectListed(store.list('VirtualMachine', filter), vms / APPLICATIONS)));
    const namespace = { namespace: namespaceOf(i) };
    byNamespace.push(await timed(() => expectListed(store.list('VirtualMachine', namespace), vms / NAMESPACES)));
  }
  await store.close();
  return [
    {
      name: `cluster: list of ${vms} VMs by a label, from the cache`,
      figure: Math.max(...byLabel),
      unit: 'ms',
      bound: LIST_MS,
      from: `the slowest of ${LISTS}, each right after a change; ${spread(byLabel)}; ${vms / APPLICATIONS} are found; by namespace ${spread(byNamespace)}`,
    },
  ];
}

async function expectListed(list: Promise<{ readonly items: readonly unknown[] }>, count: number): Promise<void> {
  const { length } = (await list).items;
  if (length !== count) throw new Error(`${length} VMs were listed, not ${count}`);
}
