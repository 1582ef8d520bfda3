/** What a plan foretells is what the loop does: after any sequence of edits and ends, on the real loop. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { ProcessFate } from '../../src/api/foreseen.ts';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { planObject } from '../../src/reconcile/plan.ts';
import { disksOf } from '../fakes/life.ts';
import { folderOf, Simulation } from '../fakes/simulation.ts';

/** Longer than every back-off. */
const CALM_MS = 700_000;
/** A busy machine sees fewer lives, at its own pace. */
const LIMIT_MS = 6_000;
const RUNS = Number(process.env['RUNS'] ?? 60);

const KEY = `ssh-ed25519 ${'A'.repeat(68)}`;

type Fields = Readonly<Record<string, unknown>>;

const edit = fc.oneof(
  fc.record({ powerState: fc.constantFrom('PoweredOn', 'PoweredOff', 'ForcedOff') }),
  fc.record({ restartPolicy: fc.constantFrom('Always', 'OnFailure', 'Never') }),
  fc.record({ updateStrategy: fc.record({ type: fc.constantFrom('OnRestart', 'Restart') }) }),
  fc.record({ restartedAt: fc.constantFrom('a', 'b', 'c') }),
  fc.record({ vcpus: fc.constantFrom(1, 2, 3) }),
  fc.record({ memory: fc.constantFrom('1Gi', '1024Mi', '2Gi') }),
  fc.record({ networks: fc.constantFrom([], [{ name: 'lan', user: {} }], [{ name: 'net0', user: {} }], null) }),
  fc.record({
    cloudInit: fc.constantFrom<Fields | null>(
      null,
      { hostname: 'a', userData: null, userDataSecretRef: null },
      { user: 'ada', userData: null, userDataSecretRef: null },
      { user: null },
      { hostname: null, userData: 'x', userDataSecretRef: null },
      { userData: 'y', userDataSecretRef: null, sshAuthorizedKeys: [KEY] },
      { userData: null, userDataSecretRef: { name: 'web-1', key: 'user-data' } },
    ),
  }),
  fc.record({ graphics: fc.constantFrom({}, { vnc: {} }, null) }),
  fc.record({ powerOff: fc.record({ mode: fc.constantFrom('Hard', 'TrySoft') }) }),
  fc.record({ disks: fc.tuple(fc.boolean(), fc.constantFrom(1, 2)).map(([data, gi]) => disksOf(data, gi)) }),
  fc.record({ vcpus: fc.constantFrom(1, 2), powerState: fc.constantFrom('PoweredOn', 'PoweredOff') }),
  fc.record({ vcpus: fc.constantFrom(1, 2), restartedAt: fc.constantFrom('a', 'b') }),
) as fc.Arbitrary<Fields>;

const step = fc.oneof(
  { weight: 5, arbitrary: edit.map((spec) => ({ type: 'edit' as const, spec })) },
  {
    weight: 1,
    arbitrary: fc.record({ type: fc.constant('end' as const), how: fc.constantFrom('powerdown', 'crash') }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('paused' as const), on: fc.boolean() }) },
);

type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

const ENDS: Step = { type: 'end', how: 'powerdown' };
const RESTARTS: Step = { type: 'edit', spec: { updateStrategy: { type: 'Restart' } } };
const CPUS: Step = { type: 'edit', spec: { vcpus: 3 } };
/** What chance meets too seldom. */
const EXAMPLES: [Step[]][] = [
  [[ENDS, CPUS, { type: 'edit', spec: { restartPolicy: 'Always' } }]],
  [[{ type: 'edit', spec: { restartPolicy: 'Never' } }, { type: 'end', how: 'crash' }, CPUS]],
  [[CPUS, { type: 'edit', spec: { vcpus: 2 } }, CPUS, RESTARTS]],
  [[{ type: 'paused', on: true }, CPUS, RESTARTS, { type: 'paused', on: false }, { type: 'edit', spec: { vcpus: 1 } }]],
];

test('the fate of the process, and what is left waiting, are foretold', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 14 }), async (steps) => {
      const simulation = await Simulation.withHost();
      try {
        simulation.world.addFile('/data/existing.qcow2');
        simulation.secret = 'z';
        simulation.startController();
        await simulation.createVm({ disks: disksOf(false, 1), powerOff: { gracePeriodSeconds: 10 } });
        await simulation.pass(CALM_MS);
        for (const one of steps) {
          if (one.type === 'edit') {
            await compare(simulation, one.spec);
            continue;
          }
          const running = simulation.world.processIn(folderOf());
          if (one.type === 'paused') await simulation.annotate('paused', one.on ? '' : null);
          else if (running !== undefined) simulation.world.end(running, one.how);
          await simulation.pass(CALM_MS);
        }
      } finally {
        await simulation.end();
      }
    }),
    { numRuns: RUNS, interruptAfterTimeLimit: LIMIT_MS, examples: EXAMPLES },
  );
});

async function compare(simulation: Simulation, spec: Fields): Promise<void> {
  const old = await settled(simulation);
  const { store, world } = simulation;
  const attempt = store.patch('VirtualMachine', old.metadata, { spec }, { dryRun: true });
  const next = await attempt.catch(() => undefined);
  if (next === undefined) {
    await expect(simulation.edit({ spec })).rejects.toThrow();
    return;
  }
  const plan = planObject(old, next, await simulation.host());
  const before = { process: world.processIn(folderOf()), launches: simulation.count('launch') };
  await simulation.edit({ spec });
  await simulation.pass(CALM_MS);
  const after = world.processIn(folderOf());
  const launches = simulation.count('launch') - before.launches;
  const words = `${JSON.stringify(spec)} after ${JSON.stringify(old.spec)}`;
  expect(plan.process, words).toBe(fateOf(before.process, after, launches));
  const pending = (await settled(simulation)).status?.pendingChanges ?? [];
  if (plan.process === 'kept') expect([...plan.waiting].sort(), words).toEqual(pending.map(({ path }) => path).sort());
}

async function settled(simulation: Simulation): Promise<VirtualMachine> {
  const vm = await simulation.vm();
  if (vm === undefined) throw new Error('the VM is gone');
  return vm;
}

function fateOf(before: unknown, after: unknown, launches: number): ProcessFate {
  if (before === undefined) return after === undefined ? 'none' : 'started';
  if (after === undefined) return 'stopped';
  return launches === 0 ? 'kept' : 'restarted';
}
