/** Probes and metrics of an operator whose API server answers, is killed, comes back, and freezes. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Running } from '../e2e/support/cli-rig.ts';
import { ask, DOORS, type DoorsFound, doorsOf } from '../e2e/support/doors.ts';
import { scrape } from '../e2e/support/exposition.ts';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { isAlive, qemusBelow } from '../e2e/support/process.ts';
import { testFolder } from '../e2e/support/rig.ts';
import { until } from '../e2e/support/wait.ts';
import { clusterForFile } from './support/api.ts';
import { startOperator } from './support/operator.ts';
import { smallVm, sshHosts } from './support/ssh-hosts.ts';

const HOSTS = ['rack-0', 'rack-1', 'rack-2', 'rack-3'];
const WEB = { namespace: 'default', name: 'web' };
let operator: Running;
let doors: DoorsFound;
let root: string;

const file = clusterForFile(async (cluster, onFinished) => {
  root = testFolder(onFinished);
  const hostOf = await sshHosts(onFinished, cluster, root);
  // At rest nothing is written but Leases.
  const hosts = HOSTS.map((name) => hostOf(name, join(root, name))).map(({ spec, ...host }) => ({
    ...host,
    spec: { ...spec, metricsIntervalSeconds: 0 },
  }));
  const disks = [{ name: 'root', path: writeSparseTiny(join(root, 'web.raw')), format: 'raw' }];
  await cluster.apply(...hosts, smallVm('web', 'rack-0', { disks }));
  operator = await startOperator(onFinished, cluster, DOORS);
  doors = await doorsOf(operator);
  await cluster.kubectl([
    'wait',
    '--for=condition=Ready',
    'qvm/web',
    ...HOSTS.map((name) => `qhost/${name}`),
    '--timeout=60s',
  ]);
});

const ready = (status: number) =>
  until(
    'readiness',
    () => ask(doors.health, '/readyz?verbose'),
    (answer) => answer.status === status,
  );

interface Audited {
  readonly verb: string;
  readonly userAgent?: string;
  readonly stage: string;
  readonly objectRef?: { readonly apiGroup?: string };
  readonly responseStatus?: { readonly code: number };
}

/** What the API server has noted of the operator's requests. */
function audited(): Audited[] {
  const lines = readFileSync(file.cluster.path('audit.log'), 'utf8').trimEnd().split('\n');
  return lines
    .map((line) => JSON.parse(line) as Audited)
    .filter(({ userAgent = '', stage }) => userAgent.startsWith('qemu-operator/') && stage === 'ResponseComplete');
}

const auditedPatches = () =>
  audited().filter(({ verb, responseStatus }) => verb === 'patch' && responseStatus?.code === 200).length;

/** Of our objects; a replica renews its Lease in any case. */
const auditedWrites = () =>
  audited().filter(
    ({ verb, objectRef }) => !['get', 'list', 'watch'].includes(verb) && objectRef?.apiGroup === 'qemu-operator.dev',
  ).length;

test('figures of objects and of requests are those of kubectl and of the audit log', async () => {
  expect(await ready(200)).toEqual({
    status: 200,
    text: '[+]store ok\n[+]api-server ok\n[+]loop ok\nreadyz check passed\n',
  });
  const counted = await until(
    'the operator and the audit log agree',
    async () => {
      const seen = await scrape(doors.metrics);
      return { seen, patches: seen.value('rest_client_requests_total', { method: 'PATCH', code: '200' }) };
    },
    ({ patches }) => patches === auditedPatches(),
  );
  expect(counted.patches).toBeGreaterThan(0);
  const { seen } = counted;
  expect(seen.value('rest_client_requests_total', { method: 'GET', code: '200' })).toBeGreaterThan(3);
  const columns = 'jsonpath={.status.phase} {.spec.hostName} {.status.vcpus}';
  const [phase = '', host = '', vcpus] = (await file.cluster.kubectl(['get', 'qvm', 'web', '-o', columns])).split(' ');
  expect(seen.value('qemu_operator_vm_phase', { ...WEB, phase })).toBe(1);
  expect(seen.value('qemu_operator_vm_info', { ...WEB, host })).toBe(1);
  expect(seen.value('qemu_operator_vm_vcpus', WEB)).toBe(Number(vcpus));
  expect([seen.value('qemu_operator_store_up'), seen.value('qemu_operator_loop_running')]).toEqual([1, 1]);
});

test('scrapes and probes write nothing', async () => {
  const before = auditedWrites();
  expect(before).toBeGreaterThan(0);
  for (let i = 0; i < 20; i += 1) await Promise.all([scrape(doors.metrics), ask(doors.health, '/readyz')]);
  expect(auditedWrites()).toBe(before);
});

test('API server killed: alive, not ready with the reason, the last figures; restarted: ready by itself', async () => {
  const pids = qemusBelow(root);
  expect(pids).toHaveLength(1);
  await file.cluster.killApiServer();
  const { text } = await ready(500);
  expect(text).toMatch(
    /^\[\+\]store ok\n\[-\]api-server failed: .*the API server cannot be reached: .*\n\[\+\]loop ok\nreadyz check failed\n$/,
  );
  expect(await ask(doors.health, '/healthz')).toEqual({ status: 200, text: 'ok' });
  const away = await scrape(doors.metrics);
  expect(away.value('qemu_operator_store_up')).toBe(0);
  expect(away.value('qemu_operator_vm_running', WEB)).toBe(1);
  expect(away.value('rest_client_requests_total', { method: 'GET', code: '<error>' })).toBeGreaterThan(0);
  expect(pids.every(isAlive)).toBe(true);
  await file.cluster.startApiServer();
  await ready(200);
  expect((await scrape(doors.metrics)).value('qemu_operator_store_up')).toBe(1);
  expect(qemusBelow(root)).toEqual(pids);
});

test('API server frozen: a probe is answered in time, with no more than what is known', async () => {
  file.cluster.freezeApiServer();
  try {
    const from = performance.now();
    const { text } = await ready(500);
    expect(text).toContain('[-]api-server failed: no answer within 2 s\n');
    expect(await ask(doors.health, '/healthz')).toEqual({ status: 200, text: 'ok' });
    expect(performance.now() - from).toBeLessThan(10_000);
  } finally {
    file.cluster.thawApiServer();
  }
  await ready(200);
});

test('replicas: all show every machine, each counts the Hosts that it drives, also after one has left', async () => {
  const pids = qemusBelow(root);
  const second = await startOperator(file.onFinished, file.cluster, DOORS);
  const others = await doorsOf(second);
  const driven = async ({ metrics }: DoorsFound) => (await scrape(metrics)).value('qemu_operator_loop_hosts') ?? 0;
  await until(
    'each Host is driven by one of them',
    () => Promise.all([driven(doors), driven(others)]),
    ([one = 0, two = 0]) => one + two === HOSTS.length,
  );
  for (const { metrics } of [doors, others])
    expect((await scrape(metrics)).value('qemu_operator_vm_running', WEB)).toBe(1);
  expect((await operator.stop()).code).toBe(0);
  await until(
    'the other drives all',
    () => driven(others),
    (hosts) => hosts === HOSTS.length,
  );
  expect((await ask(others.health, '/readyz')).status).toBe(200);
  expect(qemusBelow(root)).toEqual(pids);
});
