import fc from 'fast-check';
import { NEVER, of, Subject } from 'rxjs';
import { describe, expect, test } from 'vitest';
import { coalesceMap } from '../../src/reconcile/coalesce-map.ts';
import { WakeQueue } from '../../src/reconcile/wake-queue.ts';
import { VirtualClock } from '../fakes/virtual-clock.ts';

function queueWithLog() {
  const clock = new VirtualClock(0);
  const queue = new WakeQueue(clock);
  const taken: [number, string[]][] = [];
  const subscription = queue.ready$.subscribe(() => taken.push([clock.now(), [...queue.take()].sort()]));
  return { clock, queue, taken, subscription };
}

describe('the wake queue', () => {
  test('the earliest time of a key wins', async () => {
    const { clock, queue, taken } = queueWithLog();
    queue.wake('a', 500);
    queue.wake('a', 200);
    queue.wake('a', 900);
    await clock.advance(1_000);
    expect(taken).toEqual([[200, ['a']]]);
  });

  test('what is due together is taken together', async () => {
    const { clock, queue, taken } = queueWithLog();
    queue.wake('a');
    queue.wake('b');
    queue.wake('c', 10);
    await clock.advance(20);
    expect(taken).toEqual([
      [0, ['a', 'b']],
      [10, ['c']],
    ]);
  });

  test('what is due counts, and what is for later does not', async () => {
    const { clock, queue } = queueWithLog();
    for (const [key, afterMs] of [
      ['a', 0],
      ['b', 0],
      ['c', 50],
    ] as const)
      queue.wake(key, afterMs);
    expect(queue.due).toBe(2);
    await clock.advance(10);
    expect(queue.due).toBe(0);
  });

  test('what is held back stays, and the next wake-up takes it', async () => {
    const clock = new VirtualClock(0);
    const queue = new WakeQueue(clock);
    const taken: string[] = [];
    const held = new Set(['a']);
    queue.ready$.subscribe(() => taken.push(...queue.take(held)));
    queue.wake('a');
    await clock.advance(100);
    expect([taken, clock.pending]).toEqual([[], 0]);
    held.delete('a');
    queue.wake('a', 50);
    await clock.advance(0);
    expect(taken).toEqual(['a']);
  });

  test('a time beyond the longest timer is waited for in parts', async () => {
    const { clock, queue, taken } = queueWithLog();
    const month = 30 * 86_400_000;
    queue.wake('a', month);
    await clock.advance(month);
    expect(taken.at(-1)).toEqual([month, ['a']]);
  });

  test('a wake-up before anyone listens is not lost', async () => {
    const clock = new VirtualClock(0);
    const queue = new WakeQueue(clock);
    queue.wake('a');
    const taken: string[] = [];
    queue.ready$.subscribe(() => taken.push(...queue.take()));
    await clock.advance(0);
    expect(taken).toEqual(['a']);
  });

  test('no timer is left when nobody listens', () => {
    const { clock, queue, subscription } = queueWithLog();
    queue.wake('a', 100);
    subscription.unsubscribe();
    expect(clock.pending).toBe(0);
  });
});

describe('coalesceMap', () => {
  test('a synchronous inner does not stall it', () => {
    const source = new Subject<void>();
    let runs = 0;
    const run = () => {
      runs += 1;
      return of(runs);
    };
    source.pipe(coalesceMap(run)).subscribe();
    source.next();
    source.next();
    expect(runs).toBe(2);
  });

  test('unsubscribing ends what runs', () => {
    const source = new Subject<void>();
    const inner = new Subject<void>();
    const subscription = source.pipe(coalesceMap(() => inner)).subscribe();
    source.next();
    subscription.unsubscribe();
    expect([source.observed, inner.observed]).toEqual([false, false]);
  });

  test('an inner that never ends is waited for', () => {
    const source = new Subject<void>();
    let runs = 0;
    source
      .pipe(
        coalesceMap(() => {
          runs += 1;
          return NEVER;
        }),
      )
      .subscribe();
    source.next();
    source.next();
    expect(runs).toBe(1);
  });
});

test('whatever the schedule: no wake-up is lost, no two passes run at once, no timer is left', async () => {
  const wakes = fc.array(
    fc.record({ key: fc.constantFrom('a', 'b', 'c'), afterMs: fc.nat(50), gapMs: fc.nat(30), passMs: fc.nat(40) }),
    { maxLength: 30 },
  );
  await fc.assert(
    fc.asyncProperty(wakes, async (plan) => {
      const clock = new VirtualClock(0);
      const queue = new WakeQueue(clock);
      const busy = new Set<string>();
      const seen = new Map<string, number>();
      let running = 0;
      let most = 0;
      let turn = 0;
      const sleep = (ms: number) => new Promise<void>((resolve) => clock.schedule(() => resolve(), ms));
      const pass = async () => {
        running += 1;
        most = Math.max(most, running);
        for (const key of queue.take(busy)) {
          seen.set(key, clock.now());
          if (turn >= plan.length) continue;
          // As an action: the key is held back until it ends, and is then woken.
          busy.add(key);
          clock.schedule(() => {
            busy.delete(key);
            queue.wake(key);
          }, 15);
        }
        await sleep(plan[turn % Math.max(plan.length, 1)]?.passMs ?? 0);
        running -= 1;
      };
      const subscription = queue.ready$.pipe(coalesceMap(() => pass())).subscribe();
      const due = new Map<string, number>();
      for (const { key, afterMs, gapMs } of plan) {
        turn += 1;
        queue.wake(key, afterMs);
        due.set(key, Math.max(due.get(key) ?? 0, clock.now()));
        await clock.advance(gapMs);
      }
      await clock.advance(1_000);
      expect(most).toBeLessThanOrEqual(1);
      for (const [key, at] of due) expect(seen.get(key)).toBeGreaterThanOrEqual(at);
      subscription.unsubscribe();
      expect([queue.size, clock.pending]).toEqual([0, 0]);
    }),
    { numRuns: 200 },
  );
});
