/** The figures of all objects, as the store has them now. Hosts are not asked. */
import { setImmediate as othersFirst } from 'node:timers/promises';
import type { Host } from '../api/host.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Store } from '../store/store.ts';
import { type Figure, familyOf } from './exposition.ts';
import { HOST_METRICS } from './host-metrics.ts';
import type { ObjectMetric } from './object-metric.ts';
import { VM_METRICS } from './vm-metrics.ts';

/** One family at a time, and the loop goes on in between: of thousands of VMs there are megabytes. */
export async function* objectFigures(store: Pick<Store, 'list'>): AsyncGenerator<string> {
  const hosts = (await store.list('Host')).items;
  const vms = (await store.list('VirtualMachine')).items;
  yield* families(HOST_METRICS, hosts, hostLabels);
  yield* families(VM_METRICS, vms, vmLabels);
}

const hostLabels = ({ metadata }: Host) => [metadata.name];
const vmLabels = ({ metadata }: VirtualMachine) => [metadata.namespace, metadata.name];

async function* families<T>(
  metrics: readonly ObjectMetric<T>[],
  objects: readonly T[],
  labelsOf: (object: T) => readonly string[],
): AsyncGenerator<string> {
  for (const metric of metrics) {
    yield familyOf(metric, figuresOf(metric, objects, labelsOf));
    await othersFirst();
  }
}

function* figuresOf<T>(
  { of }: ObjectMetric<T>,
  objects: readonly T[],
  labelsOf: (object: T) => readonly string[],
): Iterable<Figure> {
  for (const object of objects)
    for (const [labels, value] of of(object)) yield [[...labelsOf(object), ...labels], value];
}
