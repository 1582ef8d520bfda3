/** Objects as a CRD's schema describes them, whatever it says: new fields are among them without a word here. */
import fc from 'fast-check';
import type { Structural } from '../../../src/api/structural.ts';

type Json = fc.JsonValue;

const MOST_ENTRIES = 3;
/** Optional fields are left out more often than not: rules between fields would refuse nearly all objects. */
const PRESENT = 0.25;

/** What the structural part of a schema takes; its CEL rules may refuse it all the same. */
export function documentOf(schema: Structural): fc.Arbitrary<Json> {
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
  if (schema['x-kubernetes-int-or-string'] === true)
    return fc.oneof(fc.constantFrom('1Gi', '512Mi', '2G', '64Mi'), fc.integer({ min: 1 << 20, max: 1 << 30 }));
  switch (schema.type) {
    case 'string':
      return textOf(schema);
    case 'integer':
      return fc.integer({ min: schema.minimum ?? 0, max: Math.min(schema.maximum ?? 1000, 2 ** 40) });
    case 'boolean':
      return fc.boolean();
    case 'array':
      return listOf(schema);
    default:
      return objectOf(schema);
  }
}

function textOf({ pattern, minLength = 0, maxLength = 32 }: Structural): fc.Arbitrary<string> {
  const words = fc.stringMatching(/^[a-z][a-z0-9]{0,6}$/);
  const fitting = pattern === undefined ? words : fc.stringMatching(new RegExp(pattern), { size: 'xsmall' });
  return fitting.filter((one) => [...one].length >= minLength && [...one].length <= maxLength);
}

function listOf(schema: Structural): fc.Arbitrary<Json> {
  const [key] = schema['x-kubernetes-list-map-keys'] ?? [];
  const options = { maxLength: Math.min(MOST_ENTRIES, schema.maxItems ?? MOST_ENTRIES) };
  const items = documentOf(schema.items ?? {});
  if (schema['x-kubernetes-list-type'] === undefined) return fc.array(items, options);
  const selector = (one: Json) => JSON.stringify(key === undefined ? one : (one as Record<string, Json>)[key]);
  return fc.uniqueArray(items, { ...options, selector });
}

function objectOf({ properties = {}, required = [], additionalProperties }: Structural): fc.Arbitrary<Json> {
  if (additionalProperties !== undefined)
    return fc.dictionary(fc.stringMatching(/^[a-z]{1,5}$/), documentOf(additionalProperties), { maxKeys: 2 });
  const fields = Object.entries(properties).map(([name, schema]) => {
    const value = documentOf(schema);
    const optional = fc.oneof(
      { weight: 1 / PRESENT - 1, arbitrary: fc.constant(undefined) },
      { weight: 1, arbitrary: value },
    );
    return [name, required.includes(name) ? value : optional] as const;
  });
  return fc
    .record(Object.fromEntries(fields))
    .map((one) => Object.fromEntries(Object.entries(one).filter(([, value]) => value !== undefined)) as Json);
}

const STRANGE: readonly Json[] = [
  '',
  '0',
  '2GB',
  'A',
  '/a/',
  '/',
  '../x',
  'raw',
  -1,
  0,
  1025,
  1.5,
  true,
  null,
  [],
  {},
  [{}],
  'x'.repeat(300),
];

/** One value anywhere in it turned into something else, or a field that there is not. */
export function twisted(value: Json): fc.Arbitrary<Json> {
  const places = placesIn(value, []);
  if (places.length === 0) return fc.constant({ unknownField: 1 });
  return fc
    .tuple(fc.constantFrom(...places), fc.constantFrom(...STRANGE), fc.boolean())
    .map(([place, strange, isNew]) =>
      withValue(value, isNew ? [...place.slice(0, -1), 'unknownField'] : place, strange),
    );
}

function placesIn(value: Json, path: readonly (string | number)[]): (readonly (string | number)[])[] {
  if (typeof value !== 'object' || value === null) return [path];
  const entries = Array.isArray(value) ? [...value.entries()] : Object.entries(value);
  const below = entries.flatMap(([key, one]) => placesIn(one ?? null, [...path, key]));
  return path.length === 0 ? below : [path, ...below];
}

function withValue(value: Json, path: readonly (string | number)[], put: Json): Json {
  const [key, ...rest] = path;
  if (key === undefined) return put;
  if (Array.isArray(value)) return value.map((one, i) => (i === key ? withValue(one, rest, put) : one));
  const object = (typeof value === 'object' && value !== null ? value : {}) as Record<string, Json>;
  return { ...object, [key]: withValue(object[key] ?? {}, rest, put) };
}
