/** Actions under way: at most one per VM, bounded over all, with back-off after failures and a brake on repetition. */
import type { SchedulerLike } from 'rxjs';
import { messageOf } from '../api/errors.ts';
import type { Action } from './action.ts';
import { EffectError } from './driver.ts';
import type { Failure } from './status.ts';

export interface ActionLimits {
  readonly maxActions: number;
  /** QEMU starts at once: after a reboot of the host all VMs want to. */
  readonly maxLaunches: number;
  readonly failureBackoffMs: { readonly first: number; readonly max: number };
}

export interface Started {
  readonly key: string;
  readonly action: Action;
  /** Generation of the spec that the action serves: a newer spec is not held back by an older one's failure. */
  readonly generation: number;
  /** Host clock of the look it was decided on, ms. */
  readonly seenAt: number;
  readonly effect: () => Promise<void>;
}

export type Outcome =
  | { readonly ok: true; readonly ms: number }
  | { readonly ok: false; readonly error: unknown; readonly message: string };

interface Attempt {
  readonly failures: number;
  readonly signature: string;
  readonly failure: Failure;
  /** On the scheduler's clock. */
  readonly notBefore: number;
  readonly generation: number;
}

/** Room is looked for again this soon. */
const NO_ROOM_MS = 100;
/** The same successful step again and again is a hot loop: it is slowed down. */
const REPEATS_FREE = 3;
const REPEAT_FIRST_MS = 500;
const REPEAT_MAX_MS = 60_000;

export class ActionRunner {
  readonly #scheduler: SchedulerLike;
  readonly #limits: ActionLimits;
  readonly #busy = new Map<string, Action['type']>();
  readonly #attempts = new Map<string, Attempt>();
  readonly #repeats = new Map<string, { readonly signature: string; readonly count: number }>();

  constructor(scheduler: SchedulerLike, limits: ActionLimits) {
    this.#scheduler = scheduler;
    this.#limits = limits;
  }

  /** Keys with an action under way. */
  get busy(): ReadonlySet<string> {
    return new Set(this.#busy.keys());
  }

  /** Nothing is to be done for the key now: what failed or repeated before is history. */
  rest(key: string, settled: boolean): void {
    this.#attempts.delete(key);
    if (settled) this.#repeats.delete(key);
  }

  /** Why the action may not start yet, and for how long; undefined: it may. */
  heldBack(
    key: string,
    action: Action,
    generation: number,
  ): { readonly forMs: number; readonly failure?: Failure } | undefined {
    const attempt = this.#attempts.get(key);
    if (attempt?.signature === JSON.stringify(action) && attempt.generation === generation) {
      const left = attempt.notBefore - this.#scheduler.now();
      if (left > 0) return { forMs: left, failure: attempt.failure };
    }
    const running = [...this.#busy.values()];
    const full = running.length >= this.#limits.maxActions;
    const launching =
      action.type === 'launch' && running.filter((type) => type === 'launch').length >= this.#limits.maxLaunches;
    return full || launching ? { forMs: NO_ROOM_MS } : undefined;
  }

  /** @param ended told once, with how long the key should rest before the next look */
  start(started: Started, ended: (outcome: Outcome, restMs: number) => void): void {
    const { key, action } = started;
    const since = this.#scheduler.now();
    this.#busy.set(key, action.type);
    started.effect().then(
      () => {
        this.#busy.delete(key);
        this.#attempts.delete(key);
        ended({ ok: true, ms: this.#scheduler.now() - since }, this.#repeatDelay(key, action));
      },
      (error: unknown) => {
        this.#busy.delete(key);
        this.#noteFailure(started, error);
        ended({ ok: false, error, message: messageOf(error) }, 0);
      },
    );
  }

  #repeatDelay(key: string, action: Action): number {
    const signature = JSON.stringify(action);
    const before = this.#repeats.get(key);
    const count = before?.signature === signature ? before.count + 1 : 1;
    this.#repeats.set(key, { signature, count });
    return count <= REPEATS_FREE ? 0 : Math.min(REPEAT_MAX_MS, REPEAT_FIRST_MS * 2 ** (count - REPEATS_FREE));
  }

  #noteFailure({ key, action, generation, seenAt }: Started, error: unknown): void {
    const signature = JSON.stringify(action);
    const before = this.#attempts.get(key);
    const failures = before?.signature === signature ? before.failures + 1 : 1;
    const { first, max } = this.#limits.failureBackoffMs;
    const delay = Math.min(max, first * 2 ** Math.min(failures - 1, 20));
    const reason = error instanceof EffectError ? error.reason : 'InternalError';
    const failure = { reason, message: `${action.type} failed: ${messageOf(error)}`, nextAttemptAt: seenAt + delay };
    this.#attempts.set(key, { failures, signature, failure, notBefore: this.#scheduler.now() + delay, generation });
  }
}
