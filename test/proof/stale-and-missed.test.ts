/** A controller is shown the store as it was, or not told of a change, once: same end, same effects. */
import { expect, test } from 'vitest';
import { LIVES } from './acts.ts';
import { firstDifference, type Life, live } from './life.ts';

const MINUTE = 60_000;

function differences(life: Life, reference: Life): unknown {
  const difference = firstDifference(life, reference);
  // A life that was cut short has done what the whole one had done until then.
  const effects = reference.hostEffects.slice(0, life.hostEffects.length);
  if (difference !== undefined) return difference;
  return JSON.stringify(life.hostEffects) === JSON.stringify(effects)
    ? undefined
    : { is: life.hostEffects, was: effects };
}

test.each(Object.keys(LIVES))('late snapshots in the %s life', { timeout: 10 * MINUTE }, async (name) => {
  const reference = await live(name);
  let served = 0;
  const failed: unknown[] = [];
  const outdated = [...reference.lab.reads.entries()].filter(([, { differs }]) => differs.length > 0);
  for (const [turn, [read, { what, differs }]] of outdated.entries()) {
    const byWrites = differs[turn % differs.length] ?? 1;
    const life = await live(name, { type: 'late', read, byWrites });
    if (life.lab.happened) served += 1;
    const difference = differences(life, reference);
    if (difference !== undefined) failed.push({ read, what, byWrites, difference });
  }
  console.log(`proof: the ${name} life: ${outdated.length} reads that may be outdated, ${served} answered late`);
  expect(failed).toEqual([]);
  expect(served).toBe(outdated.length);
});

test.each(Object.keys(LIVES))('missed events in the %s life', { timeout: 10 * MINUTE }, async (name) => {
  const reference = await live(name);
  let missed = 0;
  const failed: unknown[] = [];
  for (const [event, what] of reference.lab.events.entries()) {
    const life = await live(name, { type: 'missed', event });
    if (life.lab.happened) missed += 1;
    const difference = differences(life, reference);
    if (difference !== undefined) failed.push({ event, what, difference });
  }
  console.log(`proof: the ${name} life: ${reference.lab.events.length} watch events, ${missed} missed`);
  expect(failed).toEqual([]);
  expect(missed).toBe(reference.lab.events.length);
});
