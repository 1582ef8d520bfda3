/** The chart in a cluster, two operators with its rights, a host behind sshd, and users who have but a token. */
import { spawn } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import type { VirtualMachine } from '../../../src/api/virtual-machine.ts';
import { MAIN, Running } from '../../e2e/support/cli-rig.ts';
import { writeSparseTiny } from '../../e2e/support/images.ts';
import { type OnFinished, testFolder } from '../../e2e/support/rig.ts';
import { freePort } from '../../e2e/support/sockets.ts';
import { Sshd } from '../../e2e/support/sshd.ts';
import { until } from '../../e2e/support/wait.ts';
import { linuxGuest } from '../../guests/linux.ts';
import { aggregateRoles, installCrds, installOperator, NAMESPACE, podTemplate, RELEASE, runPod } from './chart.ts';
import { routeStreams } from './streams.ts';
import { type Ended, TestCluster } from './test-cluster.ts';

export const TEAM = 'team-a';
const HOST = 'rack1';
const API_VERSION = 'qemu-operator.dev/v1alpha1';
const ROLES = [
  ['dev', 'edit'],
  ['reader', 'view'],
  ['stranger', undefined],
] as const;

export class StreamsRig {
  readonly cluster: TestCluster;
  readonly root: string;
  operators: readonly Running[] = [];
  readonly #onFinished: OnFinished;

  private constructor(onFinished: OnFinished, cluster: TestCluster) {
    this.#onFinished = onFinished;
    this.cluster = cluster;
    this.root = testFolder(onFinished);
  }

  static async start(onFinished: OnFinished): Promise<StreamsRig> {
    const cluster = await TestCluster.start(onFinished, { crds: false });
    const rig = new StreamsRig(onFinished, cluster);
    const sshd = await Sshd.start(onFinished, { config: ['MaxStartups 100'] });
    await installCrds(cluster);
    for (const team of [TEAM, 'team-b']) await cluster.kubectl(['create', 'namespace', team]);
    const key = `--from-file=ssh-privatekey=${sshd.identity}`;
    await cluster.kubectl(['create', 'secret', 'generic', 'rack1-login', '-n', NAMESPACE, key]);
    const ssh = { address: '127.0.0.1', port: sshd.port, user: sshd.user };
    const host = {
      existingSecret: 'rack1-login',
      spec: { ssh, vmDir: join(rig.root, 'vms'), allowedPaths: [rig.root] },
    };
    await installOperator(cluster, ['--set-json', `hosts.${HOST}=${JSON.stringify(host)}`]);
    await aggregateRoles(cluster);
    for (const [name, role] of ROLES) await rig.addUser(name, role);
    await rig.route([await rig.startOperator(), await rig.startOperator()]);
    await cluster.kubectl(['wait', '--for=condition=Ready', `qhost/${HOST}`, '--timeout=180s']);
    return rig;
  }

