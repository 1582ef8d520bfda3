/** From two looks at a VM to a sample: pure arithmetic. What cannot be known is left out and named with its reason. */
import type { LaunchSpec } from '../api/effective-spec.ts';
import type { Sample } from '../api/virtual-machine-monitor.ts';
import type { InterfaceReading } from './agents.ts';
import { byteFigures } from './sample-bytes.ts';
import type { HostLook, SeenUsage } from './sample-host.ts';
import type { Answer, DiskCounters, MonitorReading, PacketCounters, QueryFailure } from './sample-monitor.ts';
import { type Tap, tapFigures } from './sample-taps.ts';

/**
 * FirstSample: rates need two looks, and this was the first of its series. IntervalTooShort: the two looks are so
 * near that the kernel's clock ticks would be most of the figure. MonitorUnresponsive: QEMU did not answer in time.
 * QEMUTooOld: this QEMU does not know the question. NotAttached: it has no such device. NoOperations: a latency is
 * a mean over operations, and there were none. CounterReset: the device was replaced meanwhile.
 * CounterMayHaveWrapped: packets are counted modulo 65,536. NoByteCounters: user-mode networking counts none, or
 * which interface of the host leads to the guest is not known, and no guest agent is connected. GuestAgentSilent: one is, and did not answer at once. GuestDriverAbsent: the guest has not
 * set the device up. GuestDoesNotReport: its balloon driver is silent, or its agent does not know the interface.
 * SharedThread: the vCPUs share one host thread. HostDoesNotTell: the host has no such figure.
 */
export type UnavailableReason =
  | QueryFailure
  | 'FirstSample'
  | 'IntervalTooShort'
  | 'NoOperations'
  | 'CounterReset'
  | 'CounterMayHaveWrapped'
  | 'NoByteCounters'
  | 'GuestAgentSilent'
  | 'GuestDriverAbsent'
  | 'GuestDoesNotReport'
  | 'SharedThread'
  | 'HostDoesNotTell';

export interface VmLook {
  readonly host: Omit<HostLook, 'processes'>;
  readonly process: SeenUsage;
  /** Absent where the monitor did not answer in time. */
  readonly monitor?: MonitorReading | undefined;
  /** Absent where no guest agent is connected; `late` where it did not answer at once. */
  readonly interfaces?: InterfaceReading | 'late' | undefined;
  /** By network, the host's end of it, where there is one and it is known. */
  readonly taps?: ReadonlyMap<string, Tap> | undefined;
}

export interface Looks {
  readonly spec: LaunchSpec;
  readonly now: VmLook;
  /** The earlier look of the series at the same process. */
  readonly before?: VmLook | undefined;
  /** Two readings of the packet counters near each other; absent in a first sample. */
  readonly packets?: PacketReadings | undefined;
}

export interface PacketReadings {
  readonly from: ReadonlyMap<string, Answer<PacketCounters>>;
  readonly to: ReadonlyMap<string, Answer<PacketCounters>>;
}

/** Two looks nearer than this give no rates. */
export const SHORTEST_INTERVAL_MS = 200;
/** Packet counters may be this far apart. */
export const LONGEST_PACKET_INTERVAL_MS = 1_500;
/** An older report of the guest's memory is none: its driver has stopped answering. */
const STALE_REPORT_MS = 60_000;
const PACKET_MODULUS = 65_536;
/** The bound of the schema. */
const MAX_UNAVAILABLE = 32;
const MIB = 1_048_576;

/** The figures that are missing; `rates`, `cpu`, `bytes` and the like name the whole group of fields. */
class Missing {
  readonly #entries = new Map<string, UnavailableReason>();

  add(metric: string, reason: UnavailableReason): void {
    this.#entries.set(metric, reason);
  }

