import { expect, test } from 'vitest';
import { ExpiredError } from '../../src/api/errors.ts';
import { type Change, ChangeHistory } from '../../src/store/change-history.ts';
import { storedVm } from '../fakes/manifests.ts';

const change = (revision: number): Change => ({ type: 'MODIFIED', object: storedVm(), revision: BigInt(revision) });
const revisions = (changes: readonly Change[]) => changes.map(({ revision }) => Number(revision));

test('each reader goes on from its own place', () => {
  const history = new ChangeHistory(10);
  for (const revision of [1, 2]) history.add(change(revision));
  const place = history.end;
  expect(history.from(place)).toEqual([]);
  for (const revision of [3, 4]) history.add(change(revision));
  expect(revisions(history.from(place))).toEqual([3, 4]);
  expect(revisions(history.from(history.placeAfter(0n)))).toEqual([1, 2, 3, 4]);
});

test('what a list told in its own order is told in that of the revisions', () => {
  const history = new ChangeHistory(10);
  for (const revision of [7, 3, 5]) history.add(change(revision));
  expect(revisions(history.from(0))).toEqual([3, 5, 7]);
});

test('a reader that was left behind by the history is told so, and one that was not is not', () => {
  const history = new ChangeHistory(10);
  for (let revision = 1; revision <= 12; revision += 1) history.add(change(revision));
  expect(() => history.from(0)).toThrow(ExpiredError);
  expect(() => history.placeAfter(1n)).toThrow(ExpiredError);
  const place = history.placeAfter(2n);
  expect(revisions(history.from(place))).toEqual([3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
});

test('nothing is known from before it begins', () => {
  const history = new ChangeHistory(10);
  history.add(change(4));
  const place = history.end;
  history.forget(20n);
  expect(() => history.from(place)).toThrow(ExpiredError);
  expect(() => history.placeAfter(19n)).toThrow(ExpiredError);
  history.add(change(21));
  expect(revisions(history.from(history.placeAfter(20n)))).toEqual([21]);
});
