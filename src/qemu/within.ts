import { setTimeout as sleep } from 'node:timers/promises';

/** The answer, or undefined where it takes longer than `ms`. Rejects as the answer does. */
export async function within<T>(ms: number, answer: Promise<T>): Promise<T | undefined> {
  const timer = new AbortController();
  const deadline = sleep(ms, undefined, { signal: timer.signal }).catch(() => undefined);
  try {
    return await Promise.race([answer, deadline]);
  } finally {
    timer.abort();
  }
}
