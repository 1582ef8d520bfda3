/** The operator with the rights that its chart gives it and nothing else; and what the chart lets people do. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Condition } from '../../src/api/conditions.ts';
import type { Host } from '../../src/api/host.ts';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { deleted } from '../../src/store/object-rules.ts';
import type { StoredObject } from '../../src/store/object-table.ts';
import type { Running } from '../e2e/support/cli-rig.ts';
import { ask, doorsOf } from '../e2e/support/doors.ts';
import { writeSparseTiny } from '../e2e/support/images.ts';
import { isAlive } from '../e2e/support/process.ts';
import { testFolder } from '../e2e/support/rig.ts';
import { Sshd } from '../e2e/support/sshd.ts';
import { until } from '../e2e/support/wait.ts';
import {
  aggregateRoles,
  installCrds,
  installOperator,
  NAMESPACE,
  OPERATOR_USER,
  type Pod,
  podTemplate,
  RELEASE,
  runPod,
} from './support/chart.ts';
import { routeStreams } from './support/streams.ts';
import { type Ended, TestCluster } from './support/test-cluster.ts';

const ends: (() => Promise<void>)[] = [];
const onFinished = (work: () => Promise<void>) => void ends.push(work);
let cluster: TestCluster;
let operator: Running;
let root: string;

const API_VERSION = 'qemu-operator.dev/v1alpha1';
const HOST = 'rack1';
const TEAM = 'team-a';
const json = (value: unknown) => JSON.stringify(value);

beforeAll(async () => {
  cluster = await TestCluster.start(onFinished, { crds: false });
  root = testFolder(onFinished);
  const sshd = await Sshd.start(onFinished);
  await installCrds(cluster);
  await cluster.kubectl(['label', 'namespace', NAMESPACE, 'pod-security.kubernetes.io/enforce=restricted']);
  await cluster.kubectl(['create', 'namespace', TEAM]);
  const key = `--from-file=ssh-privatekey=${sshd.identity}`;
  await cluster.kubectl(['create', 'secret', 'generic', 'rack1-login', '-n', NAMESPACE, key]);
  const spec = {
    ssh: { address: '127.0.0.1', port: sshd.port, user: sshd.user },
    vmDir: join(root, 'vms'),
    allowedPaths: [root],
    metricsIntervalSeconds: 1,
  };
  await installOperator(cluster, ['--set-json', `hosts.${HOST}=${json({ existingSecret: 'rack1-login', spec })}`]);
  await aggregateRoles(cluster);
  operator = await runPod(onFinished, cluster, await podTemplate(cluster));
  await cluster.kubectl(['wait', '--for=condition=Ready', `qhost/${HOST}`, '--timeout=60s']);
}, 1_800_000);

afterAll(async () => {
  for (const end of ends.reverse()) await end();
});

const apply = (...objects: readonly object[]) =>
  cluster.kubectl(['apply', '-f', '-'], objects.map((object) => json(object)).join('\n---\n'));

const vm = (name: string, spec: object = {}, metadata: object = {}) => ({
  apiVersion: API_VERSION,
  kind: 'VirtualMachine',
  metadata: { name, namespace: TEAM, ...metadata },
  spec: { architecture: 'x86_64', vcpus: 1, memory: '32Mi', networks: [], ...spec },
});

const onHost = (name: string) => ({
  hostName: HOST,
  disks: [{ name: 'root', path: writeSparseTiny(join(root, `${name}.raw`)), format: 'raw' }],
});

async function get<T>(...words: readonly string[]): Promise<T> {
  return JSON.parse(await cluster.kubectl(['get', ...words, '-o', 'json'])) as T;
}

const wait = (condition: string, ...what: readonly string[]) =>
  cluster.kubectl(['wait', '-n', TEAM, `--for=${condition}`, ...what, '--timeout=60s']);

async function readyOf(name: string): Promise<Condition | undefined> {
  const { status } = await get<VirtualMachine>('qvm', name, '-n', TEAM);
  return status?.conditions?.find(({ type }) => type === 'Ready');
}

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

interface AuditEvent {
  readonly verb: string;
  readonly user: { readonly username: string };
  readonly objectRef?: { readonly apiGroup?: string; readonly resource?: string; readonly subresource?: string };
  readonly responseStatus?: { readonly code: number };
  readonly requestURI: string;
}

function auditOfOperator(): AuditEvent[] {
  return readFileSync(cluster.path('audit.log'), 'utf8')
    .split('\n')
    .filter((line) => line.includes(OPERATOR_USER))
    .map((line) => JSON.parse(line) as AuditEvent)
    .filter(({ user }) => user.username === OPERATOR_USER);
}

/** `patch qemu-operator.dev/hosts/status` */
const used = () => {
  const done = auditOfOperator().filter(({ responseStatus }) => (responseStatus?.code ?? 500) < 300);
  return new Set(
    done.map(({ verb, objectRef: { apiGroup = '', resource = '', subresource } = {} }) =>
      [`${verb} ${apiGroup}/${resource}`, ...(subresource === undefined ? [] : [subresource])].join('/'),
    ),
  );
};

