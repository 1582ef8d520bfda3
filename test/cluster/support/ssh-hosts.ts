/** Hosts of a cluster behind a real sshd of this machine. */
import { API_VERSION } from '../../../src/api/meta.ts';
import type { OnFinished } from '../../e2e/support/rig.ts';
import { Sshd } from '../../e2e/support/sshd.ts';
import type { TestCluster } from './test-cluster.ts';

const SECRET = 'key';

/**
 * Starts sshd, and keeps its key in a Secret of the operator's namespace.
 * @param path the PATH of scripts there
 * @returns what makes Hosts of it
 */
export async function sshHosts(onFinished: OnFinished, cluster: TestCluster, root: string, path?: string) {
  const environment = path === undefined ? '' : ` PATH=${path}`;
  const sshd = await Sshd.start(onFinished, { config: ['MaxStartups 100', `SetEnv HOME=${root}${environment}`] });
  await cluster.kubectl(['create', 'secret', 'generic', SECRET, `--from-file=ssh-privatekey=${sshd.identity}`]);
  return (name: string, vmDir: string) => ({
    apiVersion: API_VERSION,
    kind: 'Host',
    metadata: { name },
    spec: {
      ssh: {
        ...{ address: '127.0.0.1', port: sshd.port, user: sshd.user },
        ...{ credentialsSecretRef: { name: SECRET }, hostKeys: [sshd.hostKey()] },
      },
      vmDir,
      allowedPaths: [root],
    },
  });
}

/** A small VM on a Host, off the network. */
export const smallVm = (name: string, hostName: string, spec: object) => ({
  apiVersion: API_VERSION,
  kind: 'VirtualMachine',
  metadata: { name },
  spec: { hostName, architecture: 'x86_64', vcpus: 1, memory: '32Mi', networks: [], ...spec },
});
