import { describe, expect, test } from 'vitest';
import { decide } from '../../src/reconcile/decide.ts';
import type { GuestStatus, SeenAgent, SeenProcess } from '../../src/reconcile/observed.ts';
import { type Given, GONE, NOON, present, subject } from '../fakes/subjects.ts';

const SECOND = 1_000;
const off = (given: Given = {}, powerOff: object = {}): unknown => {
  const decision = decide(subject({ ...given, spec: { powerState: 'PoweredOff', powerOff, ...given.spec } }));
  if (decision.kind === 'act') return decision.action.type === 'stop' ? decision.action.step : decision.action.type;
  return decision.kind === 'wait' ? [decision.reason, decision.forMs] : decision.kind;
};
const asked = (secondsAgo: number, lastSecondsAgo = secondsAgo): Given => ({
  stop: { at: NOON - secondsAgo * SECOND, powerdownAt: NOON - lastSecondsAgo * SECOND },
});
const since = (step: 'quitAt' | 'terminateAt', secondsAgo: number): Given => ({
  stop: { at: NOON - 60 * SECOND, powerdownAt: NOON - 60 * SECOND, [step]: NOON - secondsAgo * SECOND },
});

describe('TrySoft', () => {
  const rows: readonly (readonly [string, Given, unknown])[] = [
    ['first the guest is asked', {}, 'powerdown'],
    ['a marker of an earlier process does not count', { stop: { pid: 1, powerdownAt: NOON } }, 'powerdown'],
    ['then it has time, until it is asked again', asked(2), ['Stopping', 3 * SECOND]],
    ['it is asked every 5 s', asked(5), 'powerdown'],
    ['it has no more than its grace period', asked(28, 1), ['Stopping', 2 * SECOND]],
    ['then QEMU quits', asked(30, 1), 'quit'],
    ['which takes a moment', since('quitAt', 2), ['Stopping', 3 * SECOND]],
    ['else SIGTERM', since('quitAt', 5), 'terminate'],
    ['which takes a moment too', since('terminateAt', 2), ['Stopping', 3 * SECOND]],
    ['else SIGKILL', since('terminateAt', 5), 'kill'],
    [
      'a clock set back shortens no grace period',
      { stop: { at: NOON + 3_600_000, powerdownAt: NOON + 3_600_000 } },
      'powerdown',
    ],
  ];
  test.each(rows)('%s', (_sentence, given, expected) => {
    expect(off(given)).toEqual(expected);
  });

  test.each<GuestStatus>(['paused', 'io-error', 'guest-panicked', 'internal-error', 'shutdown'])(
    'a guest that is %s cannot react: QEMU quits',
    (process) => {
      expect(off({ process })).toBe('quit');
    },
  );

  test('the sentence names the moment of the end, and stays the same meanwhile', () => {
    const say = (at: number) =>
      decide(
        subject({
          spec: { powerState: 'PoweredOff' },
          stop: { at: NOON, powerdownAt: NOON },
          seen: { at },
        }),
      ).message;
    expect(say(NOON + 1_000)).toBe(
      'powerState is PoweredOff: the guest is powering down, QEMU quits at 2026-01-05T12:00:30Z',
    );
    expect(say(NOON + 4_000)).toBe(say(NOON + 1_000));
  });
});

describe('Soft', () => {
  const soft = (given: Given) => off(given, { mode: 'Soft' });
  const rows: readonly (readonly [string, Given, unknown])[] = [
    ['asks', {}, 'powerdown'],
    ['asks again', asked(5), 'powerdown'],
    ['never quits; the guest ignores it', asked(60, 10), ['GuestIgnoresPowerdown', 20 * SECOND]],
    ['and is asked every 30 s', asked(60, 30), 'powerdown'],
    ['ForcedOff overrides', { ...asked(60, 10), spec: { powerState: 'ForcedOff' } }, 'quit'],
  ];
  test.each(rows)('%s', (_sentence, given, expected) => {
    expect(soft(given)).toEqual(expected);
  });
});

