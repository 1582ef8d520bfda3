import { expect, test } from 'vitest';
import { judge, riseOf } from '../soak/verdict.ts';

test('the rise is that of the line, whatever single figures do', () => {
  expect([riseOf([5]), riseOf([1, 2, 3, 4]), riseOf([5, 5, 50, 5, 5])].map(Math.round)).toEqual([0, 3, 0]);
});

test('more than the bound is a failure', () => {
  const bound = { name: 'descriptors', unit: '', rise: 2 };
  expect([judge(bound, [20, 21, 20, 21]).ok, judge(bound, [20, 21, 22, 23]).ok]).toEqual([true, false]);
});