async function granted(kind: 'clusterrole' | 'role', name: string): Promise<string[]> {
  const { rules } = await get<{ rules: readonly Rule[] }>(kind, name, '-n', NAMESPACE);
  return rules.flatMap(({ apiGroups, resources, verbs }) =>
    apiGroups.flatMap((group) => resources.flatMap((one) => verbs.map((verb) => `${verb} ${group}/${one}`))),
  );
}

describe('the operator, with a token of its ServiceAccount', () => {
  test('drives a VM on a host over SSH: start, figures, stop, start again', async () => {
    await apply(vm('web', onHost('web')));
    await wait('condition=Running', 'qvm/web');
    const { status, metadata } = await get<VirtualMachine>('qvm', 'web', '-n', TEAM);
    expect(isAlive(status?.pid ?? 0)).toBe(true);
    expect(metadata.finalizers).toEqual(['qemu-operator.dev/host-cleanup']);
    await wait('jsonpath={.status.metrics.at}', 'qvm/web');
    await cluster.kubectl([
      'patch',
      'qvm',
      'web',
      '-n',
      TEAM,
      '--type=merge',
      '-p',
      '{"spec":{"powerState":"PoweredOff"}}',
    ]);
    await wait('condition=Running=false', 'qvm/web');
    expect(isAlive(status?.pid ?? 0)).toBe(false);
    await cluster.kubectl([
      'patch',
      'qvm',
      'web',
      '-n',
      TEAM,
      '--type=merge',
      '-p',
      '{"spec":{"powerState":"PoweredOn"}}',
    ]);
    await wait('condition=Running', 'qvm/web');
  });

  test('runs the VMs of namespaces that the Host selects, from the moment of their label', async () => {
    const patch = (allowedNamespaces: object | null) =>
      cluster.kubectl(['patch', 'qhost', HOST, '--type=merge', '-p', json({ spec: { allowedNamespaces } })]);
    await patch({ selector: { matchLabels: { vms: 'yes' } } });
    try {
      await apply(vm('guarded', onHost('guarded')));
      await wait('jsonpath={.status.conditions[?(@.type=="Ready")].reason}=NamespaceNotAllowed', 'qvm/guarded');
      expect(existsSync(join(root, 'vms', 'guarded'))).toBe(false);
      await cluster.kubectl(['label', 'namespace', TEAM, 'vms=yes']);
      await wait('condition=Running', 'qvm/guarded');
      const { status } = await get<VirtualMachine>('qvm', 'guarded', '-n', TEAM);
      await cluster.kubectl(['label', 'namespace', TEAM, 'vms-']);
      await wait('jsonpath={.status.conditions[?(@.type=="Ready")].reason}=NamespaceNotAllowed', 'qvm/guarded');
      expect(isAlive(status?.pid ?? 0)).toBe(true);
      await cluster.kubectl(['delete', 'qvm', 'guarded', '-n', TEAM, '--timeout=60s']);
      expect(isAlive(status?.pid ?? 0)).toBe(false);
    } finally {
      await patch(null);
    }
  });

  test('answers the probes of its pod, and Prometheus', async () => {
    const { health, metrics } = await doorsOf(operator);
    const [{ livenessProbe, readinessProbe }] = (await podTemplate(cluster)).spec.containers;
    for (const { httpGet } of [livenessProbe, readinessProbe]) {
      expect(httpGet.port).toBe('health');
      expect(await ask(health, httpGet.path)).toMatchObject({ status: 200 });
    }
    expect((await ask(metrics, '/metrics')).text).toMatch(/^qemu_operator_vm_running\{.*name="web".*\} 1$/m);
  });

  test('answers a monitor, and takes it away at its end', async () => {
    const end = new Date(Date.now() + 20_000).toISOString();
    const spec = { virtualMachineName: 'web', intervalSeconds: 1, until: end };
    await apply({
      apiVersion: API_VERSION,
      kind: 'VirtualMachineMonitor',
      metadata: { name: 'm', namespace: TEAM },
      spec,
    });
    await wait('jsonpath={.status.samples[0].sequence}', 'qmon/m');
    await wait('delete', 'qmon/m');
  });

  test('reads a Secret for cloud-init where it was given the right, and says so where it was not', async () => {
    await cluster.kubectl(['create', 'secret', 'generic', 'seed', '-n', TEAM, '--from-literal=userData=#!/bin/sh']);
    await apply(
      vm('seeded', { ...onHost('seeded'), cloudInit: { userDataSecretRef: { name: 'seed', key: 'userData' } } }),
    );
    const refused = await until(
      'it is told',
      () => readyOf('seeded'),
      (ready) => ready?.reason === 'SecretNotFound',
    );
    expect(refused?.message).toContain(`User "${OPERATOR_USER}" cannot get resource "secrets"`);
    const words = [`--clusterrole=${RELEASE}-cloud-init-secrets`, `--serviceaccount=${NAMESPACE}:${RELEASE}`];
    await cluster.kubectl(['create', 'rolebinding', 'qemu-operator', '-n', TEAM, ...words]);
    await wait('condition=Running', 'qvm/seeded');
  });

  test("takes away what is nobody's any more: Hosts that a tool made, Secrets of Hosts that are gone", async () => {
    const long = '2020-01-01T00:00:00Z';
    const spec = { ssh: { address: '192.0.2.1', user: 'ops' } };
    const annotations = { 'qemu-operator.dev/last-used-at': long };
    await apply({ apiVersion: API_VERSION, kind: 'Host', metadata: { name: 'passing', annotations }, spec });
    const values = [`--from-literal=made-with-host-at=${long}`, '--from-literal=password=none'];
    await cluster.kubectl(['create', 'secret', 'generic', 'gone', '-n', NAMESPACE, ...values]);
    await cluster.kubectl(['wait', '--for=delete', 'secret/gone', '-n', NAMESPACE, '--timeout=60s']);
    await cluster.kubectl(['wait', '--for=delete', 'qhost/passing', '--timeout=60s']);
    expect(await cluster.kubectl(['get', 'secret', '-n', NAMESPACE, '-o', 'name'])).toContain('secret/rack1-login');
  });

  test('asks whether a user may read a log, and gives it through the API server', async () => {
    await routeStreams(cluster, [NAMESPACE, RELEASE], [operator]);
    const path = `/apis/subresources.qemu-operator.dev/v1alpha1/namespaces/${TEAM}/virtualmachines/web/log?console=true`;
    expect(await cluster.kubectl(['get', '--raw', path])).toContain('TINY-UP');
  });

  test('removes adopt once it is done, and cleans up after a VM that is deleted', async () => {
    const { metadata } = await get<VirtualMachine>('qvm', 'web', '-n', TEAM);
    await cluster.kubectl(['annotate', 'qvm', 'web', '-n', TEAM, `qemu-operator.dev/adopt=${metadata.uid}`]);
    await until(
      'adopt is gone',
      () => get<VirtualMachine>('qvm', 'web', '-n', TEAM),
      ({ metadata: { annotations } }) => annotations?.['qemu-operator.dev/adopt'] === undefined,
    );
    await cluster.kubectl(['delete', 'qvm', 'seeded', '-n', TEAM, '--timeout=60s']);
  });

  test('hands over to another replica', async () => {
    const web = () => get<VirtualMachine>('qvm', 'web', '-n', TEAM);
    const before = (await web()).status?.pid;
    const next = await runPod(onFinished, cluster, await podTemplate(cluster));
    await next.says(/controller started/);
    await operator.stop();
    operator = next;
    await cluster.kubectl(['patch', 'qvm', 'web', '-n', TEAM, '--type=merge', '-p', '{"spec":{"restartedAt":"now"}}']);
    const isAnother = ({ status }: VirtualMachine) => status?.phase === 'Running' && status.pid !== before;
    await until('it is restarted', web, isAnother);
  });

  test('was refused nothing but the Secret, and used every right of its roles', async () => {
    const refused = auditOfOperator().filter(({ responseStatus }) => responseStatus?.code === 403);
    expect(new Set(refused.map(({ requestURI }) => requestURI))).toEqual(
      new Set([`/api/v1/namespaces/${TEAM}/secrets/seed`]),
    );
    const rights = [...(await granted('clusterrole', RELEASE)), ...(await granted('role', RELEASE))];
    const found = used();
    expect(rights.filter((right) => !found.has(right))).toEqual([]);
    expect(found.has('get /secrets')).toBe(true);
  });

  test('helm test asks what can be asked', async () => {
    const text = await cluster.helm(['get', 'hooks', RELEASE, '-n', NAMESPACE]);
    const pod = JSON.parse(await cluster.kubectl(['create', '--dry-run=client', '-o', 'json', '-f', '-'], text)) as Pod;
    const { code, stdout } = await (await runPod(onFinished, cluster, pod)).ended;
    expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringMatching(/host.*\/rack1 +True/) });
  });
});

