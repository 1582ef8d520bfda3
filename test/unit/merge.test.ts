/** The corners of how JSON values combine; the laws are in store-merge.test.ts. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  deepFreeze,
  fingerprint,
  isRecord,
  mergePatch,
  patchDeclared,
  plainJson,
  redeclare,
  sharing,
  withoutDefaults,
} from '../../src/store/merge.ts';

test('a record is an object with fields, nothing else', () => {
  expect([{}, { a: 1 }].map(isRecord)).toEqual([true, true]);
  expect([null, [], [1], 'a', 1, undefined].map(isRecord)).toEqual([false, false, false, false, false, false]);
});

test('a patch with undefined leaves the field alone', () => {
  expect(mergePatch({ a: 1 }, { a: undefined })).toEqual({ a: 1 });
});

describe('redeclare', () => {
  test('a field that was declared with another kind of value is gone when it is not declared any more', () => {
    expect(redeclare({ a: { b: 1 } }, { a: 1 }, {})).toEqual({});
    expect(redeclare({ a: 1 }, { a: { b: 1 } }, {})).toEqual({});
    expect(redeclare({ a: 1 }, { a: 2 }, {})).toEqual({});
  });

  test('a map of which nothing is left is gone, one of which something is left stays', () => {
    expect(redeclare({ a: { b: 1 } }, { a: { b: 1 } }, {})).toEqual({});
    expect(redeclare({ a: { b: 1, c: 2 } }, { a: { b: 1 } }, {})).toEqual({ a: { c: 2 } });
  });

  test('a map that is declared again keeps what others set in it', () => {
    expect(redeclare({ a: { b: 1, mine: 2 } }, { a: { b: 1 } }, { a: { b: 3 } })).toEqual({ a: { b: 3, mine: 2 } });
  });
});

describe('patchDeclared', () => {
  test('null takes the field out, undefined leaves it alone', () => {
    expect(patchDeclared({ a: 1, b: 2 }, { a: null, b: undefined }, undefined)).toEqual({ b: 2 });
  });

  test('maps are patched field by field, in what was declared of them', () => {
    expect(patchDeclared({ a: { b: 1 } }, { a: { b: 2, c: 3 } }, { a: { b: 1, c: 9 } })).toEqual({ a: { b: 2 } });
  });

  test('a map and something else replace each other', () => {
    expect(patchDeclared({ a: 1 }, { a: { b: 2 } }, undefined)).toEqual({ a: { b: 2 } });
    expect(patchDeclared({ a: { b: 2 } }, { a: 1 }, undefined)).toEqual({ a: 1 });
  });

  const list = (value: unknown, declared: unknown, shown: unknown) =>
    patchDeclared({ list: declared }, { list: value }, { list: shown })['list'];

  test('a list and something else replace each other', () => {
    expect(list([{ name: 'a', x: 1 }], 1, [{ name: 'a', x: 1 }])).toEqual([{ name: 'a', x: 1 }]);
    expect(list([{ name: 'a', x: 1 }], [{ name: 'a' }], undefined)).toEqual([{ name: 'a', x: 1 }]);
    expect(list(1, [{ name: 'a' }], [{ name: 'a' }])).toBe(1);
  });

  test('entries that are no records, or have no name, or are new, stay as they are written', () => {
    expect(list(['x'], ['x'], ['x'])).toEqual(['x']);
    expect(list([{ x: 1 }], [{ y: 2 }], [{ x: 1, y: 2 }])).toEqual([{ x: 1 }]);
    expect(list([{ name: 'b', x: 1 }], [{ name: 'a' }], [{ name: 'b', x: 1 }])).toEqual([{ name: 'b', x: 1 }]);
    expect(list([{ name: 'a', x: 1 }], [{ name: 'a' }], [{ name: 'b', x: 1 }])).toEqual([{ name: 'a', x: 1 }]);
    expect(list([{ name: 'a', x: 1 }], [null, 'a', { name: 'a' }], [null, { name: 'a', x: 1 }])).toEqual([
      { name: 'a' },
    ]);
  });

  test('each entry is compared with the one of its own name', () => {
    const declared = [{ name: 'a' }, { name: 'b', x: 2 }];
    const shown = [
      { name: 'a', x: 1 },
      { name: 'b', x: 2 },
    ];
    expect(
      list(
        [
          { name: 'b', x: 2 },
          { name: 'a', x: 2 },
        ],
        declared,
        shown,
      ),
    ).toEqual([
      { name: 'b', x: 2 },
      { name: 'a', x: 2 },
    ]);
    expect(list([{ name: 'a', x: 1 }], declared, shown)).toEqual([{ name: 'a' }]);
  });
});

test('withoutDefaults keeps what is needed to read the spec at all', () => {
  expect(withoutDefaults('VirtualMachineMonitor', { virtualMachineName: 'a', until: '2026-01-31T15:04:05Z' })).toEqual({
    virtualMachineName: 'a',
    until: '2026-01-31T15:04:05Z',
  });
});

test('what JSON cannot hold is absent', () => {
  expect(plainJson(undefined)).toBeUndefined();
  expect(plainJson({ a: undefined, b: [1] })).toStrictEqual({ b: [1] });
});

test('fingerprints of lists, maps and values', () => {
  expect(fingerprint({ list: [{ b: 1, a: 2 }] })).toBe(fingerprint({ list: [{ a: 2, b: 1 }] }));
  expect(fingerprint([1])).not.toBe(fingerprint({ 0: 1 }));
  expect(fingerprint(undefined)).toMatch(/^[0-9a-f]{64}$/);
});

test('deepFreeze freezes everything below, and what is frozen already stays', () => {
  const inner = { list: [{ a: 1 }] };
  const value = deepFreeze({ inner, none: null, text: 'a' });
  expect([value, inner, inner.list, inner.list[0]].every((one) => Object.isFrozen(one))).toBe(true);
  const shallow = Object.freeze({ open: {} });
  expect(Object.isFrozen(deepFreeze(shallow).open)).toBe(false);
  expect(deepFreeze(null)).toBeNull();
});

describe('sharing', () => {
  const json = (value: unknown) => JSON.parse(JSON.stringify(value)) as unknown;

  test('what is the same is what was there before, the rest is new', () => {
    const before = deepFreeze({ kept: { list: [1, { a: 'b' }] }, changed: { one: { x: 1 }, two: 2 } });
    const shared = sharing(before, { kept: json(before.kept), changed: { one: { x: 1 }, two: 3 } });
    expect(shared).toEqual({ kept: before.kept, changed: { one: { x: 1 }, two: 3 } });
    expect(shared.kept).toBe(before.kept);
    expect(shared.changed.one).toBe(before.changed.one);
    expect(sharing(before, json(before))).toBe(before);
  });

  test('a field or an entry more or less, another kind of value or nothing before is a difference', () => {
    const cases: [unknown, unknown][] = [
      [{ a: 1 }, { a: 1, b: 2 }],
      [{ a: 1, b: 2 }, { a: 1 }],
      [[1, 2], [1]],
      [[1], [1, 2]],
      [[], {}],
      [{}, []],
      [{ a: {} }, { a: null }],
      [{ a: null }, { a: {} }],
      [undefined, { a: 1 }],
      [{ toString: 1 }, {}],
      [{}, { toString: 1 }],
    ];
    for (const [before, after] of cases) {
      const shared = sharing(deepFreeze(before), json(after));
      expect(shared).toEqual(after);
      expect(shared).not.toBe(before);
    }
  });

  test('it is always equal to what it is made for, and leaves what was there before as it was', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (one, other) => {
        const [before, after] = [
          deepFreeze(json({ one, other, list: [one] })),
          json({ one: other, other, list: [one, other] }),
        ];
        expect(sharing(before, json(after))).toEqual(after);
        expect(before).toEqual(json({ one, other, list: [one] }));
      }),
    );
  });
});
