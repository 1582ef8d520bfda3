/** While two controllers of one store disagree about who is alive, the host obeys the later one alone. */
import fc from 'fast-check';
import { timer } from 'rxjs';
import { expect, test } from 'vitest';
import { complaints } from '../fakes/satisfies.ts';
import { Simulation, VM_DIR } from '../fakes/simulation.ts';

test('after a take-over no effect of the former controller happens, however their steps interleave', async () => {
  const delays = fc.array(fc.integer({ min: 0, max: 4_000 }), { minLength: 40, maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(delays, delays, fc.integer({ min: 0, max: 12_000 }), async (first, second, takeOverMs) => {
      const simulation = await Simulation.withHost();
      const slowly = (waits: readonly number[]) => {
        let turn = 0;
        return async () => {
          turn += 1;
          await new Promise((resolve) => timer(waits[turn % waits.length] ?? 0, simulation.clock).subscribe(resolve));
        };
      };
      try {
        simulation.startController({ pause: slowly(first) });
        await simulation.createVm({ disks: [{ name: 'root', size: '1Gi' }], powerOff: { gracePeriodSeconds: 10 } });
        await simulation.pass(takeOverMs);
        simulation.startController({ pause: slowly(second) });
        await simulation.pass(60_000);
        await simulation.edit({ spec: { vcpus: 4, restartedAt: 'again' } });
        await simulation.pass(300_000);
        expect(await complaints(simulation)).toEqual([]);
        // Whoever claimed last, which need not be who began last.
        const { epoch, session } = JSON.parse(simulation.world.vmDirs.get(VM_DIR)?.marker ?? '{}');
        expect(epoch).toBe(2);
        const takenOver = simulation.journal.findIndex((entry) => entry.session === session.pid);
        expect(takenOver).toBeGreaterThanOrEqual(0);
        const late = simulation.journal.slice(takenOver).filter((entry) => entry.session !== session.pid);
        expect(late.map(({ action }) => action.type)).toEqual([]);
        const before = [await simulation.revision(), simulation.journal.length];
        await simulation.pass(600_000);
        expect([await simulation.revision(), simulation.journal.length]).toEqual(before);
      } finally {
        await simulation.end();
      }
    }),
    { numRuns: 50, interruptAfterTimeLimit: 5_000 },
  );
});