  list(): { metric: string; reason: string }[] {
    const entries = [...this.#entries].map(([metric, reason]) => ({ metric, reason }));
    if (entries.length <= MAX_UNAVAILABLE) return entries;
    // Many devices: told once for all of them.
    const groups = new Map(
      entries.map(({ metric, reason }) => [`${metric.replace(/\[.*?\]/, '[*]')} ${reason}`, { metric, reason }]),
    );
    return [...groups.values()]
      .map(({ metric, reason }) => ({ metric: metric.replace(/\[.*?\]/, '[*]'), reason }))
      .slice(0, MAX_UNAVAILABLE);
  }
}

export function sampleOf(looks: Looks): Sample {
  const missing = new Missing();
  const elapsedMs = elapsedBetween(looks.before, looks.now);
  if (looks.before === undefined) missing.add('rates', 'FirstSample');
  else if (elapsedMs === undefined) missing.add('rates', 'IntervalTooShort');
  const cpu = elapsedMs === undefined ? undefined : cpuFigures(looks, elapsedMs, missing);
  const sample: Sample = {
    at: new Date(looks.now.host.atMs).toISOString(),
    intervalSeconds: Math.round((elapsedMs ?? 0) / 1000),
    ...(cpu === undefined ? {} : { cpu }),
    memory: memoryFigures(looks, missing),
    disks: diskFigures(looks, elapsedMs !== undefined, missing),
    networks: networkFigures(looks, elapsedMs, missing),
  };
  const unavailable = missing.list();
  return unavailable.length === 0 ? sample : { ...sample, unavailable };
}

/** By the host's clock, ms; undefined where rates over it would be noise. */
function elapsedBetween(before: VmLook | undefined, now: VmLook): number | undefined {
  const elapsed = before === undefined ? 0 : now.host.uptimeMs - before.host.uptimeMs;
  return elapsed < SHORTEST_INTERVAL_MS ? undefined : elapsed;
}

function cpuFigures({ spec, before, now }: Looks, elapsedMs: number, missing: Missing): Sample['cpu'] {
  const milliCores = (from: number, to: number) =>
    Math.max(0, Math.round((((to - from) / now.host.ticksPerSecond) * 1_000_000) / elapsedMs));
  const usageMilliCores = milliCores(before?.process.cpuTicks ?? 0, now.process.cpuTicks);
  // QEMU's own threads are part of the usage and may carry it over what the vCPUs could use.
  const percent = Math.min(100, Math.round(usageMilliCores / 10 / spec.vcpus));
  const threads = vcpuThreads(now, missing);
  if (threads === undefined) return { usageMilliCores, percent };
  const perVcpu = [...threads].flatMap(([index, tid]) => {
    const [from, to] = [before?.process.threads.get(tid), now.process.threads.get(tid)];
    if (from === undefined || to === undefined) return [];
    return [{ index, percent: Math.min(100, Math.round(milliCores(from, to) / 10)) }];
  });
  return { usageMilliCores, percent, perVcpu: perVcpu.sort((a, b) => a.index - b.index) };
}

function vcpuThreads({ monitor }: VmLook, missing: Missing): ReadonlyMap<number, number> | undefined {
  const answer = monitor?.vcpuThreads;
  if (answer?.kind !== 'answered') {
    missing.add('cpu.perVcpu', answer?.reason ?? 'MonitorUnresponsive');
    return undefined;
  }
  if (new Set(answer.value.values()).size === answer.value.size) return answer.value;
  missing.add('cpu.perVcpu', 'SharedThread');
  return undefined;
}

function memoryFigures({ spec, now: { host, process, monitor } }: Looks, missing: Missing): Sample['memory'] {
  const allocated = monitor?.allocatedBytes;
  const allocatedBytes = allocated?.kind === 'answered' ? allocated.value : spec.memoryMiB * MIB;
  if (host.pageBytes === undefined) missing.add('memory.residentBytes', 'HostDoesNotTell');
  return {
    allocatedBytes,
    ...(host.pageBytes === undefined ? {} : { residentBytes: process.residentPages * host.pageBytes }),
    ...guestFigures(monitor, host.atMs, missing),
  };
}

function guestFigures(
  monitor: MonitorReading | undefined,
  hostMs: number,
  missing: Missing,
): { guestUsedBytes?: number; guestAvailableBytes?: number } {
  const answer = monitor?.guestMemory;
  if (answer?.kind !== 'answered') {
    missing.add('memory.guest', answer?.reason ?? 'MonitorUnresponsive');
    return {};
  }
  const { total, available, updatedAtSeconds } = answer.value;
  const stale = hostMs - updatedAtSeconds * 1000 > STALE_REPORT_MS;
  if (total === undefined || available === undefined || stale || available > total) {
    missing.add('memory.guest', 'GuestDoesNotReport');
    return {};
  }
  return { guestUsedBytes: total - available, guestAvailableBytes: available };
}

function diskFigures({ spec, before, now }: Looks, rates: boolean, missing: Missing): Sample['disks'] {
  const counters = now.monitor?.disks;
  if (counters?.kind !== 'answered') {
    if (spec.disks.length > 0) missing.add('disks', counters?.reason ?? 'MonitorUnresponsive');
    return undefined;
  }
  const sizes = now.monitor?.diskActualBytes;
  const earlier = before?.monitor;
  if (rates && earlier?.disks.kind !== 'answered' && spec.disks.length > 0) missing.add('disks.rates', 'FirstSample');
  return spec.disks.flatMap(({ name }) => {
    const seen = counters.value.get(name);
    if (seen === undefined) {
      missing.add(`disks[${name}]`, 'NotAttached');
      return [];
    }
    const actualBytes = sizes?.kind === 'answered' ? sizes.value.get(name) : undefined;
    if (actualBytes === undefined) missing.add(`disks[${name}].actualBytes`, failureOf(sizes));
    const from = earlier?.disks.kind === 'answered' ? earlier.disks.value.get(name) : undefined;
    const elapsedMs = (now.monitor?.atMs ?? 0) - (earlier?.atMs ?? 0);
    return {
      name,
      ...(rates && from !== undefined ? diskRates(`disks[${name}]`, { from, to: seen, elapsedMs }, missing) : {}),
      readBytes: seen.readBytes,
      writeBytes: seen.writeBytes,
      ...(actualBytes === undefined ? {} : { actualBytes }),
    };
  });
}

function failureOf(answer: Answer<unknown> | undefined): UnavailableReason {
  return answer?.kind === 'failed' ? answer.reason : 'HostDoesNotTell';
}

interface DiskSpan {
  readonly from: DiskCounters;
  readonly to: DiskCounters;
  readonly elapsedMs: number;
}

function diskRates(metric: string, { from, to, elapsedMs }: DiskSpan, missing: Missing): object {
  if (elapsedMs < SHORTEST_INTERVAL_MS) {
    missing.add(`${metric}.rates`, 'IntervalTooShort');
    return {};
  }
  const keys = Object.keys(to) as (keyof DiskCounters)[];
  if (keys.some((key) => to[key] < from[key])) {
    missing.add(`${metric}.rates`, 'CounterReset');
    return {};
  }
  const perSecond = (key: keyof DiskCounters) => Math.round(((to[key] - from[key]) * 1000) / elapsedMs);
  const latency = (field: string, nanos: 'readNanos' | 'writeNanos', ops: 'readOps' | 'writeOps') => {
    const operations = to[ops] - from[ops];
    if (operations > 0) return { [field]: Math.round((to[nanos] - from[nanos]) / operations / 1000) };
    missing.add(`${metric}.${field}`, 'NoOperations');
    return {};
  };
  return {
    readBytesPerSecond: perSecond('readBytes'),
    writeBytesPerSecond: perSecond('writeBytes'),
    readOpsPerSecond: perSecond('readOps'),
    writeOpsPerSecond: perSecond('writeOps'),
    ...latency('readLatencyMicros', 'readNanos', 'readOps'),
    ...latency('writeLatencyMicros', 'writeNanos', 'writeOps'),
  };
}

function networkFigures(looks: Looks, elapsedMs: number | undefined, missing: Missing): Sample['networks'] {
  const { spec, before, now } = looks;
  if (now.monitor === undefined) {
    if (spec.networks.length > 0) missing.add('networks', 'MonitorUnresponsive');
    return undefined;
  }
  return spec.networks.map(({ name, mac }) => {
    const tap = now.taps?.get(name);
    if (tap === undefined) return { name, ...figuresWithoutTap(looks, { name, mac }, missing) };
    const span = elapsedMs === undefined ? undefined : { from: before?.taps?.get(name), elapsedMs };
    const { figures, lacks } = tapFigures(tap, span);
    if (lacks !== undefined) missing.add(`networks[${name}].rates`, lacks);
    return { name, ...figures };
  });
}

/** Bytes as the guest's agent counts them, packets as the device does. */
function figuresWithoutTap(
  { before, now, packets }: Looks,
  { name, mac }: { readonly name: string; readonly mac: string },
  missing: Missing,
): object {
  const { figures: bytes, lacks } = byteFigures(mac, now.interfaces, before);
  if (lacks !== undefined) missing.add(`networks[${name}].${lacks.figure}`, lacks.reason);
  // Without a second reading this is the first sample, which `rates` has told already.
  if (packets === undefined) return bytes;
  const rates = packetRates(packets.from.get(name), packets.to.get(name));
  if (typeof rates === 'object') return { ...bytes, ...rates };
  missing.add(`networks[${name}].packets`, rates);
  return bytes;
}

type PacketAnswer = Answer<PacketCounters> | undefined;

/** Packets per second, or why not. */
function packetRates(
  from: PacketAnswer,
  to: PacketAnswer,
): { receivePacketsPerSecond: number; transmitPacketsPerSecond: number } | UnavailableReason {
  const failed = [from, to].find((answer) => answer?.kind !== 'answered');
  if (failed?.kind === 'failed') return failed.reason;
  if (from?.kind !== 'answered' || to?.kind !== 'answered') return 'MonitorUnresponsive';
  if (!from.value.driverReady || !to.value.driverReady) return 'GuestDriverAbsent';
  const elapsedMs = to.value.atMs - from.value.atMs;
  if (elapsedMs < SHORTEST_INTERVAL_MS) return 'IntervalTooShort';
  const counted = (field: 'received' | 'transmitted') =>
    (to.value[field] - from.value[field] + PACKET_MODULUS) % PACKET_MODULUS;
  const [received, transmitted] = [counted('received'), counted('transmitted')];
  // Past half of the range a wrap, or the reset of a guest that started again, cannot be told from packets.
  const wrapped = elapsedMs > LONGEST_PACKET_INTERVAL_MS || Math.max(received, transmitted) >= PACKET_MODULUS / 2;
  if (wrapped) return 'CounterMayHaveWrapped';
  return {
    receivePacketsPerSecond: Math.round((received * 1000) / elapsedMs),
    transmitPacketsPerSecond: Math.round((transmitted * 1000) / elapsedMs),
  };
}