describe('people', () => {
  const as = (user: string, words: readonly string[], input?: string): Promise<Ended> =>
    cluster.tryKubectl(['--as', user, '-n', TEAM, ...words], input);
  const refusal = (policy: string, message: string) =>
    `Policy '${RELEASE}-${policy}' with binding '${RELEASE}-${policy}' denied request: ${message}`;

  beforeAll(async () => {
    for (const role of ['view', 'edit', 'admin'])
      await cluster.kubectl(['create', 'rolebinding', role, '-n', TEAM, `--clusterrole=${role}`, `--user=${role}er`]);
  });

  test('view reads and makes monitors, and changes nothing', async () => {
    expect(await as('viewer', ['get', 'qvm,qmon'])).toMatchObject({ code: 0 });
    const spec = { virtualMachineName: 'web', intervalSeconds: 5, until: new Date(Date.now() + 60_000).toISOString() };
    const monitor = { apiVersion: API_VERSION, kind: 'VirtualMachineMonitor', metadata: { name: 'mine' }, spec };
    expect(await as('viewer', ['create', '-f', '-'], json(monitor))).toMatchObject({ code: 0 });
    expect(await as('viewer', ['delete', 'qmon', 'mine'])).toMatchObject({ code: 0 });
    for (const words of [
      ['annotate', 'qvm', 'web', 'a=b'],
      ['delete', 'qvm', 'web'],
      ['get', 'qhost'],
      ['get', 'secrets'],
    ])
      expect((await as('viewer', words)).stderr).toContain('(Forbidden)');
  });

  test('edit makes, changes and deletes VMs', async () => {
    const made = vm('passing');
    expect(await as('editer', ['create', '-f', '-'], json(made))).toMatchObject({ code: 0 });
    expect(await as('editer', ['patch', 'qvm', 'passing', '--type=merge', '-p', '{"spec":{"vcpus":2}}'])).toMatchObject(
      { code: 0 },
    );
    expect(await as('editer', ['delete', 'qvm', 'passing', '--timeout=60s'])).toMatchObject({ code: 0 });
    expect((await as('editer', ['get', 'qhost'])).stderr).toContain('(Forbidden)');
  });

  test('hosts are seen by whoever the role for it is bound to', async () => {
    await cluster.kubectl([
      'create',
      'clusterrolebinding',
      'see',
      `--clusterrole=${RELEASE}-hosts-view`,
      '--user=editer',
    ]);
    expect(await as('editer', ['get', 'qhost'])).toMatchObject({ code: 0, stdout: expect.stringContaining(HOST) });
    expect((await as('editer', ['annotate', 'qhost', HOST, 'a=b'])).stderr).toContain('(Forbidden)');
  });

  describe.each([
    ['orphan', 'true', 'orphan'],
    ['adopt', '0f0e', 'adopt'],
    ['paused', 'true', 'pause'],
  ])('annotation %s', (annotation, value, right) => {
    const name = `with-${annotation}`;
    const key = `qemu-operator.dev/${annotation}`;
    const message = refusal(
      'annotations',
      `setting the annotation ${key} needs the verb update on virtualmachines/${right} in this namespace, which the role admin has`,
    );

    test('is set by whoever has the right, and by nobody else', async () => {
      const annotated = vm(name, {}, { annotations: { [key]: value } });
      expect((await as('editer', ['create', '-f', '-'], json(annotated))).stderr).toContain(message);
      await apply(vm(name));
      expect((await as('editer', ['annotate', 'qvm', name, `${key}=${value}`])).stderr).toContain(message);
      expect(await as('editer', ['annotate', 'qvm', name, `${key}=false`])).toMatchObject({ code: 0 });
      expect(await as('adminer', ['annotate', 'qvm', name, '--overwrite', `${key}=${value}`])).toMatchObject({
        code: 0,
      });
      // What others have set is in nobody's way.
      expect(await as('editer', ['annotate', 'qvm', name, 'example.org/note=mine'])).toMatchObject({ code: 0 });
      expect(await as('editer', ['annotate', 'qvm', name, `${key}-`])).toMatchObject({ code: 0 });
    });

    test('by a role that has this right alone', async () => {
      await cluster.kubectl([
        'create',
        'role',
        right,
        '-n',
        TEAM,
        '--verb=update',
        `--resource=virtualmachines.qemu-operator.dev/${right}`,
      ]);
      await cluster.kubectl(['create', 'rolebinding', right, '-n', TEAM, `--role=${right}`, `--user=${right}er`]);
      await cluster.kubectl([
        'create',
        'rolebinding',
        `${right}-edit`,
        '-n',
        TEAM,
        '--clusterrole=edit',
        `--user=${right}er`,
      ]);
      expect(await as(`${right}er`, ['annotate', 'qvm', name, `${key}=${value}`])).toMatchObject({ code: 0 });
      const other = right === 'pause' ? 'orphan' : 'paused';
      expect((await as(`${right}er`, ['annotate', 'qvm', name, `qemu-operator.dev/${other}=true`])).code).toBe(1);
    });
  });

  test("a VM's disks are given up by whoever has the right to orphan it", async () => {
    const key = 'qemu-operator.dev/provisioned';
    await apply(vm('kept', {}, { annotations: { [key]: 'machine:/folder' } }));
    const message = `changing or removing the annotation ${key} gives the VM's disks up: that needs the verb update on virtualmachines/orphan in this namespace, which the role admin has`;
    expect((await as('editer', ['annotate', 'qvm', 'kept', `${key}-`])).stderr).toContain(
      refusal('annotations', message),
    );
    expect((await as('editer', ['annotate', 'qvm', 'kept', '--overwrite', `${key}=other:/x`])).stderr).toContain(
      refusal('annotations', message),
    );
    expect(await as('editer', ['annotate', 'qvm', 'kept', 'a=b'])).toMatchObject({ code: 0 });
    const none = ['patch', 'qvm', 'web', '--type=merge', '-p', '{"metadata":{"finalizers":null}}'];
    expect((await as('editer', none)).stderr).toContain(
      refusal(
        'annotations',
        'removing the finalizer qemu-operator.dev/host-cleanup leaves the VM on its host with nobody to drive it: that needs the verb update on virtualmachines/orphan in this namespace, which the role admin has',
      ),
    );
    expect(await as('orphaner', ['annotate', 'qvm', 'kept', `${key}-`])).toMatchObject({ code: 0 });
  });

  test('the vmDir of a Host that is claimed stays, whoever asks', async () => {
    const { spec } = await get<Host>('qhost', HOST);
    const other = ['patch', 'qhost', HOST, '--type=merge', '-p', '{"spec":{"vmDir":"/elsewhere"}}'];
    const { code, stderr } = await cluster.tryKubectl(other);
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining(`immutable once the Host is claimed: its machines lie in ${spec.vmDir};`),
    ]);
    expect((await get<Host>('qhost', HOST)).spec).toEqual(spec);
  });

  test('nobody deletes what is protected, in the words of the other stores', async () => {
    const key = 'qemu-operator.dev/protected';
    const words = (stored: object): string => {
      try {
        deleted(stored as StoredObject);
      } catch (error) {
        return (error as Error).message;
      }
      return 'deleted';
    };
    await cluster.kubectl(['annotate', 'qvm', 'web', '-n', TEAM, `${key}=true`]);
    await cluster.kubectl(['annotate', 'qhost', HOST, `${key}=`]);
    for (const [kind, ...place] of [
      ['qvm', 'web', '-n', TEAM],
      ['qhost', HOST],
    ] as const) {
      const stored = await get<StoredObject>(kind, ...place);
      for (const attempt of [
        ['delete', kind, ...place],
        ['delete', kind, '--all', ...place.slice(1)],
      ]) {
        const { code, stderr } = await cluster.tryKubectl([...attempt, '--wait=false']);
        expect(code).toBe(1);
        expect(stderr).toContain('(Forbidden)');
        expect(stderr).toContain(refusal('protected', words(stored)));
      }
    }
    expect((await get<VirtualMachine>('qvm', 'web', '-n', TEAM)).metadata.deletionTimestamp).toBeUndefined();
    await apply(vm('open', {}, { annotations: { [key]: 'false' } }));
    await cluster.kubectl(['delete', 'qvm', 'open', '-n', TEAM, '--timeout=60s']);
  });
});

