/**
 * What QEMU itself says of a running VM, read over its monitor with all commands in flight at once.
 * Naming convention of cmdline.ts: block node `disk-NAME` on device `dev-disk-NAME`, network device `nic-NAME`,
 * balloon `balloon0`. Sources: qapi/block-core.json, qapi/machine.json, qapi/virtio.json, docs/virtio-balloon-stats.
 */
import { performance } from 'node:perf_hooks';
import { z } from 'zod';
import type { LaunchSpec } from '../api/effective-spec.ts';
import { type QmpClient, QmpError } from './qmp.ts';

/** Why QEMU's answer lacks a figure; see UnavailableReason. */
export type QueryFailure = 'MonitorUnresponsive' | 'QEMUTooOld' | 'NotAttached';

export type Answer<T> =
  | { readonly kind: 'answered'; readonly value: T }
  | { readonly kind: 'failed'; readonly reason: QueryFailure };

export interface DiskCounters {
  readonly readBytes: number;
  readonly writeBytes: number;
  readonly readOps: number;
  readonly writeOps: number;
  readonly readNanos: number;
  readonly writeNanos: number;
}

/** One virtqueue pair: each used element is one packet, counted modulo 65,536. */
export interface PacketCounters {
  /** Our monotonic clock, ms. */
  readonly atMs: number;
  readonly received: number;
  readonly transmitted: number;
  /** False until the guest's driver has set the queues up. */
  readonly driverReady: boolean;
}

export interface GuestMemory {
  /** The host's clock, seconds since the epoch; 0 = the guest has never answered. */
  readonly updatedAtSeconds: number;
  /** Bytes; absent where the guest does not report the figure. */
  readonly total?: number;
  readonly available?: number;
}

export interface MonitorReading {
  /** Our monotonic clock, ms: QMP answers carry no time, and only differences are used. */
  readonly atMs: number;
  /** By vCPU index, its host thread. */
  readonly vcpuThreads: Answer<ReadonlyMap<number, number>>;
  /** By disk name. */
  readonly disks: Answer<ReadonlyMap<string, DiskCounters>>;
  readonly diskActualBytes: Answer<ReadonlyMap<string, number>>;
  readonly allocatedBytes: Answer<number>;
  readonly guestMemory: Answer<GuestMemory>;
  /** By network name. */
  readonly packets: ReadonlyMap<string, Answer<PacketCounters>>;
}

/** How often the guest's balloon driver reports. */
export const GUEST_POLLING_SECONDS = 5;
const BALLOON = '/machine/peripheral/balloon0';
/** QEMU's "unknown" is 2^64-1; JSON.parse rounds it, so everything from 2^63 on is none. */
const UNKNOWN_FROM = 2 ** 63;

const count = z.number().min(0);
const vcpusAnswer = z.array(z.object({ 'cpu-index': count, 'thread-id': count }));
const blockStatsAnswer = z.array(
  z.object({
    qdev: z.string().optional(),
    'node-name': z.string().optional(),
    stats: z.object({
      rd_bytes: count,
      wr_bytes: count,
      rd_operations: count,
      wr_operations: count,
      rd_total_time_ns: count,
      wr_total_time_ns: count,
    }),
  }),
);
const blockNodesAnswer = z.array(
  z.object({ 'node-name': z.string().optional(), image: z.object({ 'actual-size': count.optional() }).optional() }),
);
const balloonAnswer = z.object({ actual: count });
const guestStatsAnswer = z.object({
  'last-update': count,
  stats: z.object({ 'stat-total-memory': count.optional(), 'stat-available-memory': count.optional() }),
});
const queueAnswer = z.object({ 'used-idx': count, 'vring-used': count });

/** Asks the guest to report its memory from now on; it answers within milliseconds the first time. */
export async function startGuestPolling(client: QmpClient): Promise<void> {
  const args = { path: BALLOON, property: 'guest-stats-polling-interval', value: GUEST_POLLING_SECONDS };
  await ask(client, 'qom-set', args, z.unknown());
}

/** Never rejects: each figure carries its own failure. */
export async function readMonitor(client: QmpClient, spec: LaunchSpec): Promise<MonitorReading> {
  const [vcpus, blockStats, blockNodes, balloon, guestStats, packets] = await Promise.all([
    ask(client, 'query-cpus-fast', undefined, vcpusAnswer),
    ask(client, 'query-blockstats', undefined, blockStatsAnswer),
    ask(client, 'query-named-block-nodes', { flat: true }, blockNodesAnswer),
    ask(client, 'query-balloon', undefined, balloonAnswer),
    ask(client, 'qom-get', { path: BALLOON, property: 'guest-stats' }, guestStatsAnswer),
    readPackets(client, spec),
  ]);
  return {
    atMs: performance.now(),
    vcpuThreads: map(vcpus, (list) => new Map(list.map((cpu) => [cpu['cpu-index'], cpu['thread-id']]))),
    disks: map(blockStats, diskCounters),
    diskActualBytes: map(blockNodes, actualBytes),
    allocatedBytes: map(balloon, ({ actual }) => actual),
    guestMemory: map(guestStats, guestMemory),
    packets,
  };
}

