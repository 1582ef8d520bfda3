/** Samples of one VM, by VirtualMachineMonitors that are made, watched and deleted here. */
import { randomBytes } from 'node:crypto';
import { type Manifest, parseManifest } from '../api/admission.ts';
import { findCondition } from '../api/conditions.ts';
import { NotFoundError } from '../api/errors.ts';
import { API_VERSION, type ObjectRef } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import {
  MAX_MONITOR_MS,
  type Metric,
  type Sample,
  type VirtualMachineMonitor,
} from '../api/virtual-machine-monitor.ts';
import type { Store } from './store.ts';
import { versions } from './watching.ts';

export interface SampleRequest {
  readonly vm: VirtualMachine;
  /** Absent: all. */
  readonly metrics?: readonly Metric[] | undefined;
  readonly intervalSeconds: number;
  /** How long samples are wanted; undefined: until the signal aborts. */
  readonly forMs?: number | undefined;
  readonly signal: AbortSignal;
}

/** A monitor lives a little longer than it is needed, so that its last sample is not lost. */
const SLACK_MS = 15_000;

/** Each sample once, in order. Ends when the signal aborts, the time is over, or the VM has no process any more. */
export async function* samplesOf(store: Store, request: SampleRequest): AsyncGenerator<Sample> {
  const end = request.forMs === undefined ? Number.POSITIVE_INFINITY : Date.now() + request.forMs + SLACK_MS;
  while (!request.signal.aborted && Date.now() < end) {
    const untilMs = Math.min(end, Date.now() + MAX_MONITOR_MS);
    const stopped = yield* samplesOfOne(store, request, untilMs);
    if (stopped) return;
  }
}

/** Until this monitor's time is over; true where there is nothing more to sample. */
async function* samplesOfOne(store: Store, request: SampleRequest, untilMs: number): AsyncGenerator<Sample, boolean> {
  const monitor = await createMonitor(store, request, untilMs);
  let sequence = 0;
  try {
    for await (const seen of versions(store, 'VirtualMachineMonitor', monitor.metadata, request.signal)) {
      if (seen === undefined) return Date.now() < untilMs - SLACK_MS;
      for (const entry of seen.status?.samples ?? []) {
        if (entry.sequence <= sequence) continue;
        sequence = entry.sequence;
        yield entry.sample;
      }
      if (hasStopped(seen)) return true;
    }
    return true;
  } finally {
    await removeMonitor(store, monitor);
  }
}

function hasStopped({ status }: VirtualMachineMonitor): boolean {
  return findCondition(status?.conditions, 'Ready')?.reason === 'NotRunning';
}

function createMonitor(store: Store, request: SampleRequest, untilMs: number): Promise<VirtualMachineMonitor> {
  const { vm, metrics, intervalSeconds } = request;
  const { name, namespace, uid } = vm.metadata;
  const manifest = parseManifest({
    apiVersion: API_VERSION,
    kind: 'VirtualMachineMonitor',
    metadata: {
      name: `${name.slice(0, 200)}-${randomBytes(5).toString('hex')}`,
      namespace,
      ownerReferences: [{ apiVersion: API_VERSION, kind: 'VirtualMachine', name, uid }],
    },
    spec: {
      virtualMachineName: name,
      intervalSeconds,
      until: new Date(untilMs).toISOString(),
      ...(metrics === undefined ? {} : { metrics }),
    },
  });
  return store.create(manifest as Manifest<'VirtualMachineMonitor'>);
}

async function removeMonitor(
  store: Store,
  { metadata }: { readonly metadata: ObjectRef & { readonly uid: string } },
): Promise<void> {
  try {
    await store.delete('VirtualMachineMonitor', metadata, { uid: metadata.uid });
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
  }
}
