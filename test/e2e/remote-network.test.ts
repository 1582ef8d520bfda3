/** A host behind a network of its own, whose packets the kernel drops: some, or all without a word. */
import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { makeNamespace } from './support/namespace.ts';
import { isAlive, qemusBelow } from './support/process.ts';
import { RemotePlace } from './support/remote-place.ts';
import { until } from './support/wait.ts';

/** What is promised, and what a loaded machine may add. */
const UNKNOWN_MS = 15_000;
const MARGIN_MS = 3_000;
const HEALED_MS = 60_000;
const PATIENCE_MS = 300_000;

test('packets dropped without a reset: Unknown in time, nothing started or deleted, another host undelayed, all clears by itself', {
  timeout: PATIENCE_MS,
}, async ({ onTestFinished }) => {
  const network = makeNamespace(onTestFinished);
  const place = await RemotePlace.start(onTestFinished, network);
  await place.added('rack1');
  await place.rig.ok(['apply', '-f', place.rig.manifest('web-1', { hostName: 'rack1' })]);
  const { pid } = (await place.get('qvm/web-1')).status;
  await place.rig.controller(onTestFinished);
  await place.untilCondition('qvm/web-1', 'Ready', 'True Running');
  await place.untilConnected();
  const files = readdirSync(place.vmDir).sort();
  network.lose(1);
  const since = performance.now();
  await place.untilCondition('qvm/web-1', 'Ready', 'Unknown HostUnreachable');
  const took = performance.now() - since;
  console.log(`proof: dropped packets: Unknown after ${Math.round(took)} ms`);
  expect(took).toBeLessThan(UNKNOWN_MS + MARGIN_MS);
  await place.rig.ok(['apply', '-f', place.rig.manifest('here-1', { hostName: 'localhost' })]);
  await place.untilCondition('qvm/here-1', 'Ready', 'True Running');
  expect(await place.condition('qvm/web-1', 'Ready')).toBe('Unknown HostUnreachable');
  expect([qemusBelow(place.vmDir), readdirSync(place.vmDir).sort()]).toEqual([[pid], files]);
  network.heal();
  await place.untilCondition('qvm/web-1', 'Ready', 'True Running', HEALED_MS);
  await place.untilCondition('qhost/rack1', 'Ready', 'True Ready', HEALED_MS);
  expect((await place.get('qvm/web-1')).status.pid).toBe(pid);
  await place.rig.ok(['delete', 'qvm', 'web-1', 'here-1']);
  expect(isAlive(pid)).toBe(false);
});

test('2 % of the packets lost: a life goes on, and no machine is taken for Unknown', { timeout: PATIENCE_MS }, async ({
  onTestFinished,
}) => {
  const network = makeNamespace(onTestFinished);
  const place = await RemotePlace.start(onTestFinished, network);
  network.lose(0.02);
  await place.added('rack1');
  await place.rig.controller(onTestFinished);
  await place.rig.ok(['apply', '-f', place.rig.manifest('web-1', { hostName: 'rack1' })]);
  await place.untilCondition('qvm/web-1', 'Ready', 'True Running', HEALED_MS);
  const { pid } = (await place.get('qvm/web-1')).status;
  const seen = new Set<string>();
  const end = performance.now() + 20_000;
  await until(
    'time passes',
    async () => {
      seen.add(await place.condition('qvm/web-1', 'Ready'));
      return performance.now();
    },
    (now) => now > end,
  );
  expect([...seen]).toEqual(['True Running']);
  await place.rig.ok(['stop', 'web-1', '--force']);
  expect([isAlive(pid), qemusBelow(place.vmDir)]).toEqual([false, []]);
  await place.rig.ok(['start', 'web-1']);
  expect(qemusBelow(place.vmDir)).toHaveLength(1);
  await place.rig.ok(['delete', 'qvm', 'web-1']);
  expect(qemusBelow(place.vmDir)).toEqual([]);
});