/** Queue 0 of a virtio network device carries to the guest, queue 1 from it. */
export async function readPackets(
  client: QmpClient,
  { networks }: Pick<LaunchSpec, 'networks'>,
): Promise<Map<string, Answer<PacketCounters>>> {
  const read = async (name: string): Promise<[string, Answer<PacketCounters>]> => {
    const path = `/machine/peripheral/nic-${name}/virtio-backend`;
    const [receive, transmit] = await Promise.all(
      [0, 1].map((queue) => ask(client, 'x-query-virtio-queue-status', { path, queue }, queueAnswer)),
    );
    return [name, packetCounters(receive, transmit)];
  };
  return new Map(await Promise.all(networks.map(({ name }) => read(name))));
}

type Queue = Answer<z.infer<typeof queueAnswer>> | undefined;

function packetCounters(receive: Queue, transmit: Queue): Answer<PacketCounters> {
  if (receive?.kind !== 'answered') return receive ?? { kind: 'failed', reason: 'NotAttached' };
  if (transmit?.kind !== 'answered') return transmit ?? { kind: 'failed', reason: 'NotAttached' };
  return {
    kind: 'answered',
    value: {
      atMs: performance.now(),
      received: receive.value['used-idx'],
      transmitted: transmit.value['used-idx'],
      driverReady: receive.value['vring-used'] > 0 && transmit.value['vring-used'] > 0,
    },
  };
}

function diskCounters(list: z.infer<typeof blockStatsAnswer>): Map<string, DiskCounters> {
  const disks = new Map<string, DiskCounters>();
  for (const { qdev, 'node-name': node, stats } of list) {
    // The device's name holds while a job puts a node of its own on top of the disk's.
    const name = /^\/machine\/peripheral\/dev-disk-([^/]+)/.exec(qdev ?? '')?.[1] ?? diskOfNode(node);
    if (name === undefined) continue;
    disks.set(name, {
      readBytes: stats.rd_bytes,
      writeBytes: stats.wr_bytes,
      readOps: stats.rd_operations,
      writeOps: stats.wr_operations,
      readNanos: stats.rd_total_time_ns,
      writeNanos: stats.wr_total_time_ns,
    });
  }
  return disks;
}

function actualBytes(nodes: z.infer<typeof blockNodesAnswer>): Map<string, number> {
  const sizes = new Map<string, number>();
  for (const { 'node-name': node, image } of nodes) {
    const [name, size] = [diskOfNode(node), image?.['actual-size']];
    if (name !== undefined && size !== undefined) sizes.set(name, size);
  }
  return sizes;
}

function diskOfNode(node: string | undefined): string | undefined {
  return node?.startsWith('disk-') ? node.slice('disk-'.length) : undefined;
}

function guestMemory({ stats, 'last-update': updatedAtSeconds }: z.infer<typeof guestStatsAnswer>): GuestMemory {
  const known = (value: number | undefined) => (value !== undefined && value < UNKNOWN_FROM ? value : undefined);
  const [total, available] = [known(stats['stat-total-memory']), known(stats['stat-available-memory'])];
  return {
    updatedAtSeconds,
    ...(total === undefined ? {} : { total }),
    ...(available === undefined ? {} : { available }),
  };
}

function map<A, B>(answer: Answer<A>, change: (value: A) => B): Answer<B> {
  return answer.kind === 'failed' ? answer : { kind: 'answered', value: change(answer.value) };
}

async function ask<T>(
  client: QmpClient,
  command: string,
  args: object | undefined,
  form: z.ZodType<T>,
): Promise<Answer<T>> {
  try {
    const value = form.safeParse(await client.execute(command, args));
    // An answer of another form is one of a QEMU that we do not know.
    return value.success ? { kind: 'answered', value: value.data } : { kind: 'failed', reason: 'QEMUTooOld' };
  } catch (error) {
    if (!(error instanceof QmpError)) return { kind: 'failed', reason: 'MonitorUnresponsive' };
    return { kind: 'failed', reason: error.errorClass === 'CommandNotFound' ? 'QEMUTooOld' : 'NotAttached' };
  }
}