test('the right to all Secrets is one value', async () => {
  const ask = ['auth', 'can-i', 'get', 'secrets', '-n', 'default', '--as', OPERATOR_USER];
  expect((await cluster.tryKubectl(ask)).stdout).toBe('no\n');
  await installOperator(cluster, ['--set', 'cloudInitSecrets=true']);
  expect((await cluster.tryKubectl(ask)).stdout).toBe('yes\n');
});

test('uninstalled, machines run on; installed again, they are driven on; and all can be taken away', async () => {
  const { status, metadata } = await get<VirtualMachine>('qvm', 'web', '-n', TEAM);
  const pid = status?.pid ?? 0;
  await operator.stop();
  await cluster.helm(['uninstall', RELEASE, 'qemu-operator-crds', '-n', NAMESPACE]);
  expect(isAlive(pid)).toBe(true);
  await installCrds(cluster);
  await installOperator(cluster);
  await runPod(onFinished, cluster, await podTemplate(cluster));
  await cluster.kubectl(['annotate', 'qvm', 'web', '-n', TEAM, 'qemu-operator.dev/protected-']);
  await cluster.kubectl(['annotate', 'qhost', HOST, 'qemu-operator.dev/protected-']);
  await cluster.kubectl(['patch', 'qvm', 'web', '-n', TEAM, '--type=merge', '-p', '{"spec":{"vcpus":2}}']);
  await wait('condition=RestartRequired', 'qvm/web');
  expect((await get<VirtualMachine>('qvm', 'web', '-n', TEAM)).metadata.uid).toBe(metadata.uid);
  expect(isAlive(pid)).toBe(true);

  await cluster.kubectl(['delete', 'qvm', '--all', '--all-namespaces', '--timeout=60s']);
  await cluster.kubectl(['delete', 'qhost', '--all', '--timeout=60s']);
  expect(isAlive(pid)).toBe(false);
  expect(readdirSync(join(root, 'vms'))).toEqual([]);
  await cluster.helm(['uninstall', RELEASE, 'qemu-operator-crds', '-n', NAMESPACE]);
  const kinds = ['virtualmachines', 'hosts', 'virtualmachinemonitors'].map((plural) => `${plural}.qemu-operator.dev`);
  await cluster.kubectl(['delete', 'crd', ...kinds]);
  expect(await cluster.kubectl(['api-resources', '--api-group=qemu-operator.dev', '-o', 'name'])).toBe('');
});
