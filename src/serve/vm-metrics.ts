/** Figures of VMs: their status, and with it the last sample, which is as old as the Host's interval. */
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Sample } from '../api/virtual-machine-monitor.ts';
import type { Figure, Metric } from './exposition.ts';
import { bytesOf, conditionFigure, type ObjectMetric, scaled, secondsOf } from './object-metric.ts';

type VmMetric = ObjectMetric<VirtualMachine>;
type Disk = NonNullable<Sample['disks']>[number];
type Network = NonNullable<Sample['networks']>[number];

const WHOSE = ['namespace', 'name'] as const;
const MICROS = 1_000_000;

const named = (name: string) => `qemu_operator_vm_${name}`;

const gauge = (name: string, help: string, of: (vm: VirtualMachine) => number | undefined): VmMetric => ({
  name: named(name),
  type: 'gauge',
  help,
  labels: WHOSE,
  of: (vm) => [[[], of(vm)]],
});

const counter = (...row: Parameters<typeof gauge>): VmMetric => ({ ...gauge(...row), type: 'counter' });

const conditionOf = (name: string, type: string, means: string): VmMetric =>
  gauge(name, `${means} (condition ${type}): 1, else 0, also where it cannot be seen.`, ({ status }) =>
    conditionFigure(status?.conditions, type),
  );

const sampled = (name: string, help: string, of: (sample: Sample) => number | undefined): VmMetric =>
  gauge(name, help, ({ status }) => (status?.metrics === undefined ? undefined : of(status.metrics)));

/** A name that a sample has twice would make the whole scrape invalid. */
function once<T extends { readonly name: string }>(items: readonly T[] | undefined): Iterable<T> {
  return new Map((items ?? []).toReversed().map((item) => [item.name, item])).values();
}

const ofDisks = (
  type: Metric['type'],
  name: string,
  help: string,
  of: (disk: Disk) => number | undefined,
): VmMetric => ({
  name: named(`disk_${name}`),
  type,
  help,
  labels: [...WHOSE, 'disk'],
  of: (vm) => figuresOf(vm.status?.metrics?.disks, of),
});

const ofNetworks = (
  type: Metric['type'],
  name: string,
  help: string,
  of: (network: Network) => number | undefined,
): VmMetric => ({
  name: named(`network_${name}`),
  type,
  help,
  labels: [...WHOSE, 'network'],
  of: (vm) => figuresOf(vm.status?.metrics?.networks, of),
});

function* figuresOf<T extends { readonly name: string }>(
  items: readonly T[] | undefined,
  of: (item: T) => number | undefined,
): Iterable<Figure> {
  for (const item of once(items)) yield [[item.name], of(item)];
}

const STATE: readonly VmMetric[] = [
  {
    name: named('info'),
    type: 'gauge',
    help: 'Always 1: what the VM is, for joins by namespace and name.',
    labels: [...WHOSE, 'host', 'architecture', 'accelerator', 'qemu_version'],
    of: ({ spec, status }) => [[[spec.hostName, spec.architecture, status?.accelerator, status?.qemuVersion], 1]],
  },
  {
    name: named('phase'),
    type: 'gauge',
    help: 'Always 1, with the phase that status.phase shows now; other phases have no series.',
    labels: [...WHOSE, 'phase'],
    of: ({ status }) => [[[status?.phase], status?.phase === undefined ? undefined : 1]],
  },
  conditionOf('ready', 'Ready', 'Whether the VM is as its spec wants'),
  conditionOf('running', 'Running', 'Whether the guest runs'),
  conditionOf('stalled', 'Stalled', 'Whether only a person or a new spec helps'),
  conditionOf('restart_required', 'RestartRequired', 'Whether changes wait for the next start'),
  counter('restarts_total', 'How often restartPolicy started the VM again.', ({ status }) =>
    status === undefined ? undefined : (status.restarts ?? 0),
  ),
  gauge('start_time_seconds', 'When the QEMU process started, Unix time.', ({ status }) =>
    secondsOf(status?.startedAt),
  ),
  gauge('vcpus', 'vCPUs of the running process.', ({ status }) => status?.vcpus),
  gauge('memory_bytes', 'Memory of the running process, as the guest was given it.', ({ status }) =>
    bytesOf(status?.memory),
  ),
];

const SAMPLE: readonly VmMetric[] = [
  sampled('sample_time_seconds', "When the last sample was taken, Unix time by the host's clock.", ({ at }) =>
    secondsOf(at),
  ),
  sampled('cpu_usage_cores', 'CPUs of the host that the QEMU process used over the sample.', ({ cpu }) =>
    scaled(cpu?.usageMilliCores, 1000),
  ),
  sampled('cpu_usage_ratio', "Use of the VM's vCPUs over the sample, 0 to 1.", ({ cpu }) => scaled(cpu?.percent, 100)),
  sampled(
    'memory_resident_bytes',
    'What the QEMU process occupies on the host.',
    ({ memory }) => memory?.residentBytes,
  ),
  sampled('memory_guest_used_bytes', 'Memory in use, as the guest says.', ({ memory }) => memory?.guestUsedBytes),
  sampled(
    'memory_guest_available_bytes',
    'Memory to be had, as the guest says.',
    ({ memory }) => memory?.guestAvailableBytes,
  ),
  ofDisks('counter', 'read_bytes_total', 'Read since the QEMU process started.', (disk) => disk.readBytes),
  ofDisks('counter', 'written_bytes_total', 'Written since the QEMU process started.', (disk) => disk.writeBytes),
  ofDisks('gauge', 'reads_per_second', 'Read operations over the sample.', (disk) => disk.readOpsPerSecond),
  ofDisks('gauge', 'writes_per_second', 'Write operations over the sample.', (disk) => disk.writeOpsPerSecond),
  ofDisks('gauge', 'read_latency_seconds', 'Mean time of a read over the sample.', (disk) =>
    scaled(disk.readLatencyMicros, MICROS),
  ),
  ofDisks('gauge', 'write_latency_seconds', 'Mean time of a write over the sample.', (disk) =>
    scaled(disk.writeLatencyMicros, MICROS),
  ),
  ofDisks('gauge', 'actual_bytes', 'Space that the file occupies on the host.', (disk) => disk.actualBytes),
  ofNetworks(
    'counter',
    'receive_bytes_total',
    'Received by the guest since its interface came up.',
    (one) => one.receiveBytes,
  ),
  ofNetworks(
    'counter',
    'transmit_bytes_total',
    'Sent by the guest since its interface came up.',
    (one) => one.transmitBytes,
  ),
  ofNetworks(
    'gauge',
    'receive_packets_per_second',
    'Packets that the guest received over the sample.',
    (one) => one.receivePacketsPerSecond,
  ),
  ofNetworks(
    'gauge',
    'transmit_packets_per_second',
    'Packets that the guest sent over the sample.',
    (one) => one.transmitPacketsPerSecond,
  ),
];

export const VM_METRICS: readonly VmMetric[] = [...STATE, ...SAMPLE];
