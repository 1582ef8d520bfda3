/** A hundred VMs, one after the other, on a real API server and real QEMU: KubeVirt's density run, on one host over SSH. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeTransport } from '../../src/kube/transport.ts';
import { ownedBy } from '../../src/reconcile/rendezvous.ts';
import { smallVm, sshHosts } from '../cluster/support/ssh-hosts.ts';
import type { TestCluster } from '../cluster/support/test-cluster.ts';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { qemusBelow } from '../e2e/support/process.ts';
import { until } from '../e2e/support/wait.ts';
import {
  adminOf,
  create,
  type Operator,
  startCluster,
  startOperator,
  Watched,
  type Write,
  writesOf,
} from './cluster.ts';
import { type Finding, median, shownNumber } from './figures.ts';
import { type Place, stopChild } from './place.ts';

const VMS = 100;
const EVERY_MS = 100;
const WRITES_PER_VM = 4;
const DEADLINE_MS = 300_000;
/** After the last start: the first metrics come in two looks. */
const CALM_MS = 10_000;
const REST_SECONDS = 70;
/** The figures of a Host are refreshed this often. */
const HOST_EVERY_SECONDS = 300;
const HAND_OVER_SECONDS = 1;
const TAKE_OVER_SECONDS = 20;
const HOST = 'rack-1';

interface Dense {
  readonly cluster: TestCluster;
  readonly admin: KubeTransport;
  readonly watched: Watched;
  readonly vmDir: string;
  readonly operator: Operator;
  /** Milliseconds from each request to create a VM until it was seen to run, and what was written for it until then. */
  readonly times: readonly number[];
  readonly writes: readonly Write[][];
}

let dense: Promise<Dense> | undefined;

/** The benches here measure the same machines. */
function machines(place: Place): Promise<Dense> {
  dense ??= start(place);
  return dense;
}

async function start(place: Place): Promise<Dense> {
  const cluster = await startCluster(place);
  const admin = adminOf(place, cluster);
  const root = place.folder('density');
  const vmDir = join(root, 'vms');
  const hostOf = await sshHosts((end) => place.onEnd(end), cluster, root);
  await create(admin, hostOf(HOST, vmDir));
  const operator = await startOperator(place, cluster);
  const watched = await Watched.start(place, admin);
  await cluster.kubectl(['wait', '--for=condition=Ready', `qhost/${HOST}`, '--timeout=60s']);
  const asked = new Map<string, number>();
  const from = performance.now();
  for (let i = 0; i < VMS; i += 1) {
    await sleep(Math.max(0, from + i * EVERY_MS - performance.now()));
    const name = `vm-${i}`;
    const boot = { name: 'root', path: writeSparseTiny(join(root, 'images', `${name}.raw`)), format: 'raw' };
    asked.set(`default/${name}`, Date.now());
    // With a disk that is made for it, as most have.
    const vm = smallVm(name, HOST, { accelerator: 'TCG', disks: [boot, { name: 'data', size: '1Gi' }] });
    await create(admin, { ...vm, metadata: { ...vm.metadata, namespace: 'default' } });
  }
  await watched.untilReady(VMS, DEADLINE_MS);
  const running = qemusBelow(vmDir).length;
  if (running !== VMS) throw new Error(`${running} of ${VMS} VMs run`);
  const times = [...asked].map(([key, at]) => (watched.running.get(key) ?? Number.NaN) - at);
  const all = writesOf(cluster);
  const writes = [...asked.keys()].map((key) =>
    all.filter((write) => isOfVm(write, key) && write.at <= (watched.running.get(key) ?? 0)),
  );
  return { cluster, admin, watched, vmDir, operator, times, writes };
}

function isOfVm({ resource, key }: Write, vm: string): boolean {
  return resource.startsWith('virtualmachines') && key === vm;
}

export async function benchDensity(place: Place): Promise<Finding[]> {
  const { cluster, times, writes, watched } = await machines(place);
  const counts = writes.map(({ length }) => length);
  const events = writesOf(cluster).filter(({ resource }) => resource === 'events').length;
  const most = Math.max(...counts);
  const worst = writes.find(({ length }) => length === most) ?? [];
  const what = `${VMS} VMs, one every ${EVERY_MS} ms, each with a disk that is made; 1 run`;
  const seconds = times.map((ms) => ms / 1000);
  const shares = `fastest ${shownNumber(Math.min(...seconds))} s, slowest ${shownNumber(Math.max(...seconds))} s`;
  return [
    {
      name: `cluster: apply to Running, P50 of ${VMS} VMs on real QEMU`,
      figure: median(seconds),
      unit: 's',
      from: `${shares}; one host over SSH, which has the API server, etcd and the operator on its processors too; ${what}`,
    },
    {
      name: `cluster: apply to Running, P95 of ${VMS} VMs on real QEMU`,
      figure: percentile(seconds, 95),
      unit: 's',
      from: `KubeVirt's own density run: P50 18 s, P95 28 s; ${what}`,
    },
    {
      name: 'cluster: API writes per VM, apply to Running',
      figure: most,
      unit: 'writes',
      bound: WRITES_PER_VM,
      from: `the most of ${VMS}, median ${median(counts)}: ${worst.map(({ verb, resource }) => `${verb} ${resource}`).join(', ')}; from the audit log; besides, ${shownNumber(events / VMS)} Events per VM; ${watched.running.size} VMs`,
    },
  ];
}

