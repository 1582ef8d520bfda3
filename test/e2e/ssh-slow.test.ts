/** A host that is far away: 200 ms for each round trip, and a network that stands still, is narrow, or breaks. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { liveThere } from './support/far-life.ts';
import { argumentOf, isAlive, qemusBelow } from './support/process.ts';
import { PassingShell, RemoteRig } from './support/remote-rig.ts';
import { readyOf } from './support/rig.ts';
import type { LinkOptions } from './support/slow-link.ts';
import { until } from './support/wait.ts';

const NAME = 'web-1';
const PATIENCE_MS = 120_000;
/** Both ways together: 200 ms. */
const FAR: LinkOptions = { latencyMs: 100 };
const STALL_MS = 3_000;

/** So slow that everything else is quick: what takes time is a round trip. */
const SLOW_MS = 1_600;
/** Two more than it should be: each step that only changes the object is followed by a look of its own. */
const MAX_CALLS = 10;

test('the first inventory takes three round trips once it is connected', async () => {
  const far = await RemoteRig.start(onTestFinished);
  far.run(onTestFinished, (remote) => {
    remote.connection$.subscribe(() => {
      far.link.latencyMs = SLOW_MS / 2;
    });
    return new PassingShell(remote);
  });
  await until(
    'it is seen',
    () => far.looks.length,
    (count) => count > 0,
    60_000,
  );
  const [first] = far.looks;
  const took = (first?.at ?? 0) - (far.connectedAt ?? 0);
  console.log(`proof: far host: ${(took / SLOW_MS).toFixed(2)} round trips to the first inventory`);
  expect(first?.look).toMatchObject({ kind: 'seen', host: { facts: { architecture: 'x86_64' } } });
  expect(Math.floor(took / SLOW_MS)).toBeLessThanOrEqual(3);
});

test('a VM that starts takes few calls', async () => {
  const far = await RemoteRig.start(onTestFinished);
  far.run(onTestFinished);
  await until(
    'it rests',
    () => far.rig.events.filter(({ type }) => type === 'pass').length,
    (passes) => passes >= 2,
  );
  const before = far.runs;
  await far.create(NAME);
  await far.rig.untilRunning(NAME, PATIENCE_MS);
  const calls = far.runs - before;
  console.log(`proof: far host: ${calls} calls from create to Running`);
  expect(calls).toBeLessThanOrEqual(MAX_CALLS);
});

interface Lived {
  readonly act: string;
  readonly phase: string | undefined;
  readonly reason: string | undefined;
  readonly files: readonly string[];
  readonly qemus: number;
  readonly actions: readonly string[];
}

/** Create, start, modify, stop, delete. */
async function live(network: LinkOptions, disturb: (far: RemoteRig) => () => void): Promise<Lived[]> {
  const far = await RemoteRig.start(onTestFinished, network);
  const { rig } = far;
  far.run(onTestFinished);
  const undisturb = disturb(far);
  const lived: Lived[] = [];
  const rest = async (act: string) => {
    const vm = await rig.store.get('VirtualMachine', { namespace: 'default', name: NAME });
    const folder = rig.folder(NAME);
    lived.push({
      act,
      phase: vm?.status?.phase,
      reason: vm && readyOf(vm)?.reason,
      files: existsSync(folder) ? readdirSync(folder).sort() : [],
      qemus: qemusBelow(folder).length,
      actions: rig.actions(NAME),
    });
  };
  await liveThere(far, {
    name: NAME,
    patienceMs: PATIENCE_MS,
    rest,
    onRunning: (pid) => expect([isAlive(pid), argumentOf(pid, '-name')]).toEqual([true, expect.stringContaining(NAME)]),
  });
  undisturb();
  expect(readdirSync(join(rig.root, 'images'))).toEqual([`${NAME}.raw`]);
  return lived;
}

test('a whole life far away, on a narrow link that stalls again and again, ends as it does nearby', {
  timeout: 300_000,
}, async () => {
  const nearby = await live({}, () => () => undefined);
  let stalls = 0;
  const far = await live({ ...FAR, bytesPerSecond: 64 * 1024 }, ({ link, looks }) => {
    const timer = setInterval(() => {
      if (looks.length === 0) return;
      stalls += 1;
      void link.stall(STALL_MS);
    }, 2 * STALL_MS);
    return () => clearInterval(timer);
  });
  console.log(`proof: far host: ${stalls} stalls of ${STALL_MS} ms in a life`);
  expect(stalls).toBeGreaterThan(2);
  expect(far).toEqual(nearby);
});
