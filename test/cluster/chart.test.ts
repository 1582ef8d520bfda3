/** The charts as Helm and a real API server take them: linted, rendered, admitted, installed, upgraded. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { until } from '../e2e/support/wait.ts';
import {
  CRDS_CHART,
  installCrds,
  installOperator,
  NAMESPACE,
  OPERATOR_CHART,
  podTemplate,
  RELEASE,
} from './support/chart.ts';
import { PROMETHEUS_CRDS } from './support/prometheus-crds.ts';
import { TestCluster } from './support/test-cluster.ts';

const ends: (() => Promise<void>)[] = [];
let cluster: TestCluster;

beforeAll(async () => {
  cluster = await TestCluster.start((work) => ends.push(work), { crds: false });
}, 1_800_000);

afterAll(async () => {
  for (const end of ends.reverse()) await end();
});

interface Rendered {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

const documents = (text: string) =>
  parseAllDocuments(text)
    .map((one) => one.toJS() as Rendered | null)
    .filter((one) => one !== null);

const VALUES = readdirSync(join(OPERATOR_CHART, 'ci'));
const valuesOf = (file: string) => (file === 'default' ? [] : ['-f', join(OPERATOR_CHART, 'ci', file)]);

async function list(...words: readonly string[]): Promise<{ metadata: { name: string; uid: string }; spec: object }[]> {
  const { items } = JSON.parse(await cluster.kubectl(['get', ...words, '-o', 'json']));
  return items;
}

const API_VERSION = 'qemu-operator.dev/v1alpha1';

/** Some time before: a VirtualMachine knew no restartedAt. */
function olderCrdsChart(): string {
  const chart = cluster.path('older-crds');
  cpSync(CRDS_CHART, chart, { recursive: true });
  const file = join(chart, 'templates', 'qemu-operator.dev_virtualmachines.yaml');
  const [crd] = documents(readFileSync(file, 'utf8')) as unknown as [
    { spec: { versions: [{ schema: { openAPIV3Schema: { properties: { spec: { properties: object } } } } }] } },
  ];
  const fields = crd.spec.versions[0].schema.openAPIV3Schema.properties.spec.properties;
  expect(Reflect.deleteProperty(fields, 'restartedAt') && Reflect.has(fields, 'hostName')).toBe(true);
  writeFileSync(file, JSON.stringify(crd));
  return chart;
}

test('kinds that were applied with kubectl before are taken over', async () => {
  await cluster.kubectl(['apply', '--server-side', '-f', join(OPERATOR_CHART, '..', '..', 'crds')]);
  const install = ['install', 'qemu-operator-crds', CRDS_CHART, '-n', NAMESPACE, '--create-namespace'];
  expect((await cluster.tryHelm(install)).stderr).toContain('cannot be imported into the current release');
  await cluster.helm([...install, '--take-ownership', '--force-conflicts']);
  await cluster.helm(['uninstall', 'qemu-operator-crds', '-n', NAMESPACE]);
  await cluster.kubectl(['delete', 'crd', '--all']);
});

