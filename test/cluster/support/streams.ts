/** The way of an API server to the streams of operators that are processes of this machine. */
import { networkInterfaces } from 'node:os';
import type { Running } from '../../e2e/support/cli-rig.ts';
import { logOf } from '../../e2e/support/doors.ts';
import { until } from '../../e2e/support/wait.ts';
import type { TestCluster } from './test-cluster.ts';

/** By which this machine is reached, and none of its loopback: an API server takes no other for an endpoint. */
export function machineAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((list = []) => list);
  const found = all.find(({ family, internal }) => family === 'IPv4' && !internal);
  if (found === undefined) throw new Error('this machine has no IPv4 address but those of its loopback');
  return found.address;
}

export async function streamsAddress(operator: Running): Promise<{ readonly host: string; readonly port: number }> {
  await operator.says(/streams-bind-address.*"msg":"serving"/);
  const said = String(logOf(operator).find(({ flag }) => flag === '--streams-bind-address')?.['address']);
  return { host: said.slice(0, said.lastIndexOf(':')), port: Number(said.slice(said.lastIndexOf(':') + 1)) };
}

/**
 * What controllers of Kubernetes do for a Service whose pods are ready: these operators are its endpoints and no others.
 * @param service namespace and name
 */
export async function routeStreams(
  cluster: TestCluster,
  service: readonly [namespace: string, name: string],
  operators: readonly Running[],
): Promise<void> {
  const [namespace, name] = service;
  const labels = { 'kubernetes.io/service-name': name, test: 'streams' };
  await cluster.kubectl(['delete', 'endpointslice', '-n', namespace, '-l', 'test=streams']);
  for (const [index, operator] of operators.entries()) {
    const { host, port } = await streamsAddress(operator);
    const slice = {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { namespace, name: `${name}-${index}-${port}`, labels },
      addressType: 'IPv4',
      endpoints: [{ addresses: [host], conditions: { ready: true } }],
      ports: [{ name: 'streams', port, protocol: 'TCP' }],
    };
    await cluster.kubectl(['apply', '-f', '-'], JSON.stringify(slice));
  }
  const apiService = ['get', 'apiservice', 'v1alpha1.subresources.qemu-operator.dev', '-o', 'json'];
  const isAvailable = async () => {
    const { status } = JSON.parse(await cluster.kubectl(apiService)) as {
      status?: { conditions?: { type: string; status: string; message: string }[] };
    };
    return status?.conditions?.find(({ type }) => type === 'Available');
  };
  await until('the streams are available', isAvailable, (condition) => condition?.status === 'True', 60_000);
}
