/** Actions under way: at most one per VM, bounded over all, with back-off after failures and a brake on repetition. */
import type { SchedulerLike } from 'rxjs';
import { ConflictError, messageOf } from '../api/errors.ts';
import { keyOf } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Action } from './action.ts';
import { EffectError, FencedError } from './driver.ts';
import type { Failure } from './status.ts';

export interface ActionLimits {
  readonly maxActions: number;
  /** QEMU starts at once: after a reboot of the host all VMs want to. */
  readonly maxLaunches: number;
  readonly failureBackoffMs: { readonly first: number; readonly max: number };
}

/** Whom an action serves. What happened to an earlier object of the name, or to an older spec, holds nothing back. */
export interface Served {
  readonly key: string;
  readonly uid: string;
  readonly generation: number;
}

export interface Started extends Served {
  readonly action: Action;
  /** Host clock of the look it was decided on, ms. */
  readonly seenAt: number;
  readonly effect: () => Promise<void>;
}

export type Outcome =
  | { readonly ok: true; readonly ms: number }
  | { readonly ok: false; readonly error: unknown; readonly message: string };

export interface Held {
  readonly forMs: number;
  /** Whether it lasts long enough that people want to know. */
  readonly isTold: boolean;
}

interface Attempt {
  readonly failures: number;
  readonly signature: string;
  readonly failure: Failure;
  /** On the scheduler's clock. */
  readonly notBefore: number;
}

/** Who waits for room is woken when there is some; and this often, in case that it comes otherwise. */
const NO_ROOM_MS = 1_000;
/** Longer waits for room are told. */
const LONG_WAIT_MS = 3_000;
/** The same successful step again and again is a hot loop: it is slowed down, until it pauses this long by itself. */
const REPEATS_FREE = 3;
const REPEAT_FIRST_MS = 500;
const REPEAT_MAX_MS = 60_000;
const REPEAT_CALM_MS = 2_000;

interface Repeat {
  readonly count: number;
  /** When it may come again, on the scheduler's clock. */
  readonly notBefore: number;
}

export class ActionRunner {
  readonly #scheduler: SchedulerLike;
  readonly #limits: ActionLimits;
  readonly #busy = new Map<string, Action['type']>();
  readonly #attempts = new Map<string, Attempt>();
  /** By VM, then by object, spec and action: a loop may have several steps. */
  readonly #repeats = new Map<string, Map<string, Repeat>>();

  /** Who waits for room, and since when, on the scheduler's clock; who waits longest is first. */
  readonly #waiting = new Map<string, number>();

  constructor(scheduler: SchedulerLike, limits: ActionLimits) {
    this.#scheduler = scheduler;
    this.#limits = limits;
  }

  /** Keys with an action under way. */
  get busy(): ReadonlySet<string> {
    return new Set(this.#busy.keys());
  }

  /** Nothing is to be done for the key now: what failed before is history. */
  rest(key: string): void {
    this.#attempts.delete(key);
    this.#waiting.delete(key);
    const now = this.#scheduler.now();
    const repeats = this.#repeats.get(key);
    for (const [signature, { notBefore }] of repeats ?? [])
      if (now - notBefore > REPEAT_CALM_MS) repeats?.delete(signature);
    if (repeats?.size === 0) this.#repeats.delete(key);
  }

  /** How this very action failed last; it stands until the action succeeds or is no longer wanted. */
  failureOf(served: Served, action: Action): Failure | undefined {
    return this.#attemptOf(served, action)?.failure;
  }

  #attemptOf(served: Served, action: Action): Attempt | undefined {
    const attempt = this.#attempts.get(served.key);
    return attempt?.signature === signatureOf(served, action) ? attempt : undefined;
  }

