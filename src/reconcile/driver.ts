/**
 * What a reconcile loop asks of a host. Small enough to simulate (test/fakes/simulated-host.ts does); the real one is qemu/driver.ts.
 */
import type { Observable } from 'rxjs';
import type { SeedContent } from '../api/cloud-init.ts';
import type { EffectiveSpec } from '../api/effective-spec.ts';
import type { Sample } from '../api/virtual-machine-monitor.ts';
import type { HostAction, VmAction } from './action.ts';
import type { HeardEnd, HostFacts, Look, SeenProcess } from './observed.ts';
import type { OwnershipRecord, StopMarker } from './record.ts';
import type { RecordedSpec } from './recorded-spec.ts';

export interface LookRequest {
  readonly vmDirs: readonly string[];
  /** Of other Hosts that are this machine: what their records say is seen, and nothing done there. None of `vmDirs`. */
  readonly foreignVmDirs?: readonly string[];
  /** The VMs whose guests and files matter now; all folders and processes are seen in any case. */
  readonly vms: readonly EffectiveSpec[];
  /** By folder, the process that is believed to run there: a hint that saves time where it holds, and nothing else. */
  readonly expected?: ReadonlyMap<string, number>;
  /** Further paths to resolve and describe, such as a host's allowedPaths. */
  readonly paths: readonly string[];
}

/** Whom an effect is for. */
export interface VmContext {
  readonly storeUID: string;
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly wanted: EffectiveSpec;
  /** What records keep of the spec. */
  readonly spec: RecordedSpec;
  /** As the look showed it that the action was decided on. */
  readonly record: OwnershipRecord | undefined;
  readonly process: SeenProcess;
  readonly stop: StopMarker | undefined;
  readonly facts: HostFacts;
  /** Whether sudo makes the interfaces of guests on bridges. */
  readonly sudo: boolean;
  /** For a launch, where the spec has cloudInit. */
  readonly seed?: SeedContent | undefined;
}

export interface HostContext {
  readonly storeUID: string;
  readonly hostUID: string;
}

/** What happened on a host by itself: a hint to look again at this folder. */
export interface HostEvent {
  readonly folder: string;
  readonly event: string;
}

/**
 * Done: the effect is in force; look again. An effect that failed throws EffectError with the reason a person reads,
 * FencedError where a later controller owns the host, or HostUnreachableError where the outcome is unknown.
 * Every effect may be repeated after any interruption.
 */
export interface HostDriver {
  /** One round trip, however many VMs. Never throws for what a host can do: that is `cannot-see`. */
  look(request: LookRequest, signal: AbortSignal): Promise<Look>;
  execute(action: VmAction, context: VmContext, signal: AbortSignal): Promise<void>;
  executeOnHost(action: HostAction, context: HostContext, signal: AbortSignal): Promise<void>;
  /** One round for all; a VM that is not running is left out. Rates are against the previous sample with the same `series`. */
  sample(vms: readonly EffectiveSpec[], series: string, signal: AbortSignal): Promise<ReadonlyMap<string, Sample>>;
  /** The epoch under which this driver acts in a vmDir; undefined before it has claimed it. */
  epoch(vmDir: string): number | undefined;
  /** How the process of this folder was heard to end; undefined where nobody listened. */
  heardEnd(folder: string): HeardEnd | undefined;
  readonly events$: Observable<HostEvent>;
  close(): Promise<void>;
}

/** An effect that the host refused, named by the condition reason it causes. */
export class EffectError extends Error {
  override name = 'EffectError';
  readonly reason: string;
  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** A later controller has taken this host over: nothing more may be done here. */
export class FencedError extends Error {
  override name = 'FencedError';
}
