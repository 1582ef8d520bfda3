/**
 * A caller's signal and a time limit as one signal. AbortSignal.any keeps what it makes alive as long as the signals it
 * was made of, and a loop's signal lives as long as the process: this one is let go with `using`.
 */
export class Deadline implements Disposable {
  readonly signal: AbortSignal;
  readonly #controller = new AbortController();
  readonly #caller: AbortSignal;
  readonly #timer: NodeJS.Timeout;
  readonly #onAbort: () => void;

  /** @param late makes the reason of the signal when the time has passed; the caller's own reason stays as it is */
  constructor({ timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal }, late: () => Error) {
    signal.throwIfAborted();
    this.#caller = signal;
    this.signal = this.#controller.signal;
    this.#onAbort = () => this.#controller.abort(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
    this.#timer = setTimeout(() => this.#controller.abort(late()), timeoutMs);
    signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#caller.removeEventListener('abort', this.#onAbort);
  }
}

/** What the promise says, unless the signal aborts before. Whoever may come too late is given to `tooLate`. */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal, tooLate?: (value: T) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    promise.then(
      (value) => {
        signal.removeEventListener('abort', onAbort);
        if (signal.aborted) tooLate?.(value);
        resolve(value);
      },
      (error: unknown) => {
        signal.removeEventListener('abort', onAbort);
        reject(error);
      },
    );
  });
}
