/**
 * Samples of running VMs: status.metrics at the Host's interval, and the requests of VirtualMachineMonitors. All VMs
 * that are due together are sampled in one round. An object of its own carries a request, so the VM stays calm.
 */
import { asyncScheduler, defer, Observable, type SchedulerLike } from 'rxjs';
import { conditionsFrom } from '../api/conditions.ts';
import { placeOf } from '../api/effective-spec.ts';
import { NotFoundError } from '../api/errors.ts';
import { API_VERSION, keyOf } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import {
  MAX_MONITOR_MS,
  MAX_SAMPLES,
  METRICS,
  type Metric,
  type Sample,
  type VirtualMachineMonitor,
} from '../api/virtual-machine-monitor.ts';
import type { Store } from '../store/store.ts';
import { coalesceMap } from './coalesce-map.ts';
import type { HostDriver } from './driver.ts';
import { writeStatus } from './status-writer.ts';
import { wantedOf } from './subject.ts';
import { WakeQueue } from './wake-queue.ts';

export interface HostSamplerDependencies {
  readonly store: Store;
  readonly driver: HostDriver;
  readonly hostName: string;
  readonly scheduler?: SchedulerLike;
}

const METRICS_SERIES = 'metrics';
/** The second look of a new series comes this soon: rates need two. */
const SECOND_LOOK_MS = 1_000;
const WRITE_EVERY_MS = 2_000;
const RETRY_MS = 5_000;

interface Series {
  /** On the scheduler's clock. */
  looks: number;
  pending: { sequence: number; sample: Sample }[];
  lastSequence: number;
  writtenAt: number;
}

export class HostSampler {
  readonly #store: Store;
  readonly #driver: HostDriver;
  readonly #hostName: string;
  readonly #scheduler: SchedulerLike;
  readonly #queue: WakeQueue;
  readonly #series = new Map<string, Series>();
  readonly #abort = new AbortController();
  #metricsPrimed = false;

  constructor({ store, driver, hostName, scheduler }: HostSamplerDependencies) {
    this.#store = store;
    this.#driver = driver;
    this.#hostName = hostName;
    this.#scheduler = scheduler ?? asyncScheduler;
    this.#queue = new WakeQueue(this.#scheduler);
  }

  /** Something about the VMs has changed: metrics may be due sooner. */
  wake(): void {
    if (!this.#metricsPrimed) this.#queue.wake(METRICS_SERIES, SECOND_LOOK_MS);
  }

  wakeMonitor(monitor: VirtualMachineMonitor): void {
    if (!this.#series.has(keyOf(monitor.metadata))) this.#queue.wake(keyOf(monitor.metadata));
  }

  /** Emits what went wrong; runs until unsubscribed. */
  run(): Observable<unknown> {
    return new Observable((subscriber) => {
      const passes = this.#queue.ready$
        .pipe(
          coalesceMap(() =>
            defer(() => this.#pass().catch((error: unknown) => this.#abort.signal.aborted || subscriber.next(error))),
          ),
        )
        .subscribe();
      this.#queue.wake(METRICS_SERIES, SECOND_LOOK_MS);
      return () => {
        this.#abort.abort(new Error('the sampler has ended'));
        passes.unsubscribe();
      };
    });
  }

  async #pass(): Promise<void> {
    const due = this.#queue.take();
    await Promise.all(
      [...due].map((key) => (key === METRICS_SERIES ? this.#sampleMetrics() : this.#sampleMonitor(key))),
    );
  }

  async #sampleMetrics(): Promise<void> {
    const host = await this.#store.get('Host', { name: this.#hostName });
    if (host === undefined) return;
    const intervalMs = host.spec.metricsIntervalSeconds * 1000;
    if (intervalMs === 0) {
      this.#metricsPrimed = false;
      return;
    }
    const first = !this.#metricsPrimed;
    this.#metricsPrimed = true;
    this.#queue.wake(METRICS_SERIES, first ? SECOND_LOOK_MS : intervalMs);
    const { items } = await this.#store.list('VirtualMachine', { hostName: this.#hostName });
    const running = items.filter(({ status }) => status?.pid !== undefined);
    if (running.length === 0) {
      this.#metricsPrimed = false;
      this.#queue.wake(METRICS_SERIES, intervalMs);
      return;
    }
    const wanted = new Map(running.map((vm) => [placeOf(vm, host).folder, vm]));
    const samples = await this.#driver.sample(
      running.map((vm) => wantedOf(vm, host)),
      METRICS_SERIES,
      this.#abort.signal,
    );
    if (first) return;
    for (const [folder, sample] of samples) {
      const vm = wanted.get(folder);
      if (vm !== undefined)
        await writeStatus(this.#store, 'VirtualMachine', vm, (newest) =>
          newest.status?.pid === undefined ? undefined : { ...newest.status, metrics: sample },
        );
    }
  }

  async #sampleMonitor(key: string): Promise<void> {
    const slash = key.indexOf('/');
    const ref = { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
    const monitor = await this.#store.get('VirtualMachineMonitor', ref);
    const vm =
      monitor === undefined
        ? undefined
        : await this.#store.get('VirtualMachine', { namespace: ref.namespace, name: monitor.spec.virtualMachineName });
    if (monitor === undefined) {
      this.#series.delete(key);
      return;
    }
    const leftMs = endOf(monitor) - this.#scheduler.now();
    if (vm === undefined || leftMs <= 0 || isSuccessor(vm, monitor)) return this.#remove(key, monitor);
    this.#queue.wake(key, leftMs);
    // The end of a request is everybody's business; its samples are those of the VM's host.
    if (vm.spec.hostName !== this.#hostName) return;
    await this.#own(monitor, vm);
    await this.#look(key, monitor, vm);
  }

  async #remove(key: string, monitor: VirtualMachineMonitor): Promise<void> {
    this.#series.delete(key);
    try {
      await this.#store.delete('VirtualMachineMonitor', monitor.metadata, { uid: monitor.metadata.uid });
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
    }
  }

  async #own(monitor: VirtualMachineMonitor, vm: VirtualMachine): Promise<void> {
    if (monitor.metadata.ownerReferences?.some(({ uid }) => uid === vm.metadata.uid) === true) return;
    const reference = { apiVersion: API_VERSION, kind: 'VirtualMachine', name: vm.metadata.name, uid: vm.metadata.uid };
    await this.#store.patch(
      'VirtualMachineMonitor',
      monitor.metadata,
      { metadata: { ownerReferences: [...(monitor.metadata.ownerReferences ?? []), reference] } },
      { uid: monitor.metadata.uid },
    );
  }

