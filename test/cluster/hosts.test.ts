/** Hosts of a cluster: what the operator needs is in its own namespace, and nothing of its machine serves instead. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { findCondition } from '../../src/api/conditions.ts';
import type { Host } from '../../src/api/host.ts';
import { testFolder } from '../e2e/support/rig.ts';
import { Sshd } from '../e2e/support/sshd.ts';
import { until } from '../e2e/support/wait.ts';
import { clusterForFile } from './support/api.ts';
import { startOperator } from './support/operator.ts';

let root: string;
let sshd: Sshd;
const file = clusterForFile(async (cluster, onFinished) => {
  root = testFolder(onFinished);
  sshd = await Sshd.start(onFinished, { config: [`SetEnv HOME=${root}`] });
  await cluster.kubectl(['create', 'namespace', 'machines']);
  await startOperator(onFinished, cluster, ['--operator-namespace', 'machines']);
});

async function apply(name: string, spec: object): Promise<void> {
  const document = { apiVersion: 'qemu-operator.dev/v1alpha1', kind: 'Host', metadata: { name }, spec };
  await file.cluster.kubectl(
    ['apply', '-f', '-'],
    JSON.stringify({ ...document, spec: { vmDir: join(root, name), ...spec } }),
  );
}

const ssh = (more: object = {}) => ({
  ssh: { address: '127.0.0.1', port: sshd.port, user: sshd.user, hostKeys: [sshd.hostKey()], ...more },
});

function untilReady(name: string, reason: string) {
  return until(
    `${name} is ${reason}`,
    async () => {
      const { status } = JSON.parse(await file.cluster.kubectl(['get', 'qhost', name, '-o', 'json'])) as Host;
      return findCondition(status?.conditions, 'Ready');
    },
    (ready) => ready?.reason === reason,
  );
}

const secret = (name: string, namespace: string, ...from: readonly string[]) =>
  file.cluster.kubectl(['create', 'secret', 'generic', name, '-n', namespace, ...from]);

test('the machine of the operator is none of its Hosts', async () => {
  await apply('local', { local: {} });
  expect((await untilReady('local', 'LocalNotAllowed'))?.message).toContain('--allow-local-host');
});

test('neither keys, nor files, nor the name of whoever runs the operator serve', async () => {
  await apply('keyless', ssh());
  expect((await untilReady('keyless', 'CredentialsInvalid'))?.message).toContain('credentialsSecretRef is absent');
  await secret('path', 'machines', `--from-literal=ssh-privatekey-path=${sshd.identity}`);
  await apply('by-path', ssh({ credentialsSecretRef: { name: 'path' } }));
  expect((await untilReady('by-path', 'CredentialsInvalid'))?.message).toContain(
    'put the key itself in ssh-privatekey',
  );
  await apply('nameless', ssh({ credentialsSecretRef: { name: 'path' }, user: undefined }));
  expect((await untilReady('nameless', 'CredentialsInvalid'))?.message).toContain('spec.ssh.user is absent');
});

test('credentials count from the moment that their Secret is there, and in the namespace of the operator alone', async () => {
  await secret('rack', 'default', `--from-file=ssh-privatekey=${sshd.identity}`);
  await apply('rack', ssh({ credentialsSecretRef: { name: 'rack' } }));
  expect((await untilReady('rack', 'CredentialsInvalid'))?.message).toContain('namespace machines');
  await secret('rack', 'machines', `--from-file=ssh-privatekey=${sshd.identity}`);
  await untilReady('rack', 'Ready');
});
