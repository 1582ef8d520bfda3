/**
 * Samples all VMs of a host in one round: one script for what the kernel counts, and QEMU's own figures over the
 * monitors, all VMs at once. A VM that is slow loses its own QMP figures and delays nobody else.
 */
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LaunchSpec } from '../api/effective-spec.ts';
import type { Sample } from '../api/virtual-machine-monitor.ts';
import type { Shell } from '../host/shell.ts';
import type { Agents } from './agents.ts';
import type { Monitors } from './monitors.ts';
import type { QmpClient } from './qmp.ts';
import { LONGEST_PACKET_INTERVAL_MS, type PacketReadings, sampleOf, type VmLook } from './sample-figures.ts';
import { type HostLook, lookAtProcesses } from './sample-host.ts';
import { type Answer, type PacketCounters, readMonitor, readPackets, startGuestPolling } from './sample-monitor.ts';
import { tapsOf } from './sample-taps.ts';
import { within } from './within.ts';

export interface SampleTarget {
  /** What the result is keyed by. */
  readonly key: string;
  readonly folder: string;
  readonly pid: number;
  /** Start of the process in clock ticks since boot: another process of this pid is none. Absent: any. */
  readonly startTicks?: number;
  /** What the process was launched from. */
  readonly spec: LaunchSpec;
}

/** A monitor has this long; what it answers later is not waited for, and its connection stays. */
const MONITOR_DEADLINE_MS = 2_000;
/** Between the two looks of a one-shot request, and between two readings of packet counters. */
const SECOND_LOOK_MS = 1_000;
/** Longer than any interval that a monitor may ask for: a series that is this old is over. */
const SERIES_LIFE_MS = 2 * 3_600_000;

interface Series {
  usedAtMs: number;
  looks: Map<string, VmLook>;
}

type Packets = ReadonlyMap<string, Answer<PacketCounters>>;

export class Sampler {
  readonly #shell: Shell;
  readonly #monitors: Monitors;
  readonly #agents: Agents;
  readonly #series = new Map<string, Series>();
  /** Connections over which the guest's memory reports were switched on. */
  readonly #polling = new WeakSet<QmpClient>();

  constructor(shell: Shell, monitors: Monitors, agents: Agents) {
    this.#agents = agents;
    this.#shell = shell;
    this.#monitors = monitors;
  }

