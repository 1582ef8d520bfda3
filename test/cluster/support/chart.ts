/** The product's charts on a test cluster, and what the operator's pod is told there. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MAIN, Running } from '../../e2e/support/cli-rig.ts';
import type { OnFinished } from '../../e2e/support/rig.ts';
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
}

export interface Pod {
  readonly spec: { readonly serviceAccountName: string; readonly containers: readonly [Container] };
}

/** The template of the Deployment as the API server has it. */
export async function podTemplate(cluster: TestCluster): Promise<Pod> {
  const text = await cluster.kubectl(['get', 'deployment', RELEASE, '-n', NAMESPACE, '-o', 'json']);
  return (JSON.parse(text) as { spec: { template: Pod } }).spec.template;
}

/** Ports of a pod are its own; those of this machine are not: free ones of the loopback instead. */
const ADDRESS = /^(--(?:metrics|health-probe|mcp)-bind-address)=:\d+$/;

/** A root file system that cannot be written, and what the kubelet mounts for a ServiceAccount; nobody else sees them. */
const MOUNTS = `set -e
mount -t tmpfs -o mode=755 none /run
mkdir -p /run/secrets/kubernetes.io
cp -r "$1" /run/secrets/kubernetes.io/serviceaccount
mount -o remount,bind,ro /
shift
exec "$@"`;

/** The one container of a pod as a process of this machine: its words and mounts, and a token of its ServiceAccount. */
export async function runPod(onFinished: OnFinished, cluster: TestCluster, { spec }: Pod): Promise<Running> {
  const [{ command, args, env = [] }] = spec.containers;
  if (command.join(' ') !== 'qemu-operator') throw new Error(`the container runs ${command.join(' ')}`);
  const { hostname, port } = new URL(cluster.server);
  const run = Object.entries(process.env).filter(([name]) => name.startsWith('QEMU_OPERATOR_TEST'));
  const own = env.map(({ name, value }) => [name, value]);
  const child = spawn(
    'unshare',
    [
      '--mount',
      ...(process.getuid?.() === 0 ? [] : ['--map-root-user']),
      ...['sh', '-c', MOUNTS, 'sh', await serviceAccountFolder(cluster, spec.serviceAccountName)],
      ...[process.execPath, MAIN, ...args.map((word) => word.replace(ADDRESS, '$1=127.0.0.1:0'))],
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

/** As the kubelet fills it. */
async function serviceAccountFolder(cluster: TestCluster, name: string): Promise<string> {
  const token = await cluster.kubectl(['create', 'token', name, '-n', NAMESPACE]);
  const folder = cluster.path(`serviceaccount-${name}`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'token'), token.trim());
  writeFileSync(join(folder, 'namespace'), NAMESPACE);
  copyFileSync(cluster.path('ca.crt'), join(folder, 'ca.crt'));
  return folder;
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