  /** For how long the action may not start yet; undefined: it may. */
  heldBack(served: Served, action: Action): Held | undefined {
    const { key } = served;
    const now = this.#scheduler.now();
    const failed = this.#attemptOf(served, action)?.notBefore;
    const repeated = this.#repeats.get(key)?.get(signatureOf(served, action))?.notBefore;
    const left = Math.max(failed ?? 0, repeated ?? 0) - now;
    if (left > 0) return { forMs: left, isTold: true };
    if (this.#hasRoom(action)) {
      this.#waiting.delete(key);
      return undefined;
    }
    const since = this.#waiting.get(key) ?? now;
    this.#waiting.set(key, since);
    return { forMs: NO_ROOM_MS, isTold: now - since >= LONG_WAIT_MS };
  }

  #hasRoom(action: Action): boolean {
    const running = [...this.#busy.values()];
    const full = running.length >= this.#limits.maxActions;
    const launching =
      action.type === 'launch' && running.filter((type) => type === 'launch').length >= this.#limits.maxLaunches;
    return !full && !launching;
  }

  /** Whoever has waited longest for room; it waits anew where it finds none. */
  nextWaiting(): string | undefined {
    const [next] = this.#waiting.keys();
    if (next !== undefined) this.#waiting.delete(next);
    return next;
  }

  /** @param ended told once */
  start(started: Started, ended: (outcome: Outcome) => void): void {
    const { key, action } = started;
    const since = this.#scheduler.now();
    this.#busy.set(key, action.type);
    started.effect().then(
      () => {
        this.#busy.delete(key);
        this.#attempts.delete(key);
        this.#noteRepeat(key, signatureOf(started, action));
        ended({ ok: true, ms: this.#scheduler.now() - since });
      },
      (error: unknown) => {
        this.#busy.delete(key);
        this.#noteFailure(started, error);
        ended({ ok: false, error, message: messageOf(error) });
      },
    );
  }

  #noteRepeat(key: string, signature: string): void {
    const now = this.#scheduler.now();
    const repeats = this.#repeats.get(key) ?? new Map<string, Repeat>();
    const before = repeats.get(signature);
    const count = before !== undefined && now - before.notBefore <= REPEAT_CALM_MS ? before.count + 1 : 1;
    const delay = count < REPEATS_FREE ? 0 : Math.min(REPEAT_MAX_MS, REPEAT_FIRST_MS * 2 ** (count - REPEATS_FREE));
    this.#repeats.set(key, repeats.set(signature, { count, notBefore: now + delay }));
  }

  #noteFailure(started: Started, error: unknown): void {
    const { key, action, seenAt } = started;
    // Somebody else was faster: nothing failed, a new look decides anew.
    if (error instanceof ConflictError || error instanceof FencedError) return;
    // The connection went away in the middle: what became of the action is for the next look to say.
    if (error instanceof Error && LOST.has(error.name)) return;
    const signature = signatureOf(started, action);
    const before = this.#attempts.get(key);
    const failures = before?.signature === signature ? before.failures + 1 : 1;
    const { first, max } = this.#limits.failureBackoffMs;
    const delay = Math.min(max, first * 2 ** Math.min(failures - 1, 20));
    const reason = error instanceof EffectError ? error.reason : 'InternalError';
    const failure = { reason, message: `${action.type} failed: ${messageOf(error)}`, nextAttemptAt: seenAt + delay };
    this.#attempts.set(key, { failures, signature, failure, notBefore: this.#scheduler.now() + delay });
  }
}

/** By name: the arms, which this room does not import, throw them. */
const LOST: ReadonlySet<string> = new Set([
  'HostUnreachableError',
  'CredentialsInvalidError',
  'HostKeyRefusedError',
  'JumpHostInvalidError',
]);

export function servedBy({ metadata }: VirtualMachine): Served {
  return { key: keyOf(metadata), uid: metadata.uid, generation: metadata.generation };
}

function signatureOf({ uid, generation }: Served, action: Action): string {
  return `${uid} ${generation} ${JSON.stringify(action)}`;
}