  /**
   * Rates are against the previous sample of the same series and process; the first has none. Packets are counted
   * modulo 65,536, so where the previous sample is older than 1.5 s they are read a second time, 1 s later: the
   * answer then takes that second, and the packet rates are of that second alone.
   * @returns by key; a VM whose process is gone is left out
   * @throws HostUnreachableError or ScriptTimeoutError where the host does not answer
   */
  async sample(
    targets: readonly SampleTarget[],
    series: string,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, Sample>> {
    const previous = new Map(this.#series.get(series)?.looks);
    const looks = await this.#look(targets, signal);
    for (const [key, look] of looks) {
      if (previous.get(key)?.process.startTicks !== look.process.startTicks) previous.delete(key);
    }
    const [packets, latest] = await this.#packets(targets, { previous, looks }, signal);
    this.#keep(series, latest);
    return this.#samples(targets, { previous, looks }, packets);
  }

  /** A series that ends; one that is not told is forgotten some hours later. */
  forget(series: string): void {
    this.#series.delete(series);
  }

  #keep(name: string, looks: Map<string, VmLook>): void {
    const nowMs = performance.now();
    for (const [other, { usedAtMs }] of this.#series) {
      if (nowMs - usedAtMs > SERIES_LIFE_MS) this.#series.delete(other);
    }
    this.#series.set(name, { usedAtMs: nowMs, looks });
  }

  async #look(targets: readonly SampleTarget[], signal: AbortSignal): Promise<Map<string, VmLook>> {
    const questions = targets.map(({ pid, spec }) => ({
      pid,
      taps: spec.networks.some(({ bridge }) => bridge !== undefined),
    }));
    const [host, readings, interfaces] = await Promise.all([
      lookAtProcesses(this.#shell, questions, signal),
      Promise.all(targets.map((target) => this.#ask(target, (client) => readMonitor(client, target.spec)))),
      Promise.all(targets.map(({ folder, pid }) => this.#agents.interfaces(folder, pid))),
    ]);
    const looks = new Map<string, VmLook>();
    for (const [index, { key, pid, startTicks, folder, spec }] of targets.entries()) {
      const process = host.processes.get(pid);
      if (process !== undefined && (startTicks ?? process.startTicks) === process.startTicks)
        looks.set(key, {
          host: clockOf(host),
          process,
          monitor: readings[index],
          interfaces: interfaces[index],
          taps: tapsOf(spec.networks, folder, process.taps),
        });
    }
    return looks;
  }

  /** Undefined where the monitor cannot be reached or does not answer in time. */
  async #ask<T>({ folder, pid }: SampleTarget, read: (client: QmpClient) => Promise<T>): Promise<T | undefined> {
    const answer = async () => {
      const client = await this.#monitors.get(folder, pid);
      if (!this.#polling.has(client)) {
        this.#polling.add(client);
        // Not awaited: the questions follow it in the same connection, in order.
        startGuestPolling(client).catch(() => undefined);
      }
      return read(client);
    };
    return within(
      MONITOR_DEADLINE_MS,
      answer().catch(() => undefined),
    );
  }

  /** By key, two readings of the packet counters near each other; and the looks to keep, with the latest reading. */
  async #packets(
    targets: readonly SampleTarget[],
    { previous, looks }: Rounds,
    signal: AbortSignal,
  ): Promise<[ReadonlyMap<string, PacketReadings>, Map<string, VmLook>]> {
    const packets = new Map<string, PacketReadings>();
    const again: { target: SampleTarget; look: VmLook; from: Packets }[] = [];
    for (const target of targets) {
      const look = looks.get(target.key);
      const [from, to] = [previous.get(target.key)?.monitor?.packets, look?.monitor?.packets];
      if (look === undefined || to === undefined || !previous.has(target.key)) continue;
      if (from !== undefined && near(from, to)) packets.set(target.key, { from, to });
      else if ([...to.values()].some(({ kind }) => kind === 'answered')) again.push({ target, look, from: to });
      else packets.set(target.key, { from: to, to });
    }
    const latest = new Map(looks);
    if (again.length === 0) return [packets, latest];
    await sleep(SECOND_LOOK_MS, undefined, { signal });
    await Promise.all(
      again.map(async ({ target, look, from }) => {
        const to = (await this.#ask(target, (client) => readPackets(client, target.spec))) ?? new Map();
        packets.set(target.key, { from, to });
        if (look.monitor !== undefined && to.size > 0)
          latest.set(target.key, { ...look, monitor: { ...look.monitor, packets: to } });
      }),
    );
    return [packets, latest];
  }

  #samples(
    targets: readonly SampleTarget[],
    { previous, looks }: Rounds,
    packets: ReadonlyMap<string, PacketReadings>,
  ): Map<string, Sample> {
    const samples = new Map<string, Sample>();
    for (const { key, spec } of targets) {
      const now = looks.get(key);
      if (now !== undefined)
        samples.set(key, sampleOf({ spec, now, before: previous.get(key), packets: packets.get(key) }));
    }
    return samples;
  }
}

interface Rounds {
  readonly previous: ReadonlyMap<string, VmLook>;
  readonly looks: ReadonlyMap<string, VmLook>;
}

function clockOf({ atMs, uptimeMs, ticksPerSecond, pageBytes }: HostLook): VmLook['host'] {
  return { atMs, uptimeMs, ticksPerSecond, ...(pageBytes === undefined ? {} : { pageBytes }) };
}

/** Whether the counters cannot have wrapped unnoticed between two readings. */
function near(from: Packets, to: Packets): boolean {
  return [...to].every(([name, answer]) => {
    const earlier = from.get(name);
    if (answer.kind !== 'answered' || earlier?.kind !== 'answered') return answer.kind !== 'answered';
    return answer.value.atMs - earlier.value.atMs <= LONGEST_PACKET_INTERVAL_MS;
  });
}
