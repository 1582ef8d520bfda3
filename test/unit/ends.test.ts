import { describe, expect, test } from 'vitest';
import { decide } from '../../src/reconcile/decide.ts';
import type { SeenVm } from '../../src/reconcile/decision.ts';
import { backoffMs, classifyEnd } from '../../src/reconcile/ends.ts';
import type { SeenFolder } from '../../src/reconcile/observed.ts';
import type { LaunchRecord } from '../../src/reconcile/record.ts';
import { type Given, GONE, NOON, PID, someEnd, subject } from '../fakes/subjects.ts';

const LEFT = { kind: 'absent', pidfileLeft: true } as const;
const stop = (reason: 'StoppedByRequest' | 'HostShutdown' | 'GuestPanicked', fields: object = {}) => ({
  reason,
  ...PID,
  at: NOON,
  ...fields,
});

describe('how a process ended', () => {
  const rows: readonly (readonly [string, Partial<SeenFolder>, Partial<SeenVm>, string])[] = [
    ['our stop marker says that it was asked to', { stop: stop('StoppedByRequest') }, {}, 'StoppedByRequest'],
    [
      'our stop marker wins over a pidfile that is left',
      { stop: stop('StoppedByRequest'), process: LEFT },
      {},
      'StoppedByRequest',
    ],
    [
      'the service stopped it with the host',
      { stop: stop('HostShutdown'), process: LEFT },
      { bootID: 'boot-2' },
      'HostShutdown',
    ],
    ['we ended a panicked guest', { stop: stop('GuestPanicked') }, {}, 'GuestPanicked'],
    [
      'a stop marker of an earlier process says nothing',
      { stop: stop('StoppedByRequest', { pid: 1 }) },
      {},
      'GuestPoweredOff',
    ],
    [
      'a stop marker of an earlier process with the same pid says nothing',
      { stop: stop('StoppedByRequest', { startTicks: 1 }) },
      {},
      'GuestPoweredOff',
    ],
    ['a pidfile is left, same boot', { process: LEFT }, {}, 'Crashed'],
    [
      'a pidfile is left, same boot, whatever the log says',
      { process: LEFT, logTail: 'terminating on signal 15' },
      {},
      'Crashed',
    ],
    ['a pidfile is left, another boot', { process: LEFT }, { bootID: 'boot-2' }, 'HostRebooted'],
    ['the log ends with a signal', { logTail: 'a\nqemu: terminating on signal 15 from pid 1\n' }, {}, 'Signaled'],
    ['the log mentions a signal earlier', { logTail: 'terminating on signal 15\nb\n' }, {}, 'GuestPoweredOff'],
    ['somebody was heard to end it through its monitor', {}, { heard: 'StoppedExternally' }, 'StoppedExternally'],
    ['the guest was heard to power off', {}, { heard: 'GuestPoweredOff' }, 'GuestPoweredOff'],
    ['nothing at all', {}, {}, 'GuestPoweredOff'],
  ];
  test.each(rows)('%s', (_sentence, folder, seen, expected) => {
    const given = subject({ process: GONE, folder, seen });
    const state = given.seen.folder?.record;
    const launch = state?.kind === 'readable' ? state.record.launch : undefined;
    expect(classifyEnd(launch as LaunchRecord, given.seen).reason).toBe(expected);
  });

  test('a power-off that nobody heard says so', () => {
    expect(decide(subject({ process: GONE }))).toMatchObject({
      message: 'the guest powered itself off (or a monitor command that nobody heard ended QEMU)',
    });
  });
});

describe('crashes in a row', () => {
  const crashesAfter = (given: Given) => decide(subject({ process: LEFT, ...given }));
  const series = { end: someEnd('Crashed', { crashes: 3 }) };
  const rows: readonly (readonly [string, Given, number])[] = [
    ['the first', {}, 1],
    ['another soon after', { record: series, launch: { at: NOON - 599_999 } }, 4],
    ['another after ten minutes of running is the first again', { record: series, launch: { at: NOON - 600_000 } }, 1],
    [
      'another of a new spec is the first again',
      { record: { end: someEnd('Crashed', { crashes: 3, digest: 'x' }) }, launch: { at: NOON - 1 } },
      1,
    ],
    ['a reboot of the host is none', { record: series, launch: { at: NOON - 1 }, seen: { bootID: 'boot-2' } }, 0],
    ['a power-off is none', { process: GONE, record: series, launch: { at: NOON - 1 } }, 0],
    [
      'a power-off under Always counts',
      { process: GONE, record: series, launch: { at: NOON - 1 }, spec: { restartPolicy: 'Always' } },
      4,
    ],
    ['one of a process that came up unnoted', { launch: { state: 'starting' } }, 1],
  ];
  test.each(rows)('%s', (_sentence, given, crashes) => {
    expect(crashesAfter(given)).toMatchObject({ action: { type: 'note-end', crashes } });
  });
});

describe('back-off', () => {
  test('none before the first new start, then 10 s x n², at most 300 s', () => {
    expect([0, 1, 2, 3, 4, 5, 6, 7, 50].map((crashes) => backoffMs(crashes, ''))).toEqual([
      0, 0, 10_000, 40_000, 90_000, 160_000, 250_000, 300_000, 300_000,
    ]);
  });

  test('VMs of one event are spread by up to a tenth, each always by the same', () => {
    const spread = ['a', 'b', 'uid-1', 'uid-2'].map((uid) => backoffMs(3, uid));
    expect(new Set(spread).size).toBe(4);
    expect(Math.min(...spread)).toBeGreaterThanOrEqual(40_000);
    expect(Math.max(...spread)).toBeLessThanOrEqual(44_000);
    expect(backoffMs(3, 'a')).toBe(backoffMs(3, 'a'));
  });

  const waiting = (end: object, given: Given = {}) =>
    decide(
      subject({ launch: null, process: GONE, record: { end: someEnd('Crashed', { crashes: 2, ...end }) }, ...given }),
    );

  test('it waits, and says until when; the sentence stays the same from look to look', () => {
    const early = waiting({ at: NOON });
    const later = waiting({ at: NOON }, { seen: { at: NOON + 4_000 } });
    expect(early).toMatchObject({ kind: 'wait', reason: 'CrashLoopBackOff' });
    expect(early.message).toMatch(/^QEMU crashed 2 times in a row; starts again at 2026-01-05T12:00:1\dZ$/);
    expect(later.message).toBe(early.message);
  });

  const rows: readonly (readonly [string, object, Given])[] = [
    ['it is over', { at: NOON - 12_000 }, {}],
    ['the first crash', { crashes: 1, at: NOON }, {}],
    ['another spec', { at: NOON }, { spec: { vcpus: 7 } }],
    ['another nonce', { at: NOON }, { spec: { restartedAt: 'b' } }],
    ['a clock that was set back behind the end', { at: NOON + 3_600_000 }, {}],
  ];
  test.each(rows)('it ends at once: %s', (_sentence, end, given) => {
    expect(waiting(end, given)).toMatchObject({ kind: 'act', action: { type: 'launch' } });
  });

  test('off and on again ends it', () => {
    const record = { end: someEnd('Crashed', { crashes: 5, at: NOON }), off: true };
    expect(decide(subject({ launch: null, process: GONE, record }))).toMatchObject({
      action: { type: 'launch', restart: false },
    });
  });
});
