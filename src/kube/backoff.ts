/** Waits between attempts: as the server asks, else twice as long each time, with jitter. */
import { KubeStatusError } from './kube-error.ts';

export interface BackoffTimes {
  readonly firstMs: number;
  readonly maxMs: number;
}

/** As client-go has them, but for the longest: a handful of watches hurts nobody, and people wait for what they changed. */
export const BACKOFF: BackoffTimes = { firstMs: 800, maxMs: 10_000 };

export class Backoff {
  readonly #times: BackoffTimes;
  #waitMs: number;

  constructor(times: BackoffTimes) {
    this.#times = times;
    this.#waitMs = times.firstMs;
  }

  /** How long to wait before the next attempt. */
  next(failure: unknown): number {
    const asked = failure instanceof KubeStatusError ? failure.retryAfterMs : undefined;
    const againMs = asked ?? this.#waitMs * (1 + Math.random());
    this.#waitMs = Math.min(this.#times.maxMs, this.#waitMs * 2);
    return againMs;
  }

  reset(): void {
    this.#waitMs = this.#times.firstMs;
  }
}
