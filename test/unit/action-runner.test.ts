import { beforeEach, describe, expect, test } from 'vitest';
import { ConflictError } from '../../src/api/errors.ts';
import type { VmAction } from '../../src/reconcile/action.ts';
import { ActionRunner, type Outcome, type Served } from '../../src/reconcile/action-runner.ts';
import { EffectError, FencedError } from '../../src/reconcile/driver.ts';
import { allPromises, VirtualClock } from '../fakes/virtual-clock.ts';

const RESUME: VmAction = { type: 'resume' };
const NOTE: VmAction = { type: 'note-launch' };
const LAUNCH = { type: 'launch' } as VmAction;
const LIMITS = { maxActions: 3, maxLaunches: 2, failureBackoffMs: { first: 1_000, max: 8_000 } };

let clock = new VirtualClock(0);
let runner = new ActionRunner(clock, LIMITS);
beforeEach(() => {
  clock = new VirtualClock(0);
  runner = new ActionRunner(clock, LIMITS);
});

const served = (key = 'a'): Served => ({ key, uid: `uid-of-${key}`, generation: 1 });
const NEWER_SPEC = { ...served(), generation: 2 };
const NEXT_OF_THE_NAME = { ...served(), uid: 'another' };

async function run(action: VmAction, effect: () => Promise<void> = async () => undefined, key = 'a') {
  const outcomes: Outcome[] = [];
  runner.start({ ...served(key), action, seenAt: 5_000, effect }, (outcome) => outcomes.push(outcome));
  await allPromises();
  return outcomes;
}
const failing = (error: Error) => async () => Promise.reject(error);
const never = () => new Promise<void>(() => undefined);

describe('an action', () => {
  test('makes its VM busy until it ends, and tells so once', async () => {
    let end: () => void = () => undefined;
    const outcomes = await run(
      RESUME,
      () =>
        new Promise<void>((resolve) => {
          end = resolve;
        }),
    );
    expect([[...runner.busy], outcomes]).toEqual([['a'], []]);
    end();
    await allPromises();
    expect([[...runner.busy], outcomes]).toEqual([[], [{ ok: true, ms: 0 }]]);
  });

  test('waits while as many as may are under way', async () => {
    await run(LAUNCH, never, 'a');
    await run(LAUNCH, never, 'b');
    expect(runner.heldBack(served('c'), LAUNCH)).toEqual({ forMs: 1_000, isTold: false });
    expect(runner.heldBack(served('c'), RESUME)).toBeUndefined();
    await run(RESUME, never, 'c');
    expect(runner.heldBack(served('d'), RESUME)).toEqual({ forMs: 1_000, isTold: false });
  });

  test('that waits for room is told when it waits long, and whoever waits longest is next', async () => {
    for (const key of ['a', 'b']) await run(LAUNCH, never, key);
    for (const key of ['c', 'd', 'e']) runner.heldBack(served(key), LAUNCH);
    await clock.advance(2_999);
    expect(runner.heldBack(served('d'), LAUNCH)?.isTold).toBe(false);
    await clock.advance(1);
    expect(runner.heldBack(served('d'), LAUNCH)?.isTold).toBe(true);
    // Nothing is to be done for it any more.
    runner.rest('c');
    expect([runner.nextWaiting(), runner.nextWaiting(), runner.nextWaiting()]).toEqual(['d', 'e', undefined]);
  });
});

describe('a failure', () => {
  test('is tried again later and later, and says when by the clock of the host', async () => {
    const waits: (number | undefined)[] = [];
    for (let attempt = 0; attempt < 5; attempt += 1) {
      await run(RESUME, failing(new EffectError('DiskInUse', 'locked')));
      waits.push(runner.heldBack(served(), RESUME)?.forMs);
      await clock.advance(waits.at(-1) ?? 0);
      expect(runner.heldBack(served(), RESUME)).toBeUndefined();
    }
    expect(waits).toEqual([1_000, 2_000, 4_000, 8_000, 8_000]);
    expect(runner.failureOf(served(), RESUME)).toEqual({
      reason: 'DiskInUse',
      message: 'resume failed: locked',
      nextAttemptAt: 13_000,
    });
  });

  test('holds back neither another action, nor a newer spec, nor the next object of the name', async () => {
    await run(RESUME, failing(new Error('x')));
    expect(runner.heldBack(served(), NOTE)).toBeUndefined();
    expect(runner.heldBack(NEWER_SPEC, RESUME)).toBeUndefined();
    expect(runner.heldBack(NEXT_OF_THE_NAME, RESUME)).toBeUndefined();
    expect(runner.heldBack(served(), RESUME)).toEqual({ forMs: 1_000, isTold: true });
  });

  test('is history once nothing is to be done', async () => {
    await run(RESUME, failing(new Error('x')));
    runner.rest('a');
    expect([runner.heldBack(served(), RESUME), runner.failureOf(served(), RESUME)]).toEqual([undefined, undefined]);
  });

  test.each([new ConflictError('x'), new FencedError('x')])('%s is none: somebody else was faster', async (error) => {
    expect(await run(RESUME, failing(error))).toMatchObject([{ ok: false }]);
    expect([runner.heldBack(served(), RESUME), runner.failureOf(served(), RESUME)]).toEqual([undefined, undefined]);
  });
});

describe('the same again and again', () => {
  const loop = async (actions: readonly VmAction[], times: number) => {
    const at: number[] = [];
    for (let turn = 0; turn < times; turn += 1) {
      for (const action of actions) {
        await clock.advance(runner.heldBack(served(), action)?.forMs ?? 0);
        at.push(clock.now());
        await run(action);
        runner.rest('a');
      }
    }
    return at;
  };

  test('is slowed down, up to once a minute', async () => {
    const at = await loop([RESUME], 14);
    expect(at.slice(0, 6)).toEqual([0, 0, 0, 500, 1_500, 3_500]);
    expect((at[13] ?? 0) - (at[12] ?? 0)).toBe(60_000);
  });

  test('also in a circle of several actions', async () => {
    const at = await loop([RESUME, NOTE], 10);
    expect(at.at(-1)).toBeGreaterThan(30_000);
  });

  test('not when it pauses by itself, as the power button every 5 s', async () => {
    for (let turn = 0; turn < 20; turn += 1) {
      expect(runner.heldBack(served(), RESUME)).toBeUndefined();
      await run(RESUME);
      await clock.advance(5_000);
    }
  });

  test('neither a newer spec nor the next object of the name is slowed down', async () => {
    await loop([RESUME], 6);
    expect(runner.heldBack(NEWER_SPEC, RESUME)).toBeUndefined();
    expect(runner.heldBack(NEXT_OF_THE_NAME, RESUME)).toBeUndefined();
  });
});
