/** A cluster with the charts, two Hosts behind SSH, and people of a team who have nothing but Kubernetes' own roles there. */

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { type Ended, MAIN, Running } from '../../e2e/support/cli-rig.ts';
import type { OnFinished } from '../../e2e/support/rig.ts';
import { Sshd } from '../../e2e/support/sshd.ts';
import { aggregateRoles, installCrds, installOperator, NAMESPACE, podTemplate, runPod } from './chart.ts';
import type { TestCluster } from './test-cluster.ts';

export const TEAM = 'team-a';
export const HOSTS = ['rack1', 'rack2'] as const;
const SECRET = 'racks';

/** @param cluster without CRDs: the chart brings them. @returns the one sshd of both Hosts */
export async function startTeam(onFinished: OnFinished, cluster: TestCluster, root: string): Promise<Sshd> {
  const sshd = await Sshd.start(onFinished, { config: ['MaxStartups 100', `SetEnv HOME=${root}`] });
  await installCrds(cluster);
  await cluster.kubectl(['create', 'namespace', TEAM]);
  const key = `--from-file=ssh-privatekey=${sshd.identity}`;
  await cluster.kubectl(['create', 'secret', 'generic', SECRET, '-n', NAMESPACE, key]);
  const hosts = HOSTS.map((name) => {
    const ssh = { address: '127.0.0.1', port: sshd.port, user: sshd.user };
    return [name, { existingSecret: SECRET, spec: { ssh, vmDir: join(root, name), allowedPaths: [root] } }] as const;
  });
  await installOperator(cluster, ['--set-json', `hosts=${JSON.stringify(Object.fromEntries(hosts))}`]);
  await aggregateRoles(cluster);
  await runPod(onFinished, cluster, await podTemplate(cluster));
  await cluster.kubectl(['wait', '--for=condition=Ready', ...HOSTS.map((name) => `qhost/${name}`), '--timeout=90s']);
  return sshd;
}

/** @param role of Kubernetes, in the team's namespace. @param seesHosts whether Hosts are open to them as well. @returns a kubeconfig */
export async function member(cluster: TestCluster, name: string, role: string, seesHosts: boolean): Promise<string> {
  const account = `${TEAM}:${name}`;
  await cluster.kubectl(['create', 'serviceaccount', name, '-n', TEAM]);
  const binding = ['create', 'rolebinding', name, `--clusterrole=${role}`, `--serviceaccount=${account}`, '-n', TEAM];
  await cluster.kubectl(binding);
  if (seesHosts) {
    const view = ['--clusterrole=qemu-operator-hosts-view', `--serviceaccount=${account}`];
    await cluster.kubectl(['create', 'clusterrolebinding', name, ...view]);
  }
  const token = (await cluster.kubectl(['create', 'token', name, '-n', TEAM])).trim();
  return cluster.writeKubeconfig(`${name}.kubeconfig`, { token }, TEAM);
}

/** What a person at the command line has of a cluster. */
export function personEnv(cluster: TestCluster, kubeconfig: string): Record<string, string> {
  return {
    PATH: process.env['PATH'] ?? '',
    HOME: cluster.folder,
    KUBECONFIG: kubeconfig,
    QEMU_OPERATOR_STORE: 'kubernetes',
  };
}

/** The command of a person. */
export function cli(
  cluster: TestCluster,
  kubeconfig: string,
  words: readonly string[],
  input?: string,
  env: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, ...words], {
    cwd: cluster.folder,
    env: { ...personEnv(cluster, kubeconfig), ...env },
    stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  });
  return new Running(child, input).ended;
}