  async #look(key: string, monitor: VirtualMachineMonitor, vm: VirtualMachine): Promise<void> {
    const series = this.#series.get(key) ?? {
      looks: 0,
      pending: [],
      lastSequence: monitor.status?.samples?.at(-1)?.sequence ?? 0,
      writtenAt: Number.NEGATIVE_INFINITY,
    };
    this.#series.set(key, series);
    const host = await this.#store.get('Host', { name: this.#hostName });
    if (host === undefined) return;
    const wanted = wantedOf(vm, host);
    const intervalMs = monitor.spec.intervalSeconds * 1000;
    this.#queue.wake(key, series.looks === 0 ? Math.min(SECOND_LOOK_MS, intervalMs) : intervalMs);
    const sample = (await this.#driver.sample([wanted], monitor.metadata.uid, this.#abort.signal)).get(wanted.folder);
    if (sample === undefined) {
      series.looks = 0;
      await this.#write(monitor, series, {
        status: 'False',
        reason: 'NotRunning',
        message: 'the VM has no process to sample',
      });
      this.#queue.wake(key, RETRY_MS);
      return;
    }
    series.looks += 1;
    if (series.looks === 1) return;
    series.lastSequence += 1;
    series.pending.push({ sequence: series.lastSequence, sample: only(sample, monitor.spec.metrics) });
    if (this.#scheduler.now() - series.writtenAt >= WRITE_EVERY_MS - 50) {
      await this.#write(monitor, series, { status: 'True', reason: 'Sampling', message: 'samples are taken' });
    }
  }

  async #write(
    monitor: VirtualMachineMonitor,
    series: Series,
    ready: { status: 'True' | 'False'; reason: string; message: string },
  ): Promise<void> {
    const fresh = series.pending;
    series.pending = [];
    series.writtenAt = this.#scheduler.now();
    await writeStatus(this.#store, 'VirtualMachineMonitor', monitor, (newest) => {
      const { generation } = newest.metadata;
      const at = fresh.at(-1)?.sample.at ?? new Date(this.#scheduler.now()).toISOString();
      return {
        observedGeneration: generation,
        conditions: conditionsFrom([{ type: 'Ready', ...ready }], newest.status?.conditions, at, generation),
        samples: [...(newest.status?.samples ?? []), ...fresh].slice(-MAX_SAMPLES),
      };
    });
  }
}

/** When a request is over, whatever `until` says; ms since the epoch. */
function endOf({ metadata, spec }: VirtualMachineMonitor): number {
  return Math.min(Date.parse(spec.until), Date.parse(metadata.creationTimestamp) + MAX_MONITOR_MS);
}

/** Whether the VM of this name is another one than the request was for. */
function isSuccessor(vm: VirtualMachine, { metadata }: VirtualMachineMonitor): boolean {
  const owner = metadata.ownerReferences?.find(({ kind }) => kind === 'VirtualMachine');
  return owner !== undefined && owner.uid !== vm.metadata.uid;
}

const FIELDS: Readonly<Record<Metric, 'cpu' | 'memory' | 'disks' | 'networks'>> = {
  cpu: 'cpu',
  memory: 'memory',
  disk: 'disks',
  network: 'networks',
};

function only(sample: Sample, metrics: readonly Metric[] | undefined): Sample {
  if (metrics === undefined || metrics.length === 0) return sample;
  const dropped = new Set<string>(
    METRICS.filter((metric) => !metrics.includes(metric)).map((metric) => FIELDS[metric]),
  );
  const kept = Object.fromEntries(Object.entries(sample).filter(([field]) => !dropped.has(field))) as Sample;
  const unavailable = sample.unavailable?.filter(({ metric }) => !dropped.has(metric.split(/[.[]/)[0] ?? ''));
  const { unavailable: _all, ...rest } = kept;
  return unavailable === undefined || unavailable.length === 0 ? rest : { ...rest, unavailable };
}
