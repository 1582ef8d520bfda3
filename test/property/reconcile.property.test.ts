/** Whatever happens, once it stops happening the VM becomes what its spec says, and stays so. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { disksOf, happen, heal, type LifeEvent, lifeEvent } from '../fakes/life.ts';
import { complaints } from '../fakes/satisfies.ts';
import { Simulation } from '../fakes/simulation.ts';

/** Longer than every back-off. */
const CALM_MS = 1_500_000;
const TEN_RESYNCS_MS = 600_000;

async function live(events: readonly LifeEvent[]): Promise<Simulation> {
  const simulation = await Simulation.withHost();
  simulation.world.addFile('/data/existing.qcow2');
  simulation.startController();
  await simulation.createVm({ disks: disksOf(false, 1), powerOff: { gracePeriodSeconds: 10 } });
  for (const event of events) await happen(event, simulation);
  await heal(simulation);
  await simulation.pass(CALM_MS);
  return simulation;
}

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
    { numRuns: Number(process.env['RUNS'] ?? 100) },
  );
}, 120_000);
