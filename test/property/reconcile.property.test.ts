/** Whatever happens, once it stops happening the VM becomes what its spec says, and stays so. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { disksOf, happen, heal, type LifeEvent, lifeEvent, repair } from '../fakes/life.ts';
import { complaints } from '../fakes/satisfies.ts';
import { Simulation } from '../fakes/simulation.ts';

/** Longer than every back-off. */
const CALM_MS = 700_000;
const TEN_RESYNCS_MS = 600_000;

const KILLED: LifeEvent = { type: 'operator', what: 'killed' };
/** A busy machine sees fewer lives, at its own pace. */
const LIMIT_MS = 6_000;
const RUNS = Number(process.env['RUNS'] ?? 70);

async function begin(): Promise<Simulation> {
  const simulation = await Simulation.withHost();
  simulation.world.addFile('/data/existing.qcow2');
  simulation.startController();
  await simulation.createVm({ disks: disksOf(false, 1), powerOff: { gracePeriodSeconds: 10 } });
  // The vmDir is claimed: from now on it is known to be a mount.
  await simulation.pass(10);
  return simulation;
}

async function live(events: readonly LifeEvent[]): Promise<Simulation> {
  const simulation = await begin();
  for (const event of events) await happen(event, simulation);
  await heal(simulation);
  await simulation.pass(CALM_MS);
  return simulation;
}

/** The hidden file systems and lost disks of this one never come back. */
test('what was lost is never made anew, and nothing is done below a mount', async () => {
  const loss = fc.constantFrom<LifeEvent>({ type: 'lose-disk' }, { type: 'world', what: 'unmounted' });
  const lives = fc.tuple(fc.array(lifeEvent, { maxLength: 6 }), loss, fc.array(lifeEvent, { maxLength: 6 }));
  await fc.assert(
    fc.asyncProperty(lives, async ([before, lost, after]) => {
      const simulation = await begin();
      try {
        await simulation.pass(10_000);
        for (const event of [...before, lost, ...after, KILLED]) {
          // A deletion is the owner's word, and what follows it is another VM.
          if (event.type !== 'delete' && event.type !== 'create') await happen(event, simulation);
        }
        await simulation.pass(65_000);
        await heal(simulation);
        await simulation.pass(CALM_MS);
        expect(simulation.world.violations).toEqual([]);
        expect(simulation.world.made).toHaveLength(1);
        if (lost.type === 'lose-disk') {
          const ready = (await simulation.vm())?.status?.conditions?.find(({ type }) => type === 'Ready');
          expect(ready).not.toMatchObject({ reason: 'Running' });
        }
      } finally {
        await simulation.end();
      }
    }),
    { numRuns: RUNS, interruptAfterTimeLimit: LIMIT_MS },
  );
});

test('after any life a VM settles as its spec wants, and is then left alone', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(lifeEvent, { maxLength: 20 }), async (events) => {
      const simulation = await live(events);
      try {
        expect(await complaints(simulation)).toEqual([]);
        const before = [await simulation.revision(), simulation.journal.length];
        await simulation.pass(TEN_RESYNCS_MS);
        expect([await simulation.revision(), simulation.journal.length]).toEqual(before);
      } finally {
        await simulation.end();
      }
    }),
    { numRuns: RUNS, interruptAfterTimeLimit: LIMIT_MS },
  );
});

test('a host that shuts down ends with nothing running, and what ran runs again after its next boot', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(lifeEvent, { maxLength: 12 }), async (events) => {
      const simulation = await begin();
      const { world } = simulation;
      try {
        for (const event of events) await happen(event, simulation);
        await repair(simulation);
        const before = (await simulation.vm())?.spec;
        await simulation.shutDownHost(65_000);
        await simulation.pass(CALM_MS);
        expect([...world.processes.keys()]).toEqual([]);
        const { starts } = world;
        await simulation.pass(TEN_RESYNCS_MS);
        expect(world.starts).toBe(starts);
        const after = (await simulation.vm())?.spec;
        if (after !== undefined) expect(after).toEqual(before);
        // The annotation is left behind: the next boot is another one.
        world.reboot();
        simulation.wake();
        await simulation.pass(CALM_MS);
        expect(await complaints(simulation)).toEqual([]);
      } finally {
        await simulation.end();
      }
    }),
    { numRuns: RUNS, interruptAfterTimeLimit: LIMIT_MS },
  );
});
