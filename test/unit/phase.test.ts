import { expect, test } from 'vitest';
import type { Phase } from '../../src/api/virtual-machine.ts';
import type { Decision } from '../../src/reconcile/decision.ts';
import type { GuestStatus } from '../../src/reconcile/observed.ts';
import { phaseOf } from '../../src/reconcile/phase.ts';
import { storedVm } from '../fakes/manifests.ts';
import { GONE, present } from '../fakes/subjects.ts';

const VM = storedVm();

function decision(reason: string, kind = 'wait'): { decision: Decision } {
  return { decision: { kind, reason, message: '' } as Decision };
}

test.each<[string, Phase]>([
  ['Provisioning', 'Provisioning'],
  ['ImageDownloading', 'Provisioning'],
  ['Starting', 'Starting'],
  ['CrashLoopBackOff', 'CrashLoopBackOff'],
  ['Stopped', 'Stopped'],
  ['GuestPoweredOff', 'Stopped'],
  ['PausedByOperator', 'Stopped'],
  ['HostShutdown', 'Stopped'],
  ['HostNotReady', 'Pending'],
])('without a process, %s is %s', (reason, phase) => {
  expect(phaseOf(VM, decision(reason), GONE)).toBe(phase);
});

test('without a process, what only a person can mend has failed', () => {
  expect(phaseOf(VM, decision('InvalidSpec', 'blocked'), GONE)).toBe('Failed');
  expect(phaseOf(VM, decision('PausedByOperator', 'blocked'), GONE)).toBe('Stopped');
});

test('an action that failed is told where no process is there, and only there', () => {
  const failed = { ...decision('Starting', 'act'), failure: { reason: 'LaunchFailed', message: '', nextAttemptAt: 0 } };
  expect(phaseOf(VM, failed, GONE)).toBe('Failed');
  expect(phaseOf(VM, failed, present('running'))).toBe('Running');
});

test.each<[GuestStatus, Phase]>([
  ['running', 'Running'],
  ['starting', 'Starting'],
  ['silent', 'Unknown'],
  ['not-asked', 'Unknown'],
  ['shutdown', 'Stopping'],
  ['guest-panicked', 'Failed'],
  ['internal-error', 'Failed'],
  ['paused', 'Paused'],
  ['io-error', 'Paused'],
])('with a process, a guest that is %s is %s', (guest, phase) => {
  expect(phaseOf(VM, decision('Stopped'), present(guest))).toBe(phase);
});

test('a process that is being ended is stopping, whatever its guest does', () => {
  for (const reason of ['Stopping', 'GuestIgnoresPowerdown'])
    expect(phaseOf(VM, decision(reason), present('running'))).toBe('Stopping');
});

test('a deletion is above all of it', () => {
  const ending = storedVm({}, { deletionTimestamp: '2026-01-05T11:00:00Z' });
  expect([GONE, present('running')].map((process) => phaseOf(ending, decision('Stopping'), process))).toEqual([
    'Terminating',
    'Terminating',
  ]);
});
