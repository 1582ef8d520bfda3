import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Reading } from '../../src/store/object-reader.ts';
import { SortedReadings } from '../../src/store/sorted-readings.ts';
import { storedVm } from '../fakes/manifests.ts';

const reading = (namespace: string, name: string, message?: string): Reading => ({
  object: storedVm({}, { namespace, name }),
  problem:
    message === undefined
      ? undefined
      : { kind: 'VirtualMachine', ref: { namespace, name }, reason: 'InvalidSpec', message },
  asStored: {},
});
const names = ({ all }: SortedReadings) => all.map(({ object: { metadata } }) => [metadata.namespace, metadata.name]);

test('namespaces come before names, and a name before those that it begins', () => {
  const sorted = new SortedReadings();
  for (const [namespace, name] of [
    ['b', 'a'],
    ['a-b', 'z'],
    ['a', 'web-10'],
    ['a', 'web-1'],
  ] as const)
    sorted.put(reading(namespace, name));
  expect(names(sorted)).toEqual([
    ['a', 'web-1'],
    ['a', 'web-10'],
    ['a-b', 'z'],
    ['b', 'a'],
  ]);
});

test('after any changes it is what a sort of the rest gives, each with its newest state and problem', () => {
  const one = fc.record({
    namespace: fc.constantFrom('a', 'a-b', 'b'),
    name: fc.constantFrom('x', 'x-1', 'y'),
    act: fc.constantFrom('put', 'put invalid', 'delete'),
  });
  fc.assert(
    fc.property(fc.array(one, { maxLength: 40 }), (steps) => {
      const sorted = new SortedReadings();
      const model = new Map<string, Reading>();
      for (const [at, { namespace, name, act }] of steps.entries()) {
        const next = reading(namespace, name, act === 'put invalid' ? `problem ${at}` : undefined);
        if (act === 'delete') sorted.delete(next);
        else sorted.put(next);
        if (act === 'delete') model.delete(`${namespace}\0${name}`);
        else model.set(`${namespace}\0${name}`, next);
      }
      const expected = [...model].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, last]) => last);
      expect(sorted.all).toEqual(expected);
      expect(new Set(sorted.problems)).toEqual(new Set(expected.flatMap(({ problem }) => problem ?? [])));
    }),
  );
});