  async startOperator(): Promise<Running> {
    const operator = await runPod(this.#onFinished, this.cluster, await podTemplate(this.cluster));
    await operator.says(/controller started/);
    return operator;
  }

  /** These and no others are behind the API server. */
  async route(operators: readonly Running[]): Promise<void> {
    this.operators = operators;
    await routeStreams(this.cluster, [NAMESPACE, RELEASE], operators);
  }

  /** A ServiceAccount of the team with a bare token. @param role in its namespace */
  async addUser(name: string, role: string | undefined): Promise<void> {
    const words = ['-n', TEAM, `--clusterrole=${role}`, `--serviceaccount=${TEAM}:${name}`];
    await this.cluster.kubectl(['create', 'serviceaccount', name, '-n', TEAM]);
    if (role !== undefined) await this.cluster.kubectl(['create', 'rolebinding', name, ...words]);
    const token = (await this.cluster.kubectl(['create', 'token', name, '-n', TEAM])).trim();
    this.cluster.writeKubeconfig(`${name}.kubeconfig`, { token }, TEAM);
  }

  apply(...objects: readonly object[]): Promise<string> {
    return this.cluster.kubectl(['apply', '-f', '-'], objects.map((one) => JSON.stringify(one)).join('\n---\n'));
  }

  vm(name: string, spec: object, namespace = TEAM) {
    const small = { architecture: 'x86_64', vcpus: 1, memory: '32Mi', networks: [], accelerator: 'TCG' };
    const metadata = { name, namespace };
    return { apiVersion: API_VERSION, kind: 'VirtualMachine', metadata, spec: { hostName: HOST, ...small, ...spec } };
  }

  tiny(name: string): object {
    return { disks: [{ name: 'root', path: writeSparseTiny(join(this.root, `${name}.raw`)), format: 'raw' }] };
  }

  /** With a shell at its console, a screen, and a forward of the spec to its port 8080. */
  async linux(name: string): Promise<object> {
    const path = join(this.root, `${name}.qcow2`);
    copyFileSync(await linuxGuest(), path);
    const hostForwards = [{ hostAddress: '127.0.0.1', hostPort: await freePort(), guestPort: 8080 }];
    const networks = [{ name: 'net0', user: { hostForwards } }];
    return { memory: '160Mi', graphics: { vnc: {} }, disks: [{ name: 'root', path, format: 'qcow2' }], networks };
  }

  async running(...names: readonly string[]): Promise<void> {
    const words = names.map((name) => `qvm/${name}`);
    await this.cluster.kubectl(['wait', '-n', TEAM, '--for=condition=Running', ...words, '--timeout=180s']);
  }

  /** A command of a user, on whose stdin a test may type. */
  start(user: string, ...words: readonly string[]): Running {
    const place = ['--store', 'kubernetes', '--kubeconfig', this.cluster.path(`${user}.kubeconfig`)];
    const run = Object.entries(process.env).filter(([name]) => name.startsWith('QEMU_OPERATOR_TEST'));
    const child = spawn(process.execPath, [MAIN, ...words, ...place], {
      cwd: '/',
      env: { ...Object.fromEntries(run), PATH: process.env['PATH'] ?? '', HOME: this.cluster.folder },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#onFinished(async () => void child.kill('SIGKILL'));
    return new Running(child, undefined);
  }

  async console(user: string, name: string): Promise<Running> {
    const opened = this.start(user, 'console', name);
    await opened.says(/Connected to the console/);
    return opened;
  }

  /** Types at the console of a Linux guest until it has done all. */
  async inGuest(name: string, ...lines: readonly string[]): Promise<void> {
    const opened = await this.console('dev', name);
    type(opened, '\n');
    await opened.says(/linux:~# /);
    for (const line of [...lines, 'echo $((1+1))-done']) type(opened, `${line}\n`);
    await opened.says(/2-done/);
    type(opened, DETACH);
    await opened.ended;
  }

  kubectl(user: string, ...words: readonly string[]): Promise<Ended> {
    return this.cluster.tryKubectl(['--kubeconfig', this.cluster.path(`${user}.kubeconfig`), '-n', TEAM, ...words]);
  }

  /** As kubectl reads it. */
  raw(user: string, stream: string, name = 'web'): Promise<Ended> {
    return this.kubectl(user, 'get', '--raw', pathOf(name, stream));
  }

  async get(name: string, namespace = TEAM): Promise<VirtualMachine> {
    return JSON.parse(
      await this.cluster.kubectl(['get', 'qvm', name, '-n', namespace, '-o', 'json']),
    ) as VirtualMachine;
  }

  async patch(name: string, spec: object): Promise<void> {
    const words = ['--type=merge', '-p', JSON.stringify({ spec })];
    await this.cluster.kubectl(['patch', 'qvm', name, '-n', TEAM, ...words]);
  }
}

export const DETACH = '\u001d';

export function pathOf(name: string, stream: string): string {
  return `/apis/subresources.qemu-operator.dev/v1alpha1/namespaces/${TEAM}/virtualmachines/${name}/${stream}`;
}

export function type(running: Running, words: string): void {
  running.child.stdin?.write(words);
}

/** The port of this machine at which a `port-forward` has a port of the guest. */
export async function forwarded(running: Running, guestPort: number): Promise<number> {
  const line = new RegExp(`Forwarding from 127\\.0\\.0\\.1:(\\d+) -> ${guestPort}\\n`);
  const heard = await until(
    'it forwards',
    () => running,
    ({ stdout, stderr }) => line.test(stdout) || stderr.startsWith('error'),
  );
  if (!line.test(heard.stdout)) throw new Error(heard.stderr);
  return Number(line.exec(heard.stdout)?.[1]);
}