test('an upgrade from a chart whose CRD lacks a field adds it, and keeps every object', async () => {
  await installCrds(cluster, olderCrdsChart());
  const objects = [
    { kind: 'Host', metadata: { name: 'rack1' }, spec: { ssh: { address: '192.0.2.1', user: 'ops' } } },
    ...['a', 'b'].map((name) => ({
      kind: 'VirtualMachine',
      metadata: { name },
      spec: { architecture: 'x86_64', vcpus: 3 },
    })),
    {
      kind: 'VirtualMachineMonitor',
      metadata: { name: 'm' },
      spec: { virtualMachineName: 'a', intervalSeconds: 5, until: '2099-01-01T00:00:00Z' },
    },
  ];
  const input = objects.map((object) => JSON.stringify({ apiVersion: API_VERSION, ...object })).join('\n---\n');
  await cluster.kubectl(['apply', '-f', '-'], input);
  const set = ['patch', 'qvm', 'a', '--type=merge', '-p', '{"spec":{"restartedAt":"now"}}'];
  const answered = ['get', 'qvm', 'a', '-o', 'jsonpath={.spec.restartedAt}'];
  await cluster.kubectl(set);
  expect(await cluster.kubectl(answered)).toBe('');
  const before = await list('qvm,qhost,qmon', '-A');
  expect(before).toHaveLength(4);

  await installCrds(cluster);
  expect(await list('qvm,qhost,qmon', '-A')).toEqual(before);
  const taken = async () => {
    await cluster.kubectl(set);
    return cluster.kubectl(answered);
  };
  await until('the field is taken', taken, (value) => value === 'now');
  await until(
    'the field is explained',
    () => cluster.tryKubectl(['explain', 'qvm.spec.restartedAt']),
    ({ stdout }) => stdout.includes('FIELD: restartedAt <string>'),
  );

  await cluster.helm(['uninstall', 'qemu-operator-crds', '-n', NAMESPACE]);
  const after = await list('qvm,qhost,qmon', '-A');
  expect(after.map(({ metadata }) => metadata.uid)).toEqual(before.map(({ metadata }) => metadata.uid));
  await installCrds(cluster);
  await cluster.kubectl(['delete', 'qvm,qhost,qmon', '--all']);
});

describe.each(['default', ...VALUES])('the operator chart with values %s', (file) => {
  test('lints, and every object is accepted by the API server', async () => {
    await cluster.helm(['lint', '--strict', OPERATOR_CHART, ...valuesOf(file)]);
    const text = await cluster.helm(['template', RELEASE, OPERATOR_CHART, '-n', NAMESPACE, ...valuesOf(file)]);
    await cluster.kubectl(['apply', '-f', '-'], PROMETHEUS_CRDS.map((crd) => JSON.stringify(crd)).join('\n---\n'));
    await cluster.untilServed();
    const answer = await cluster.kubectl(['apply', '--dry-run=server', '--validate=strict', '-f', '-'], text);
    const accepted = answer
      .trim()
      .split('\n')
      .filter((line) => line.endsWith('created (server dry run)'));
    expect(accepted, answer).toHaveLength(documents(text).length);
    expect(documents(text).filter(({ kind }) => kind === 'Host').length).toBe(HOSTS[file]);
  });
});

type Labels = Readonly<Record<string, string>>;

interface Selecting {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels: Labels };
  readonly spec: {
    readonly selector?: Labels & { readonly matchLabels?: Labels };
    readonly podSelector?: { readonly matchLabels: Labels };
    readonly template?: { readonly metadata: { readonly labels: Labels } };
  };
}

test.each([
  [[], []],
  [
    ['--set', 'mcp.enabled=true'],
    ['ClusterRole', 'ClusterRoleBinding', 'Role', 'RoleBinding', 'Service'],
  ],
])('MCP has a port and rights where it is enabled, and nothing otherwise: %j', async (words, kinds) => {
  const text = await cluster.helm(['template', RELEASE, OPERATOR_CHART, ...words]);
  const named = documents(text).filter(({ metadata }) => metadata.name === `${RELEASE}-mcp`);
  expect(named.map(({ kind }) => kind).sort()).toEqual(kinds);
  for (const word of ['tokenreviews', '--mcp-bind-address']) expect(text.includes(word)).toBe(kinds.length > 0);
});

