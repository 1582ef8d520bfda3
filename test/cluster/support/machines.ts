/** Hosts and VMs of a cluster as kubectl shows them. */
import type { Condition } from '../../../src/api/conditions.ts';
import type { Host } from '../../../src/api/host.ts';
import type { VirtualMachine } from '../../../src/api/virtual-machine.ts';
import { conditionOf } from '../../e2e/support/rig.ts';
import { until } from '../../e2e/support/wait.ts';
import type { TestCluster } from './test-cluster.ts';

export class Machines {
  readonly #cluster: TestCluster;

  constructor(cluster: TestCluster) {
    this.#cluster = cluster;
  }

  async vm(name: string): Promise<VirtualMachine> {
    return JSON.parse(await this.#cluster.kubectl(['get', 'qvm', name, '-o', 'json'])) as VirtualMachine;
  }

  async host(name: string): Promise<Host> {
    return JSON.parse(await this.#cluster.kubectl(['get', 'qhost', name, '-o', 'json'])) as Host;
  }

  async ready(name: string): Promise<Condition | undefined> {
    return conditionOf(await this.vm(name), 'Ready');
  }

  /** Ready has this reason, and is about the spec as it is. */
  async until(name: string, reason: string): Promise<VirtualMachine> {
    return until(
      `${name} is ${reason}`,
      () => this.vm(name),
      (vm) => conditionOf(vm, 'Ready')?.reason === reason && vm.status?.observedGeneration === vm.metadata.generation,
    );
  }

  /** @returns its pid */
  async running(name: string): Promise<number> {
    await this.#cluster.kubectl(['wait', '--for=condition=Ready', `qvm/${name}`, '--timeout=60s']);
    return (await this.until(name, 'Running')).status?.pid ?? 0;
  }

  edit(name: string, patch: object): Promise<string> {
    return this.#cluster.kubectl(['patch', 'qvm', name, '--type=merge', '-p', JSON.stringify(patch)]);
  }

  /** As if no operator had ever been: its finalizer is taken away by hand. */
  async removeObject(name: string): Promise<void> {
    await this.edit(name, { metadata: { finalizers: null } });
    await this.#cluster.kubectl(['delete', 'qvm', name, '--timeout=20s']);
  }
}
