import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  fingerprint,
  type JsonRecord,
  mergePatch,
  patchDeclared,
  redeclare,
  withoutDefaults,
} from '../../src/store/merge.ts';

const leaf = fc.oneof(
  fc.integer({ min: 0, max: 3 }),
  fc.constantFrom('x', 'y'),
  fc.boolean(),
  fc.constant([1, { name: 'a' }]),
);
const key = fc.constantFrom('a', 'b', 'c');
const record: fc.Arbitrary<JsonRecord> = fc.dictionary(key, fc.oneof(leaf, fc.dictionary(key, leaf)), {
  noNullPrototype: true,
});

describe('mergePatch', () => {
  // The examples of RFC 7386, appendix A.
  test.each([
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [
      ['a', 'b'],
      ['c', 'd'],
      ['c', 'd'],
    ],
    [{ a: 'b' }, ['c'], ['c']],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ])('%j with %j is %j', (target, patch, result) => {
    expect(mergePatch(target, patch)).toEqual(result);
  });
});

describe('redeclare', () => {
  test('declared fields are as declared, dropped ones are gone, undeclared ones stay', () => {
    const current = { a: 1, b: { c: 2, d: 3 }, e: 4, f: { g: 5 } };
    const before = { a: 1, b: { c: 2 }, f: { g: 5 } };
    expect(redeclare(current, before, { a: 7 })).toEqual({ a: 7, b: { d: 3 }, e: 4 });
  });

  test('whatever was there, the new declaration holds; declaring it again changes nothing', () => {
    fc.assert(
      fc.property(record, record, record, (current, before, after) => {
        const once = redeclare(current, before, after);
        expect(once).toMatchObject(after);
        expect(redeclare(once, after, after)).toEqual(once);
      }),
    );
  });

  test('what was never declared is as it was', () => {
    fc.assert(
      fc.property(record, record, leaf, (before, after, value) => {
        const current = { ...(redeclare({}, {}, before) as JsonRecord), mine: value };
        expect(redeclare(current, before, after)).toEqual({ ...after, mine: value });
      }),
    );
  });
});

describe('patchDeclared', () => {
  test('declares nothing that was not declared before', () => {
    fc.assert(
      fc.property(record, record, (declared, patch) => {
        const keys = Object.keys(patchDeclared(declared, patch, undefined));
        expect(Object.keys(declared)).toEqual(expect.arrayContaining(keys));
      }),
    );
  });

  test('a list written back with the defaults it had been shown gains none of them', () => {
    const declared = { disks: [{ name: 'root', size: '1Gi' }] };
    const shown = { disks: [{ name: 'root', size: '1Gi', format: 'qcow2' }] };
    const patch = {
      disks: [
        { name: 'root', size: '2Gi', format: 'qcow2' },
        { name: 'data', format: 'raw' },
      ],
    };
    expect(patchDeclared(declared, patch, shown)).toEqual({
      disks: [
        { name: 'root', size: '2Gi' },
        { name: 'data', format: 'raw' },
      ],
    });
  });
});

test('withoutDefaults leaves what was asked for', () => {
  const spec = {
    architecture: 'x86_64',
    vcpus: 2,
    memory: '4Gi',
    restartPolicy: 'OnFailure',
    disks: [{ name: 'root', format: 'qcow2', size: '1Gi' }],
    networks: [],
    powerOff: { mode: 'TrySoft', gracePeriodSeconds: 60 },
  };
  expect(withoutDefaults('VirtualMachine', spec)).toEqual({
    architecture: 'x86_64',
    memory: '4Gi',
    disks: [{ name: 'root', size: '1Gi' }],
    networks: [],
    powerOff: { gracePeriodSeconds: 60 },
  });
});

test('a fingerprint ignores the order of fields and nothing else', () => {
  expect(fingerprint({ a: 1, b: [1, 2] })).toBe(fingerprint({ b: [1, 2], a: 1 }));
  expect(fingerprint({ b: [2, 1] })).not.toBe(fingerprint({ b: [1, 2] }));
});
