/** The product's charts on a test cluster, and what the operator's pod is told there. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { MAIN, Running } from '../../e2e/support/cli-rig.ts';
import type { OnFinished } from '../../e2e/support/rig.ts';
import { machineAddress } from './streams.ts';
import type { TestCluster } from './test-cluster.ts';

const CHARTS = join(import.meta.dirname, '..', '..', '..', 'charts');
export const OPERATOR_CHART = join(CHARTS, 'qemu-operator');
export const CRDS_CHART = join(CHARTS, 'qemu-operator-crds');

/** Release, namespace and, by the chart's rule for names, what its objects are called. */
export const RELEASE = 'qemu-operator';
export const NAMESPACE = 'qemu-operator-system';
export const OPERATOR_USER = `system:serviceaccount:${NAMESPACE}:${RELEASE}`;

/** As docs/operations/kubernetes.md says. */
export async function installCrds(cluster: TestCluster, chart = CRDS_CHART): Promise<void> {
  await cluster.helm(['upgrade', '--install', 'qemu-operator-crds', chart, '-n', NAMESPACE, '--create-namespace']);
  await cluster.untilServed();
}

/** @param words more of helm's */
export function installOperator(cluster: TestCluster, words: readonly string[] = []): Promise<string> {
  return cluster.helm(['upgrade', '--install', RELEASE, OPERATOR_CHART, '-n', NAMESPACE, ...words]);
}

interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string };
}

interface Container {
  readonly command: readonly string[];
  readonly args: readonly string[];
  readonly livenessProbe: Probe;
  readonly readinessProbe: Probe;
  readonly env?: readonly { readonly name: string; readonly value: string }[];
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
}

export interface Pod {
  readonly spec: {
    readonly serviceAccountName: string;
    readonly containers: readonly [Container];
    readonly volumes?: readonly { readonly name: string; readonly secret: { readonly secretName: string } }[];
  };
}

/** The template of the Deployment as the API server has it. */
export async function podTemplate(cluster: TestCluster): Promise<Pod> {
  const text = await cluster.kubectl(['get', 'deployment', RELEASE, '-n', NAMESPACE, '-o', 'json']);
  return (JSON.parse(text) as { spec: { template: Pod } }).spec.template;
}

/** Ports of a pod are its own; those of this machine are not: free ones of the loopback instead. */
const ADDRESS = /^(--(?:metrics|health-probe|mcp)-bind-address)=:\d+$/;

/** A root file system that cannot be written, and what the kubelet mounts below /run; nobody else sees them. */
const MOUNTS = `set -e
mount -t tmpfs -o mode=755 none /run
cp -r "$1"/. /run
mount -o remount,bind,ro /
shift
exec "$@"`;

/** The API server comes to a pod by an address that is none of the loopback: it refuses those for endpoints. */
const STREAMS_ADDRESS = /^(--streams-bind-address)=:\d+$/;

/** The one container of a pod as a process of this machine: its words and mounts, and a token of its ServiceAccount. */
export async function runPod(onFinished: OnFinished, cluster: TestCluster, { spec }: Pod): Promise<Running> {
  const [{ command, args, env = [] }] = spec.containers;
  const here = (word: string) =>
    word.replace(ADDRESS, '$1=127.0.0.1:0').replace(STREAMS_ADDRESS, `$1=${machineAddress()}:0`);
  if (command.join(' ') !== 'qemu-operator') throw new Error(`the container runs ${command.join(' ')}`);
  const { hostname, port } = new URL(cluster.server);
  const run = Object.entries(process.env).filter(([name]) => name.startsWith('QEMU_OPERATOR_TEST'));
  const own = env.map(({ name, value }) => [name, value]);
  const child = spawn(
    'unshare',
    [
      '--mount',
      ...(process.getuid?.() === 0 ? [] : ['--map-root-user']),
      ...['sh', '-c', MOUNTS, 'sh', await runFolder(cluster, spec)],
      ...[process.execPath, MAIN, ...args.map(here)],
    ],
    {
      cwd: '/',
      env: {
        ...Object.fromEntries([...run, ...own]),
        PATH: process.env['PATH'] ?? '',
        HOME: '/',
        KUBERNETES_SERVICE_HOST: hostname,
        KUBERNETES_SERVICE_PORT: port,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  onFinished(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  return new Running(child, undefined);
}

/** What is to be /run, as the kubelet fills it: the ServiceAccount and the Secrets that are mounted. */
async function runFolder(cluster: TestCluster, { serviceAccountName, containers, volumes = [] }: Pod['spec']) {
  const token = await cluster.kubectl(['create', 'token', serviceAccountName, '-n', NAMESPACE]);
  const root = cluster.path(`run-${serviceAccountName}`);
  const folder = join(root, 'secrets', 'kubernetes.io', 'serviceaccount');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'token'), token.trim());
  writeFileSync(join(folder, 'namespace'), NAMESPACE);
  copyFileSync(cluster.path('ca.crt'), join(folder, 'ca.crt'));
  for (const { name, mountPath } of containers[0].volumeMounts ?? []) {
    const secret = volumes.find((volume) => volume.name === name)?.secret.secretName ?? '';
    const text = await cluster.kubectl(['get', 'secret', secret, '-n', NAMESPACE, '-o', 'json']);
    const { data } = JSON.parse(text) as { data: Record<string, string> };
    const place = join(root, relative('/run', mountPath));
    mkdirSync(place, { recursive: true });
    for (const [file, value] of Object.entries(data)) writeFileSync(join(place, file), Buffer.from(value, 'base64'));
  }
  return root;
}

/** What a controller of Kubernetes does in a whole cluster: the rights of labelled roles become those of view, edit and admin. */
export async function aggregateRoles(cluster: TestCluster): Promise<void> {
  type Role = { readonly rules: object[] | null };
  for (const name of ['view', 'edit', 'admin']) {
    const path = '{range .aggregationRule.clusterRoleSelectors[*]}{.matchLabels}{end}';
    const labels = await cluster.kubectl(['get', 'clusterrole', name, '-o', `jsonpath=${path}`]);
    const selector = Object.entries(JSON.parse(labels) as Record<string, string>).map(
      ([key, value]) => `${key}=${value}`,
    );
    const found = await cluster.kubectl(['get', 'clusterrole', '-l', selector.join(','), '-o', 'json']);
    const rules = (JSON.parse(found) as { items: Role[] }).items.flatMap((role) => role.rules ?? []);
    await cluster.kubectl(['patch', 'clusterrole', name, '--type=merge', '-p', JSON.stringify({ rules })]);
  }
}
