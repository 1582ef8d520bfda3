/**
 * Every leaf of every spec has an effect: each row of leaves/ changes one on a real machine and sees it in argv, QMP,
 * the disk, the guest or the kernel. That each leaf has its row is a unit test's business (test/unit/leaves.test.ts).
 */
import { afterAll, beforeAll, describe, test } from 'vitest';
import type { Effect } from './leaves/leaf.ts';
import { type House, openHouse, Place } from './leaves/place.ts';
import { ROWS } from './leaves/rows.ts';

const endings: (() => Promise<void>)[] = [];
let house: House;
let shown = 0;

beforeAll(async () => {
  house = await openHouse((work) => endings.push(work));
});

afterAll(async () => {
  for (const end of endings.reverse()) await end();
  console.log(`proof: ${ROWS.length} leaves, ${shown} of ${effects.length} effects seen on real QEMU`);
});

const effects = ROWS.flatMap(({ leaf, effect }): [string, Effect][] =>
  typeof effect === 'function'
    ? [[leaf, effect]]
    : Object.entries(effect).map(([value, of]) => [`${leaf}: ${value}`, of]),
);

describe.concurrent('the effect of', () => {
  test.for(effects)('%s', async ([leaf, effect], { onTestFinished }) => {
    await effect(new Place(house, leaf, onTestFinished));
    shown += 1;
  });
});
