/**
 * Who is to be looked at, and when: one entry per key, the earliest time wins. A wake-up carries no data, so merging
 * them loses nothing. (groupBy as a queue loses the last event, starves keys and never forgets one: measured.)
 */
import { asyncScheduler, Observable, type SchedulerLike, Subject, type Subscription } from 'rxjs';

/** setTimeout's longest delay; a later entry is simply found not due. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export class WakeQueue {
  readonly #due = new Map<string, number>();
  readonly #ready$ = new Subject<void>();
  readonly #scheduler: SchedulerLike;
  #timer: { readonly at: number; readonly subscription: Subscription } | undefined;

  constructor(scheduler: SchedulerLike = asyncScheduler) {
    this.#scheduler = scheduler;
  }

  /** Emits when something may be due. Unsubscribing stops the timer. */
  readonly ready$ = new Observable<void>((subscriber) => {
    const subscription = this.#ready$.subscribe(subscriber);
    this.#arm();
    return () => {
      subscription.unsubscribe();
      this.#timer?.subscription.unsubscribe();
      this.#timer = undefined;
    };
  });

  wake(key: string, afterMs = 0): void {
    const asked = this.#scheduler.now() + Math.max(0, afterMs);
    const at = Math.min(asked, this.#due.get(key) ?? asked);
    this.#due.set(key, at);
    // Also for a known key: it may have been held back when it fell due.
    this.#armFor(at);
  }

  /** Removes and returns what is due and not held back; the rest stays. */
  take(heldBack: ReadonlySet<string> = new Set()): Set<string> {
    const now = this.#scheduler.now();
    const taken = new Set<string>();
    for (const [key, at] of this.#due) {
      if (at > now || heldBack.has(key)) continue;
      taken.add(key);
      this.#due.delete(key);
    }
    this.#arm(heldBack);
    return taken;
  }

  forget(key: string): void {
    this.#due.delete(key);
  }

  get size(): number {
    return this.#due.size;
  }

  /** How many are due now. */
  get due(): number {
    const now = this.#scheduler.now();
    return [...this.#due.values()].filter((at) => at <= now).length;
  }

  #arm(heldBack: ReadonlySet<string> = new Set()): void {
    let next: number | undefined;
    for (const [key, at] of this.#due) if (!heldBack.has(key) && (next === undefined || at < next)) next = at;
    if (next !== undefined) this.#armFor(next);
  }

  #armFor(next: number): void {
    if (!this.#ready$.observed || (this.#timer !== undefined && this.#timer.at <= next)) return;
    this.#timer?.subscription.unsubscribe();
    const delay = Math.min(Math.max(0, next - this.#scheduler.now()), MAX_TIMER_MS);
    const subscription = this.#scheduler.schedule(() => {
      this.#timer = undefined;
      this.#ready$.next();
    }, delay);
    this.#timer = { at: next, subscription };
  }
}
