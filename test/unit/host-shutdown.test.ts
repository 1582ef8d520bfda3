/** A host that shuts down: who is stopped how, who stays off, and until when. */
import { describe, expect, test } from 'vitest';
import { hostShutdownOf, hostShutdownValue } from '../../src/api/host-shutdown.ts';
import { ANNOTATIONS } from '../../src/api/meta.ts';
import { decide } from '../../src/reconcile/decide.ts';
import { type Given, GONE, NOON, someEnd, someHost, subject } from '../fakes/subjects.ts';

const SECOND = 1_000;
const hostWith = (value: string) => someHost({}, { annotations: { [ANNOTATIONS.hostShutdown]: value } });
/** Shutting down in the boot that is seen, with this much time left. */
const ending = (leftSeconds = 300) => hostWith(hostShutdownValue('boot-1', NOON + leftSeconds * SECOND));
const decided = (given: Given): unknown => {
  const decision = decide(subject({ host: ending(), ...given }));
  if (decision.kind === 'act')
    return decision.action.type === 'stop'
      ? [decision.action.step, decision.action.reason]
      : (decision.action.type as unknown);
  return decision.kind === 'wait' ? [decision.reason, decision.forMs] : [decision.kind, decision.reason];
};

describe('the annotation', () => {
  test('counts for its boot alone', () => {
    expect(hostShutdownOf(ending(), 'boot-1')).toEqual({ untilMs: NOON + 300 * SECOND });
    expect(hostShutdownOf(ending(), 'boot-2')).toBeUndefined();
    expect(hostShutdownOf(someHost(), 'boot-1')).toBeUndefined();
  });

  test.each(['boot-1', 'boot-1/', 'boot-1/soon'])('%s: nothing bounds it', (value) => {
    expect(hostShutdownOf(hostWith(value), 'boot-1')).toEqual({ untilMs: Number.POSITIVE_INFINITY });
  });

  test.each(['', '/2026-01-05T12:00:00Z', 'true'])('%j is not about this boot', (value) => {
    expect(hostShutdownOf(hostWith(value), 'boot-1')).toBeUndefined();
  });
});

const asked = (secondsAgo: number, lastSecondsAgo = secondsAgo) => ({
  reason: 'HostShutdown' as const,
  at: NOON - secondsAgo * SECOND,
  powerdownAt: NOON - lastSecondsAgo * SECOND,
});
const soft = { powerOff: { mode: 'Soft' } };

describe('a VM that runs', () => {
  const long = { powerOff: { gracePeriodSeconds: 600 } };
  const rows: readonly (readonly [string, Given, unknown])[] = [
    ['is asked to power down', {}, ['powerdown', 'HostShutdown']],
    ['has its grace period', { stop: asked(28, 1) }, ['Stopping', 2 * SECOND]],
    ['is switched off after it', { stop: asked(30, 1) }, ['quit', 'HostShutdown']],
    ['has no more than the host has', { host: ending(2), stop: asked(10, 1), spec: long }, ['Stopping', 2 * SECOND]],
    [
      'is switched off when that is over',
      { host: ending(0), stop: asked(10, 1), spec: long },
      ['quit', 'HostShutdown'],
    ],
    ['is switched off even when nobody asked it yet', { host: ending(-1) }, ['quit', 'HostShutdown']],
    ['Hard is switched off at once', { spec: { powerOff: { mode: 'Hard' } } }, ['quit', 'HostShutdown']],
    [
      'Soft is waited for',
      { host: hostWith('boot-1'), stop: asked(60, 10), spec: soft },
      ['GuestIgnoresPowerdown', 20_000],
    ],
    [
      'Soft is waited for until the host ends',
      { host: ending(7), stop: asked(60, 10), spec: soft },
      ['GuestIgnoresPowerdown', 7_000],
    ],
    ['and then switched off', { host: ending(0), stop: asked(60, 10), spec: soft }, ['quit', 'HostShutdown']],
    ['a panicked guest cannot be asked', { process: 'guest-panicked' }, ['quit', 'HostShutdown']],
    ['a paused guest is not resumed for it', { process: 'paused' }, ['quit', 'HostShutdown']],
    ['that no launch explains is noted first', { launch: null, process: 'running' }, 'note-launch'],
    ['that came up unnoted is noted first', { launch: { state: 'starting' } }, 'note-launch'],
    [
      'and is wanted off is stopped by request',
      { spec: { powerState: 'PoweredOff' } },
      ['powerdown', 'StoppedByRequest'],
    ],
    [
      'and is wanted off has no more time than the host',
      { host: ending(0), spec: { powerState: 'PoweredOff' }, stop: { at: NOON, powerdownAt: NOON } },
      ['quit', 'StoppedByRequest'],
    ],
    [
      'that an annotation keeps from being touched is left',
      { annotations: { [ANNOTATIONS.paused]: '' } },
      ['blocked', 'PausedByOperator'],
    ],
    ['in the next boot runs on', { host: hostWith(hostShutdownValue('boot-0', NOON)) }, ['settled', 'Running']],
    ['is no longer stopped once the shutdown was taken back', { host: someHost(), stop: asked(1) }, 'withdraw-stop'],
  ];
  test.each(rows)('%s', (_sentence, given, expected) => {
    expect(decided(given)).toEqual(expected);
  });
});

test.each([
  ['quits at 2026-01-05T12:00:10Z', 10],
  ['quits at 2026-01-05T12:00:30Z', 30],
  ['waits for it', 300],
])('a Soft guest is told from one that the host ends: QEMU %s', (what, leftSeconds) => {
  const given = { host: ending(leftSeconds), spec: soft, stop: asked(0) };
  expect(decide(subject(given)).message).toBe(`the host is shutting down: the guest is powering down, QEMU ${what}`);
});

describe('a VM without a process', () => {
  const ended = (reason: 'HostShutdown' | 'GuestPoweredOff' | 'Crashed'): Given => ({
    launch: null,
    process: GONE,
    record: { end: someEnd(reason) },
  });
  const rows: readonly (readonly [string, Given, unknown])[] = [
    ['its end is noted', { process: GONE, stop: { reason: 'HostShutdown' } }, 'note-end'],
    ['is not started', ended('HostShutdown'), ['HostShutdown', 60_000]],
    ['is not started, never launched', { launch: null, process: GONE }, ['HostShutdown', 60_000]],
    [
      'is not started, whatever its policy',
      { ...ended('Crashed'), spec: { restartPolicy: 'Always' } },
      ['HostShutdown', 60_000],
    ],
    [
      'is not started, although a restart was asked for',
      { ...ended('Crashed'), spec: { restartedAt: 'b' } },
      ['HostShutdown', 60_000],
    ],
    ['that powered itself off stays off for that', ended('GuestPoweredOff'), ['settled', 'GuestPoweredOff']],
    ['starts in the next boot', { ...ended('HostShutdown'), seen: { bootID: 'boot-2' } }, 'launch'],
    [
      'starts in the next boot under every policy',
      { ...ended('HostShutdown'), seen: { bootID: 'boot-2' }, spec: { restartPolicy: 'Never' } },
      'launch',
    ],
    ['starts once the shutdown was taken back', { ...ended('HostShutdown'), host: someHost() }, 'launch'],
  ];
  test.each(rows)('%s', (_sentence, given, expected) => {
    expect(decided(given)).toEqual(expected);
  });

  test('says what it waits for', () => {
    expect(decide(subject({ host: ending(), ...ended('HostShutdown') }))).toMatchObject({
      message: 'the host is shutting down; the VM starts again at its next boot',
    });
  });
});
