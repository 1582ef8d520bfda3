/** What a CRD cannot say must fail here, on the desk, and not on somebody's cluster. */
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { lenient, listMap, map, quantity, setOf, strict, text, timestamp } from '../../src/api/schema.ts';
import { structuralOf } from '../../src/api/structural.ts';

const of = (field: z.ZodType) => structuralOf(z.object({ field }), 'Test').properties?.['field'];

describe('refused, with the place', () => {
  test.each<[string, z.ZodType, RegExp]>([
    ['a union', z.union([z.string(), z.boolean()]), /Test\.field: a union is not structural/],
    [
      'a discriminated union',
      z.discriminatedUnion('k', [z.object({ k: z.literal('a') }), z.object({ k: z.literal('b') })]),
      /Test\.field: /,
    ],
    ['anything', z.unknown(), /Test\.field: type undefined is not structural/],
    ['null', z.string().nullable(), /Test\.field: a CRD knows no nullable/],
    ['look-ahead', z.string().regex(/^(?!a)/), /Test\.field: not an RE2 pattern/],
    ['look-behind', z.string().regex(/(?<!a)b/), /not an RE2 pattern/],
    ['a back-reference', z.string().regex(/^(a)\1$/), /not an RE2 pattern/],
    ['\\u', z.string().regex(/^\u0041\\u/), /not an RE2 pattern/],
    ['a float', z.number(), /Test\.field: type number is not structural/],
    [
      'a default on a list by name',
      z
        .array(z.object({ name: text(1) }))
        .meta(listMap('name'))
        .default([]),
      /merge a default into every list/,
    ],
    ['a strict object', strict({ a: text(1) }).catchall(text(1)), /fields and free keys in one object/],
    ['a title', text(1).meta({ title: 'x' }), /a CRD knows no title/],
    ['a reference', text(1).meta({ id: 'x' }), /a CRD knows no/],
    ['a transform', text(1).transform(Number), /transforms are run by no API server/],
    ['a date', z.date(), /not representable/],
  ])('%s', (_name, schema, message) => {
    expect(() => of(schema)).toThrow(message);
  });
});

describe('said', () => {
  test('a quantity', () => {
    expect(of(quantity('1Mi', '2Mi'))).toMatchObject({ 'x-kubernetes-int-or-string': true, maxLength: 40 });
    expect(of(quantity('1Mi', '2Mi'))).not.toHaveProperty('type');
  });

  test('a time', () => {
    expect(of(timestamp())).toMatchObject({ type: 'string', maxLength: 40 });
    expect(of(timestamp())).not.toHaveProperty('format');
  });

  test('a set, a map, a whole number, a field with a default', () => {
    expect(of(setOf(text(3), 4))).toEqual({
      type: 'array',
      maxItems: 4,
      'x-kubernetes-list-type': 'set',
      items: { type: 'string', maxLength: 3 },
    });
    expect(of(map(text(3), text(5), 7))).toEqual({
      type: 'object',
      maxProperties: 7,
      additionalProperties: { type: 'string', maxLength: 5 },
    });
    expect(of(z.int().min(0))).toEqual({ type: 'integer', format: 'int64', minimum: 0 });
    const schema = structuralOf(z.object({ a: text(1).default('x') }), 'Test');
    expect(schema).toEqual({
      type: 'object',
      properties: { a: { type: 'string', maxLength: 1, default: 'x' } },
    });
  });

  test('an object without fields', () => {
    expect(of(lenient({}))).toEqual({ type: 'object' });
  });
});
