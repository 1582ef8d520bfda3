/** Places: never more than there are, in the order of asking, and whoever stops waiting holds up nobody. */
import { expect, test } from 'vitest';
import { Places } from '../../src/host/places.ts';

const never = new AbortController().signal;
const settled = () => new Promise((resolve) => setImmediate(resolve));

test('places go round in the order of asking', async () => {
  const places = new Places(2);
  const said: string[] = [];
  const release: (() => void)[] = [];
  const ask = (name: string) =>
    places.take(never).then((give) => {
      said.push(name);
      release.push(give);
    });
  const all = ['a', 'b', 'c', 'd'].map(ask);
  await settled();
  expect([said, places.isFree]).toEqual([['a', 'b'], false]);
  release[0]?.();
  release[0]?.();
  await settled();
  expect(said).toEqual(['a', 'b', 'c']);
  for (const at of [1, 2]) release[at]?.();
  await Promise.all(all);
  release[3]?.();
  expect([said, places.isFree]).toEqual([['a', 'b', 'c', 'd'], true]);
});

test('who stops waiting gets the reason, and the next one the place', async () => {
  const places = new Places(1);
  const give = await places.take(never);
  const stop = new AbortController();
  const stopped = places.take(stop.signal);
  const next = places.take(never);
  stop.abort(new Error('enough'));
  await expect(stopped).rejects.toThrow('enough');
  give();
  await expect(next).resolves.toBeTypeOf('function');
  await expect(places.take(stop.signal)).rejects.toThrow('enough');
});
