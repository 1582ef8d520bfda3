/** Waiting on levels: what should become true is read again and again until a deadline. */
import { setTimeout as sleep } from 'node:timers/promises';

const EVERY_MS = 25;
export const DEADLINE_MS = 60_000;

/**
 * The first reading that satisfies.
 * @param what for people, with the last reading, when the deadline has passed
 */
export async function until<T>(
  what: string,
  read: () => T | Promise<T>,
  satisfies: (value: T) => boolean,
  deadlineMs = DEADLINE_MS,
): Promise<T> {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const value = await read();
    if (satisfies(value)) return value;
    if (Date.now() > end)
      throw new Error(`not within ${deadlineMs} ms: ${what}; last seen: ${JSON.stringify(value)?.slice(0, 4000)}`);
    await sleep(EVERY_MS);
  }
}