test('what selects pods finds those of the operator and no others', async () => {
  const words = ['template', RELEASE, OPERATOR_CHART, ...valuesOf('everything-values.yaml')];
  const objects = documents(await cluster.helm(words)) as unknown as Selecting[];
  const labelsOf = (wanted: string) => objects.find(({ kind }) => kind === wanted)?.metadata.labels ?? {};
  const pods = objects.find(({ kind }) => kind === 'Deployment')?.spec.template?.metadata.labels ?? {};
  const selectorOf = (wanted: string) => {
    const { selector, podSelector } = objects.find(({ kind }) => kind === wanted)?.spec ?? {};
    return podSelector?.matchLabels ?? selector?.matchLabels ?? selector;
  };
  for (const kind of ['Deployment', 'Service', 'PodDisruptionBudget', 'NetworkPolicy']) {
    expect(pods).toMatchObject(selectorOf(kind) ?? { missing: kind });
    expect(labelsOf('Pod')).not.toMatchObject(selectorOf(kind) ?? {});
  }
  expect(labelsOf('Service')).toMatchObject(selectorOf('ServiceMonitor') ?? { missing: 'ServiceMonitor' });
});

const HOSTS: Readonly<Record<string, number>> = {
  default: 0,
  'everything-values.yaml': 2,
  'one-replica-values.yaml': 1,
};

test.each([
  [['replicas=two'], "at '/replicas': got string, want integer"],
  [['image.tagg=1'], "additional properties 'tagg' not allowed"],
  [['hosts.Rack_1.spec.ssh.address=192.0.2.1'], "'Rack_1' does not match pattern"],
  [['hosts.rack1.spec.ssh.credentialsSecretRef.name=x'], "at '/hosts/rack1/spec/ssh/credentialsSecretRef'"],
  [['hosts.rack1.spec.local.x=1'], "at '/hosts/rack1/spec/local'"],
  [['hosts.rack1.spec.vmDir=/data', 'hosts.rack1.existingSecret=x'], 'hosts.rack1: existingSecret needs spec.ssh'],
])('values %s are refused', async (values, message) => {
  const set = values.flatMap((value) => ['--set', value]);
  const { code, stderr } = await cluster.tryHelm(['template', RELEASE, OPERATOR_CHART, ...set]);
  expect(code).not.toBe(0);
  expect(stderr).toContain(message);
});

test('installed, its pods pass restricted pod security', async () => {
  await installOperator(cluster);
  await cluster.kubectl(['create', 'namespace', 'restricted']);
  await cluster.kubectl(['label', 'namespace', 'restricted', 'pod-security.kubernetes.io/enforce=restricted']);
  const admitted = (pod: object) =>
    cluster.tryKubectl(
      ['create', '-n', 'restricted', '--dry-run=server', '-f', '-'],
      JSON.stringify({ apiVersion: 'v1', kind: 'Pod', ...pod, metadata: { name: 'one' } }),
    );
  const { spec } = await podTemplate(cluster);
  const hooks = documents(await cluster.helm(['get', 'hooks', RELEASE, '-n', NAMESPACE])) as unknown as {
    spec: object;
  }[];
  expect(hooks).toHaveLength(1);
  for (const one of [spec, ...hooks.map((hook) => hook.spec)])
    expect(await admitted({ spec: one })).toMatchObject({
      code: 0,
      stderr: '',
      stdout: 'pod/one created (server dry run)\n',
    });
  // The namespace does refuse.
  const { containers, volumes } = spec;
  expect((await admitted({ spec: { containers, volumes } })).stderr).toContain(
    'violates PodSecurity "restricted:latest"',
  );
});

interface Served {
  readonly data: Readonly<Record<string, string>>;
  readonly spec: { readonly caBundle: string; readonly service: { readonly name: string } };
}

/** The certificate of the streams' address, and by what the API server knows it. */
async function serving(secret: string): Promise<{ certificate: X509Certificate; key: string; caBundle: string }> {
  const read = async (...words: readonly string[]) =>
    JSON.parse(await cluster.kubectl(['get', ...words, '-n', NAMESPACE, '-o', 'json'])) as Served;
  const { data } = await read('secret', secret);
  const { spec } = await read('apiservice', 'v1alpha1.subresources.qemu-operator.dev');
  const pem = (text: string | undefined) => Buffer.from(text ?? '', 'base64');
  const certificate = new X509Certificate(pem(data['tls.crt']));
  expect(certificate.verify(new X509Certificate(pem(spec.caBundle)).publicKey)).toBe(true);
  expect(certificate.checkPrivateKey(createPrivateKey(pem(data['tls.key'])))).toBe(true);
  expect(certificate.checkHost(`${spec.service.name}.${NAMESPACE}.svc`)).toBe(`${RELEASE}.${NAMESPACE}.svc`);
  return { certificate, key: data['tls.key'] ?? '', caBundle: spec.caBundle };
}

