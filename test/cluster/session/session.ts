/** What `npm run cluster` starts, once all is there that it needs. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MAIN } from '../../e2e/support/cli-rig.ts';
import { testFolder } from '../../e2e/support/rig.ts';
import { Sshd } from '../../e2e/support/sshd.ts';
import { linuxGuest } from '../../guests/linux.ts';
import { clusterBinaries } from '../binaries.mjs';
import {
  aggregateRoles,
  installCrds,
  installOperator,
  NAMESPACE,
  podTemplate,
  RELEASE,
  runPod,
} from '../support/chart.ts';
import { routeStreams } from '../support/streams.ts';
import { TestCluster } from '../support/test-cluster.ts';

const HOST = 'rack1';

const ends: (() => unknown)[] = [];
const onFinished = (end: () => unknown) => void ends.push(end);
const say = (line: string) => console.error(`==> ${line}`);

/** The manifest of the README, where its disk really lies. */
function writeManifest(folder: string, path: string): void {
  const text = `apiVersion: qemu-operator.dev/v1alpha1
kind: VirtualMachine
metadata:
  name: web-1
spec:
  hostName: ${HOST}
  architecture: x86_64
  vcpus: 1
  memory: 256Mi
  disks:
    - name: root
      path: ${path}
`;
  writeFileSync(join(folder, 'web-1.yaml'), text);
}

/** @returns where its manifests lie */
async function start(cluster: TestCluster): Promise<string> {
  const root = testFolder(onFinished);
  const disk = join(root, 'linux.qcow2');
  copyFileSync(await linuxGuest(), disk);
  writeManifest(root, disk);
  say('sshd, which makes this machine a host');
  const sshd = await Sshd.start(onFinished);
  say('helm install: the kinds, then the operator with the Host');
  await installCrds(cluster);
  const key = `--from-file=ssh-privatekey=${sshd.identity}`;
  await cluster.kubectl(['create', 'secret', 'generic', HOST, '-n', NAMESPACE, key]);
  const ssh = { address: sshd.address, port: sshd.port, user: sshd.user, hostKeys: [sshd.hostKey()] };
  const spec = { ssh, vmDir: join(root, 'vms'), allowedPaths: [root], metricsIntervalSeconds: 5 };
  const host = { existingSecret: HOST, spec };
  await installOperator(cluster, ['--set-json', `hosts.${HOST}=${JSON.stringify(host)}`]);
  await aggregateRoles(cluster);
  say("the operator, by its Deployment's own words and with its own rights");
  const operator = await runPod(onFinished, cluster, await podTemplate(cluster));
  await routeStreams(cluster, [NAMESPACE, RELEASE], [operator]);
  await cluster.kubectl(['wait', '--for=condition=Ready', `qhost/${HOST}`, '--timeout=120s']);
  return root;
}

/** kubectl, helm and qemu-operator by their names. */
function commandsIn(folder: string): string {
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  writeFileSync(join(bin, 'qemu-operator'), `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`);
  chmodSync(join(bin, 'qemu-operator'), 0o755);
  return `${bin}:${clusterBinaries()}:${process.env['PATH']}`;
}

async function hold(words: readonly string[], cluster: TestCluster, cwd: string): Promise<number> {
  const [command = process.env['SHELL'] ?? 'sh', ...rest] = words;
  if (words.length === 0) say('a shell with kubectl, helm and qemu-operator for it; exit takes all away');
  const env = {
    ...process.env,
    PATH: commandsIn(cwd),
    KUBECONFIG: cluster.kubeconfig,
    QEMU_OPERATOR_STORE: 'kubernetes',
  };
  const child = spawn(command, rest, { cwd, env, stdio: 'inherit' });
  process.on('SIGINT', () => undefined);
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  const [code] = (await once(child, 'exit')) as [number | null];
  return code ?? 1;
}

try {
  say('kube-apiserver and etcd');
  const cluster = await TestCluster.start(onFinished, { crds: false });
  process.exitCode = await hold(process.argv.slice(2), cluster, await start(cluster));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
} finally {
  for (const end of ends.reverse()) await end();
}
