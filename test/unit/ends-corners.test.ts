/** Corners of ends: what counts as a crash, and what a record says of them. */
import { describe, expect, test } from 'vitest';
import { decide } from '../../src/reconcile/decide.ts';
import { backoffMs, isCrash, isExitReason, staysOff } from '../../src/reconcile/ends.ts';
import { type Given, GONE, NOON, PID, someEnd, subject } from '../fakes/subjects.ts';

/** How long after a powerdown a guest's end is still its answer. */
const FOLLOWS_MS = 300_000;
const ABSENT: Given = { launch: null, process: GONE };

describe('the end of a process', () => {
  const noted = (given: Given) => decide(subject({ process: GONE, ...given }));

  test('what counts as a crash', () => {
    const reasons = ['Crashed', 'Signaled', 'GuestPanicked', 'InternalError', 'StoppedExternally'] as const;
    expect(reasons.map(isCrash)).toEqual([true, true, true, true, true]);
    const others = ['StoppedByRequest', 'HostShutdown', 'HostRebooted', 'GuestPoweredOff'] as const;
    expect(others.map(isCrash)).toEqual([false, false, false, false]);
  });

  test('a stop that was asked for is no crash, under Always neither', () => {
    expect(noted({ spec: { restartPolicy: 'Always' }, stop: {} })).toMatchObject({
      reason: 'Stopped',
      action: { type: 'note-end', reason: 'StoppedByRequest', crashes: 0 },
    });
  });

  test.each([
    ['it never was', { at: NOON - 3_600_000 }, 'StoppedByRequest'],
    ['just before', { at: NOON - 3_600_000, powerdownAt: NOON - FOLLOWS_MS + 1, withdrawn: true }, 'StoppedByRequest'],
    ['long before', { at: NOON, powerdownAt: NOON - FOLLOWS_MS, withdrawn: true }, 'GuestPoweredOff'],
    ['before it asked, just now', { at: NOON - 1, withdrawn: true }, 'StoppedByRequest'],
  ] as const)('a stop was withdrawn: %s', (_when, stop, reason) => {
    expect(noted({ stop })).toMatchObject({ action: { reason } });
  });

  test('a launch that never noted its pid takes any stop marker', () => {
    expect(noted({ launch: { pid: undefined, startTicks: undefined }, stop: { pid: 1 } })).toMatchObject({
      action: { reason: 'StoppedByRequest' },
    });
    expect(noted({ stop: { ...PID, pid: 1 } })).toMatchObject({ action: { reason: 'GuestPoweredOff' } });
  });

  test.each([
    [0, undefined],
    [3, someEnd('Crashed', { crashes: 3 })],
  ])('a launch that never came up keeps the count of crashes: %d', (crashes, end) => {
    expect(noted({ launch: { state: 'starting' }, record: { ...(end === undefined ? {} : { end }) } })).toMatchObject({
      action: {
        type: 'note-end',
        reason: 'StoppedByRequest',
        message: 'a launch was interrupted before QEMU came up',
        crashes,
      },
    });
  });

  test('a start after a stop that was asked for is no restart by policy', () => {
    const given = subject({ ...ABSENT, record: { end: someEnd('StoppedByRequest') } });
    expect(decide(given)).toMatchObject({ action: { type: 'launch', restart: false } });
  });

  test('nor is it waited for, whatever crashed before', () => {
    const given = subject({ ...ABSENT, record: { end: someEnd('StoppedByRequest', { crashes: 9, at: NOON }) } });
    expect(decide(given)).toMatchObject({ action: { type: 'launch' } });
  });

  test('an end that was asked for keeps nothing off', () => {
    const ends = ['StoppedByRequest', 'HostShutdown', 'Crashed'] as const;
    expect(ends.map((end) => staysOff('Never', end))).toEqual([false, false, true]);
  });

  test('the word of a status is an end, or is none', () => {
    expect(['Crashed', 'GuestPoweredOff', 'crashed', '', undefined].map((word) => isExitReason(word))).toEqual([
      true,
      true,
      false,
      false,
      false,
    ]);
  });

  test('an internal error is written into the stop marker', () => {
    expect(decide(subject({ process: 'internal-error' }))).toMatchObject({ action: { reason: 'InternalError' } });
  });

  test('the spread of a back-off hangs on every character of the uid', () => {
    expect([backoffMs(3, 'a'), backoffMs(3, 'ab'), backoffMs(3, 'ba')]).toEqual([40_388, 40_420, 40_540]);
  });
});