test('the certificate of the streams is made once and kept by upgrades; another one may be given', async () => {
  await installOperator(cluster);
  const first = await serving(`${RELEASE}-streams`);
  expect(Date.parse(first.certificate.validTo) - Date.now()).toBeGreaterThan(9 * 365 * 86_400_000);
  await installOperator(cluster, ['--set', 'logLevel=debug']);
  expect(await serving(`${RELEASE}-streams`)).toMatchObject({ key: first.key, caBundle: first.caBundle });

  const given = JSON.parse(
    await cluster.kubectl(['get', 'secret', `${RELEASE}-streams`, '-n', NAMESPACE, '-o', 'json']),
  );
  const mine = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'mine', namespace: NAMESPACE }, data: given.data };
  await cluster.kubectl(['apply', '-f', '-'], JSON.stringify(mine));
  await installOperator(cluster, ['--set', 'streams.existingSecret=mine']);
  expect(await serving('mine')).toMatchObject({ key: first.key, caBundle: first.caBundle });
  expect((await podTemplate(cluster)).spec.volumes).toMatchObject([{ secret: { secretName: 'mine' } }]);
  await installOperator(cluster, ['--set', 'streams.enabled=false']);
  expect(await list('apiservice', '-l', `app.kubernetes.io/instance=${RELEASE}`)).toEqual([]);
  expect(await list('rolebinding', '-n', 'kube-system', '-l', `app.kubernetes.io/instance=${RELEASE}`)).toEqual([]);
});

test('values change by an upgrade, and what stays when it is uninstalled', async () => {
  const host = ['--set', 'hosts.rack1.spec.ssh.address=192.0.2.1', '--set', 'hosts.rack1.existingSecret=rack1'];
  await installOperator(cluster, host);
  const [made] = await list('qhost');
  expect(made?.spec).toMatchObject({ ssh: { address: '192.0.2.1', credentialsSecretRef: { name: 'rack1' } } });
  // What the operator writes into it is not Helm's to take away.
  await cluster.kubectl([
    'patch',
    'qhost',
    'rack1',
    '--type=merge',
    '-p',
    '{"spec":{"ssh":{"hostKeys":["ssh-ed25519 AAAAAAAAAAAAAAAAAAAA"]}}}',
  ]);
  await installOperator(cluster, [
    ...host,
    '--set',
    'hosts.rack1.spec.metricsIntervalSeconds=0',
    '--set',
    'replicas=1',
  ]);
  const [changed] = await list('qhost');
  expect(changed?.spec).toMatchObject({
    ssh: { hostKeys: ['ssh-ed25519 AAAAAAAAAAAAAAAAAAAA'] },
    metricsIntervalSeconds: 0,
  });
  expect(await list('poddisruptionbudget', '-n', NAMESPACE)).toEqual([]);

  await cluster.helm(['uninstall', RELEASE, '-n', NAMESPACE]);
  expect((await list('qhost')).map(({ metadata }) => metadata.uid)).toEqual([made?.metadata.uid]);
  const left = await list(
    'deployment,serviceaccount,service,role,rolebinding',
    '-n',
    NAMESPACE,
    '-l',
    `app.kubernetes.io/instance=${RELEASE}`,
  );
  expect(left).toEqual([]);
  const everywhere = 'clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding';
  expect(await list(everywhere, '-l', `app.kubernetes.io/instance=${RELEASE}`)).toEqual([]);

  await installOperator(cluster, host);
  expect((await list('qhost')).map(({ metadata }) => metadata.uid)).toEqual([made?.metadata.uid]);
});
