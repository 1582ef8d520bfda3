/** The newest figures of many running VMs: sampled by monitors while they are followed, else as status has them. */
import { ApiError } from '../api/errors.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Sample } from '../api/virtual-machine-monitor.ts';
import { samplesOf } from '../store/samples.ts';
import type { Store } from '../store/store.ts';

/** A monitor is made anew this often: one whose client was killed is not left running for long. */
const RENEW_MS = 300_000;

export class LiveFigures {
  readonly #store: Store;
  readonly #intervalSeconds: number;
  readonly #end = new AbortController();
  /** By uid. */
  readonly #runs = new Map<string, Promise<void>>();
  readonly #newest = new Map<string, Sample>();
  #failure: unknown;

  constructor(store: Store, intervalSeconds: number) {
    this.#store = store;
    this.#intervalSeconds = intervalSeconds;
  }

  /** Begins to sample those that are not sampled yet. @throws what an earlier sampling met */
  follow(machines: readonly VirtualMachine[]): void {
    if (this.#failure !== undefined) throw this.#failure;
    for (const vm of machines) {
      const { uid } = vm.metadata;
      if (this.#runs.has(uid)) continue;
      const run = this.#sample(vm)
        .catch((error: unknown) => {
          // A machine that goes meanwhile takes its figures along.
          if (!(error instanceof ApiError)) this.#failure ??= error;
        })
        .finally(() => this.#runs.delete(uid));
      this.#runs.set(uid, run);
    }
  }

  async #sample(vm: VirtualMachine): Promise<void> {
    const { signal } = this.#end;
    const request = { vm, intervalSeconds: this.#intervalSeconds, forMs: RENEW_MS, signal };
    for await (const sample of samplesOf(this.#store, request)) this.#newest.set(vm.metadata.uid, sample);
  }

  /** Whether each of them has been sampled, or cannot be. */
  areKnown(machines: readonly VirtualMachine[]): boolean {
    return machines.every(({ metadata: { uid } }) => this.#newest.has(uid) || !this.#runs.has(uid));
  }

  /** undefined where nothing is known of the process that runs now. */
  of({ metadata, status }: VirtualMachine): Sample | undefined {
    const known = [this.#newest.get(metadata.uid), status?.metrics].filter((sample) => sample !== undefined);
    const since = status?.startedAt === undefined ? 0 : Date.parse(status.startedAt);
    return known
      .filter(({ at }) => Date.parse(at) >= since)
      .toSorted((a, b) => Date.parse(b.at) - Date.parse(a.at))
      .at(0);
  }

  /** Takes the monitors back. */
  async close(): Promise<void> {
    this.#end.abort();
    await Promise.allSettled(this.#runs.values());
  }
}
