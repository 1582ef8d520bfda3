/** Figures of Hosts, from their status: those that move ride with the next change of it, at least every 5 minutes. */
import type { Host } from '../api/host.ts';
import { bytesOf, conditionFigure, type ObjectMetric, scaled } from './object-metric.ts';

type HostMetric = ObjectMetric<Host>;

const WHOSE = ['host'] as const;

const named = (name: string) => `qemu_operator_host_${name}`;

const gauge = (name: string, help: string, of: (host: Host) => number | undefined): HostMetric => ({
  name: named(name),
  type: 'gauge',
  help,
  labels: WHOSE,
  of: (host) => [[[], of(host)]],
});

export const HOST_METRICS: readonly HostMetric[] = [
  {
    name: named('info'),
    type: 'gauge',
    help: 'Always 1: what the machine is, for joins by host.',
    labels: [...WHOSE, 'architecture', 'os', 'kernel'],
    of: ({ status }) => [[[status?.info?.architecture, status?.info?.os, status?.info?.kernel], 1]],
  },
  gauge('ready', 'Whether VMs can run there (condition Ready): 1, else 0.', ({ status }) =>
    conditionFigure(status?.conditions, 'Ready'),
  ),
  gauge('reachable', 'Whether the last look reached it (condition Reachable): 1, else 0.', ({ status }) =>
    conditionFigure(status?.conditions, 'Reachable'),
  ),
  {
    name: named('vms'),
    type: 'gauge',
    help: 'VMs on the host: running and stopped ones of ours, and strangers: QEMU processes that are not ours.',
    labels: [...WHOSE, 'state'],
    of: ({ status }) => {
      const { managed, running, strangers } = status?.vms ?? {};
      if (managed === undefined || running === undefined) return [];
      return [
        [['running'], running],
        [['stopped'], managed - running],
        [['stranger'], strangers],
      ];
    },
  },
  gauge('round_trip_seconds', 'Time of one look at the host, rounded.', ({ status }) =>
    scaled(status?.roundTripMs, 1000),
  ),
  gauge('cpus', 'CPUs that are online.', ({ status }) => status?.info?.cpus),
  gauge('memory_bytes', 'Memory of the machine.', ({ status }) => bytesOf(status?.info?.memory)),
  gauge('allocated_vcpus', 'vCPUs of the running VMs together.', ({ status }) => status?.allocated?.vcpus),
  gauge('allocated_memory_bytes', 'Memory of the running VMs together.', ({ status }) =>
    bytesOf(status?.allocated?.memory),
  ),
  gauge('free_bytes', 'Free on the file system of vmDir, rounded.', ({ status }) => status?.info?.vmDir?.freeBytes),
  gauge('size_bytes', 'Size of the file system of vmDir.', ({ status }) => status?.info?.vmDir?.totalBytes),
];