describe('a guest with an agent', () => {
  const asks = (agent: SeenAgent, given: Given = {}) => {
    const spec = { powerState: 'PoweredOff' };
    const decision = decide(
      subject({ spec, process: { ...(present('running') as object), agent } as SeenProcess, ...given }),
    );
    return decision.kind === 'act' ? decision.action : decision.kind;
  };
  const powerdown = { type: 'stop', step: 'powerdown', reason: 'StoppedByRequest' };

  test('is asked by it first, and by the button too if it is still there', () => {
    expect(asks({ kind: 'connected' })).toEqual({ ...powerdown, agent: 'first' });
    expect(asks({ kind: 'connected' }, asked(5))).toEqual({ ...powerdown, agent: 'too' });
    expect(asks({ kind: 'connected' }, { stop: { pid: 1, powerdownAt: NOON } })).toEqual({
      ...powerdown,
      agent: 'first',
    });
  });
  test('that does not answer is asked by the button alone', () => {
    expect(asks({ kind: 'mute', reason: 'GuestAgentSilent' })).toEqual(powerdown);
    expect(asks({ kind: 'closed' })).toEqual(powerdown);
  });
  test('is not asked where there is no grace', () => {
    const spec = { powerState: 'ForcedOff' };
    expect(asks({ kind: 'connected' }, { spec })).toEqual({ type: 'stop', step: 'quit', reason: 'StoppedByRequest' });
  });
  test('is asked anew when the clock was set back', () => {
    const stop = { at: NOON + 3_600_000, powerdownAt: NOON + 3_600_000 };
    expect(asks({ kind: 'connected' }, { stop })).toEqual({ ...powerdown, afresh: true, agent: 'too' });
  });
});

describe('without grace', () => {
  test('Hard quits at once', () => {
    expect(off({}, { mode: 'Hard' })).toBe('quit');
  });
  test('ForcedOff quits at once', () => {
    expect(off({ spec: { powerState: 'ForcedOff' } })).toBe('quit');
  });
  test('a silent monitor is not asked: SIGTERM, then SIGKILL', () => {
    const spec = { powerState: 'ForcedOff' };
    expect(off({ spec, process: 'silent' })).toBe('terminate');
    expect(off({ spec, process: 'silent', ...since('terminateAt', 5) })).toBe('kill');
  });
  test('a panicked guest is ended with the reason in the marker', () => {
    expect(decide(subject({ process: 'guest-panicked' }))).toMatchObject({
      action: { type: 'stop', step: 'quit', reason: 'GuestPanicked' },
    });
  });
  test('a deletion asks the guest as any stop does', () => {
    const metadata = { deletionTimestamp: '2026-01-05T11:00:00Z' };
    expect(decide(subject({ metadata }))).toMatchObject({ action: { type: 'stop', step: 'powerdown' } });
  });
});

describe('wanted on again before it was off', () => {
  const begun = { at: NOON - 3_600_000, powerdownAt: NOON - 3_600_000 };

  test('the stop is withdrawn', () => {
    expect(decide(subject({ stop: begun, process: 'running' }))).toMatchObject({ action: { type: 'withdraw-stop' } });
  });

  test('a later stop has its whole grace period', () => {
    expect(off({ stop: { ...begun, withdrawn: true } })).toBe('powerdown');
  });

  test.each([
    ['a guest that follows the powerdown all the same', NOON - 60_000, 'StoppedByRequest'],
    ['a guest that powers itself off long after', NOON - 3_600_000, 'GuestPoweredOff'],
  ])('%s', (_sentence, powerdownAt, reason) => {
    const decision = decide(subject({ stop: { at: powerdownAt, powerdownAt, withdrawn: true }, process: GONE }));
    expect(decision).toMatchObject({ action: { type: 'note-end', reason } });
  });
});
