/** A controller dies before, in and after each of its effects; the next one comes to the same end. */
import { expect, test } from 'vitest';
import { LIVES } from './acts.ts';
import type { Effect, Trouble } from './lab.ts';
import { firstDifference, live } from './life.ts';

const MINUTE = 60_000;
/** What the whole proof must come to. */
const POINTS = 150;
let points = 0;

/** Before it, after each of its steps, and after it with nobody left to hear the answer. */
function killsOf({ steps }: Effect): (number | 'all')[] {
  return [0, ...Array.from({ length: Math.max(0, steps - 1) }, (_, index) => index + 1), 'all'];
}

test.each(Object.keys(LIVES))('of the %s life', { timeout: 10 * MINUTE }, async (name) => {
  const reference = await live(name);
  expect(reference.rests.flatMap(({ complaints }) => complaints)).toEqual([]);
  const effects = reference.lab.effects.flatMap((effect, index) => (effect.wrote ? [{ effect, index }] : []));
  let kills = 0;
  const failed: unknown[] = [];
  for (const { effect, index } of effects) {
    for (const afterSteps of killsOf(effect)) {
      const trouble: Trouble = { type: 'kill', effect: index, afterSteps };
      const life = await live(name, trouble);
      const difference = firstDifference(life, reference);
      if (life.lab.happened) kills += 1;
      if (difference !== undefined) failed.push({ act: effect.act, effect: effect.name, afterSteps, ...difference });
    }
  }
  console.log(`proof: kill points of the ${name} life: ${effects.length} effects, ${kills} kills`);
  expect(failed).toEqual([]);
  expect(kills).toBeGreaterThanOrEqual(2 * effects.length);
  points += kills;
});

test('they are enough', () => {
  expect(points).toBeGreaterThanOrEqual(POINTS);
});