/** The value that so many percent do not exceed. */
function percentile(values: readonly number[], percent: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil((percent / 100) * sorted.length) - 1] ?? Number.NaN;
}

export async function benchClusterRest(place: Place): Promise<Finding[]> {
  const { cluster, watched } = await machines(place);
  await sleep(CALM_MS);
  const [from, metricsBefore] = [Date.now(), watched.metrics];
  await sleep(REST_SECONDS * 1000);
  const to = Date.now();
  // What was written at the very end is told a moment later.
  await sleep(1_000);
  const metrics = watched.metrics - metricsBefore;
  const writes = writesOf(cluster).filter(({ at }) => at >= from && at < to);
  const ofVms = writes.filter(({ resource }) => resource === 'virtualmachines/status').length;
  const leases = writes.filter(({ resource }) => resource === 'leases').length;
  const hosts = writes.filter(({ resource }) => resource === 'hosts/status').length;
  const allowed = Math.min(hosts, Math.ceil(REST_SECONDS / HOST_EVERY_SECONDS));
  const others = writes.length - leases - allowed - Math.min(ofVms, metrics);
  return [
    {
      name: `cluster: writes at rest but metrics, Lease and the Host every 5 min`,
      figure: others,
      unit: 'writes',
      bound: 0,
      from: `in ${REST_SECONDS} s with ${VMS} running: ${ofVms} of metrics, ${leases} of the replica's Lease, ${hosts} of the Host; from the audit log, so that writes that change nothing count too; 1 run`,
    },
  ];
}

export async function benchHandOver(place: Place): Promise<Finding[]> {
  const { cluster, operator, vmDir } = await machines(place);
  const before = qemusBelow(vmDir).sort();
  const handOvers: number[] = [];
  const takeOvers: number[] = [];
  const [id = ''] = await leases(cluster);
  let owner: Replica = { ...operator, id };
  for (const [signal, times] of [
    ['SIGTERM', handOvers],
    ['SIGKILL', takeOvers],
    ['SIGTERM', handOvers],
    ['SIGKILL', takeOvers],
    ['SIGTERM', handOvers],
  ] as const) {
    const pair = await joined(place, cluster, owner, vmDir);
    const epoch = epochIn(vmDir);
    const from = performance.now();
    pair.owner.child.kill(signal);
    await until(
      'the Host is claimed again',
      () => epochIn(vmDir),
      (now) => now > epoch,
    );
    times.push(performance.now() - from);
    await stopChild(pair.owner.child);
    owner = pair.other;
  }
  const after = qemusBelow(vmDir).sort();
  if (after.join() !== before.join()) throw new Error('a guest was restarted by a hand-over');
  const what = `${VMS} VMs on one host over SSH, which run on`;
  return [
    {
      name: `cluster: hand-over of a replica that is stopped, ${VMS} VMs`,
      figure: Math.max(...handOvers) / 1000,
      unit: 's',
      bound: HAND_OVER_SECONDS,
      from: `SIGTERM to the Host claimed by the other: ${handOvers.map((ms) => `${shownNumber(ms)} ms`).join(', ')}; ${what}`,
    },
    {
      name: `cluster: take-over of a replica that was killed, ${VMS} VMs`,
      figure: Math.max(...takeOvers) / 1000,
      unit: 's',
      bound: TAKE_OVER_SECONDS,
      from: `SIGKILL to the Host claimed by the other: ${takeOvers.map((ms) => `${shownNumber(ms / 1000)} s`).join(', ')}; a Lease counts for 10 s; ${what}`,
    },
  ];
}

interface Replica extends Operator {
  /** Of its Lease. */
  readonly id: string;
}

/** A second replica beside the one that has the Host. Which of them has it then is decided by their names. */
async function joined(place: Place, cluster: TestCluster, alone: Replica, vmDir: string) {
  const [epoch, known] = [epochIn(vmDir), await leases(cluster)];
  const operator = await startOperator(place, cluster);
  const [id = ''] = await until(
    'the second replica has a Lease',
    async () => (await leases(cluster)).filter((one) => !known.includes(one)),
    ({ length }) => length === 1,
  );
  const joining = { ...operator, id };
  const isItsOwn = ownedBy(id, [alone.id, id])(HOST);
  await until(
    'the Host is claimed by the replica whose it is',
    () => epochIn(vmDir),
    (now) => !isItsOwn || now > epoch,
  );
  await sleep(JOINED_MS);
  return isItsOwn ? { owner: joining, other: alone } : { owner: alone, other: joining };
}

/** Until whoever joined or claimed has nothing more to do. */
const JOINED_MS = 3_000;

/** Names of them, also of replicas that were killed. */
async function leases(cluster: TestCluster): Promise<string[]> {
  const names = await cluster.kubectl(['get', 'lease', '-l', 'app.kubernetes.io/name=qemu-operator', '-o', 'name']);
  return names
    .trim()
    .split('\n')
    .map((name) => name.slice(name.indexOf('/') + 1));
}

/** As the marker on the host has it: each claim raises it. */
function epochIn(vmDir: string): number {
  return (JSON.parse(readFileSync(join(vmDir, '.qemu-operator.json'), 'utf8')) as { epoch: number }).epoch;
}
