/** Work that ends in time, or when its caller stops. */

/**
 * Does the work under one signal for both a caller's own and a time limit. AbortSignal.any keeps what it makes alive as
 * long as the signals it was made of, and a loop's signal lives as long as the process: this one goes with the work.
 * @param late makes the signal's reason when the time has passed; the caller's own reason stays as it is
 */
export async function withDeadline<T>(
  { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal: AbortSignal },
  late: () => Error,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  const controller = new AbortController();
  const onAbort = () => controller.abort(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
  const timer = setTimeout(() => controller.abort(late()), timeoutMs);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await work(controller.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
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
