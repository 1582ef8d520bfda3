/** Any sequence of commands leaves the installation as a model says that knows nothing of how it is done. */
import fc from 'fast-check';
import { test } from 'vitest';
import { Simulation } from '../fakes/simulation.ts';
import { holds } from './known-seeds.ts';
import type { Model } from './model.ts';
import { COMMANDS, type Real } from './model-commands.ts';

const RUNS = 300;
const MINUTE = 60_000;

test('commands and the model agree', { timeout: 10 * MINUTE }, async () => {
  const property = fc.asyncProperty(fc.commands(COMMANDS, { maxCommands: 12, size: 'max' }), async (commands) => {
    const simulation = await Simulation.withHost();
    simulation.startController();
    await simulation.pass(1_000);
    const model: Model = { vms: new Map(), full: false, starts: 0, images: 0 };
    const real: Real = { simulation, dies: undefined };
    try {
      await fc.asyncModelRun(() => ({ model, real }), commands);
    } finally {
      await simulation.end();
    }
  });
  await holds('model', property, RUNS);
});
