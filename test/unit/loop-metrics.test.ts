import { expect, test } from 'vitest';
import { type LoopFact, LoopFigures } from '../../src/serve/loop-metrics.ts';
import { Exposition } from '../e2e/support/exposition.ts';

const LAUNCH = { type: 'launch' };
const ON = { host: 'rack1', vm: 'default/web-1' };

function heard(...facts: readonly LoopFact[]): Exposition {
  const figures = new LoopFigures();
  for (const fact of facts) figures.hear(fact);
  return new Exposition(figures.text());
}

const pass = (host: string, waiting: number): LoopFact => ({ type: 'pass', host, ms: 120, woken: 2, waiting });

test('before anything happened the figures are zero, not absent', () => {
  const seen = heard();
  expect(seen.all('controller_runtime_reconcile_total').map(({ value }) => value)).toEqual([0, 0]);
  expect(seen.value('controller_runtime_active_workers')).toBe(0);
});

test('passes, their time, who was woken and who waits', () => {
  const seen = heard(pass('rack1', 5), pass('rack1', 1), pass('rack2', 3));
  const of = { controller: 'host' };
  expect(seen.value('controller_runtime_reconcile_total', { ...of, result: 'success' })).toBe(3);
  expect(seen.text).toContain('controller_runtime_reconcile_time_seconds_count{controller="host"} 3\n');
  expect(seen.text).toContain('controller_runtime_reconcile_time_seconds_bucket{controller="host",le="0.1"} 0\n');
  expect(seen.text).toContain('controller_runtime_reconcile_time_seconds_bucket{controller="host",le="0.25"} 3\n');
  expect(seen.value('workqueue_adds_total', { name: 'host' })).toBe(6);
  expect(seen.value('qemu_operator_loop_hosts')).toBe(2);
  // Of each host as its last pass left it.
  expect(seen.value('workqueue_depth', { name: 'host' })).toBe(4);
});

test('actions under way, done and failed', () => {
  const seen = heard(
    { type: 'action', ...ON, action: LAUNCH },
    { type: 'action', host: 'rack1', vm: 'default/web-2', action: LAUNCH },
    { type: 'action', host: 'rack2', vm: 'default/web-3', action: LAUNCH },
    { type: 'done', ...ON, action: LAUNCH, ms: 700 },
    { type: 'failed', host: 'rack2', vm: 'default/web-3', action: LAUNCH },
    { type: 'failed', host: 'rack2', vm: '*' },
  );
  expect(seen.value('controller_runtime_active_workers')).toBe(1);
  expect(seen.value('qemu_operator_actions_total', { action: 'launch', result: 'success' })).toBe(1);
  expect(seen.value('qemu_operator_actions_total', { action: 'launch', result: 'error' })).toBe(1);
  expect(seen.text).toContain('qemu_operator_action_duration_seconds_sum{action="launch"} 0.7\n');
  expect(seen.value('controller_runtime_reconcile_errors_total')).toBe(2);
  expect(seen.value('controller_runtime_reconcile_total', { result: 'error' })).toBe(2);
});

test('a host whose loop ended has nothing under way and nobody who waits', () => {
  const seen = heard({ type: 'action', ...ON, action: LAUNCH }, pass('rack1', 5), { type: 'ended', host: 'rack1' });
  const names = ['controller_runtime_active_workers', 'workqueue_depth', 'qemu_operator_loop_hosts'];
  expect(names.map((name) => seen.value(name))).toEqual([0, 0, 0]);
});
