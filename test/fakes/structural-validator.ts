/** A small validator of structural schemas, written from their documentation: what an API server does without CEL. */
import type { Structural } from '../../src/api/structural.ts';

type Json = Readonly<Record<string, unknown>>;

/** The first complaint about a value, unknown fields included (fieldValidation=Strict); undefined where it is valid. */
export function complaint(schema: Structural, value: unknown, path = '$'): string | undefined {
  if (schema['x-kubernetes-int-or-string'] === true) {
    return typeof value === 'string'
      ? text(schema, value, path)
      : Number.isSafeInteger(value)
        ? undefined
        : `${path}: type`;
  }
  switch (schema.type) {
    case 'string':
      return typeof value === 'string' ? text(schema, value, path) : `${path}: type`;
    case 'integer':
      return Number.isSafeInteger(value) ? number(schema, value as number, path) : `${path}: type`;
    case 'boolean':
      return typeof value === 'boolean' ? undefined : `${path}: type`;
    case 'array':
      return Array.isArray(value) ? list(schema, value, path) : `${path}: type`;
    default:
      return typeof value === 'object' && value !== null && !Array.isArray(value)
        ? object(schema, value as Json, path)
        : `${path}: type`;
  }
}

function text(schema: Structural, value: string, path: string): string | undefined {
  if (schema.enum !== undefined && !schema.enum.includes(value)) return `${path}: enum`;
  // Kubernetes counts characters, JavaScript UTF-16 units.
  const length = [...value].length;
  if (length < (schema.minLength ?? 0) || length > (schema.maxLength ?? Number.POSITIVE_INFINITY))
    return `${path}: length`;
  return schema.pattern === undefined || new RegExp(schema.pattern).test(value) ? undefined : `${path}: pattern`;
}

function number(schema: Structural, value: number, path: string): string | undefined {
  const { minimum = Number.NEGATIVE_INFINITY, maximum = Number.POSITIVE_INFINITY } = schema;
  return value < minimum || value > maximum ? `${path}: range` : undefined;
}

function list(schema: Structural, value: readonly unknown[], path: string): string | undefined {
  if (value.length > (schema.maxItems ?? Number.POSITIVE_INFINITY)) return `${path}: length`;
  const [key] = schema['x-kubernetes-list-map-keys'] ?? [];
  const keys = schema['x-kubernetes-list-type'] === undefined ? [] : value.map((one) => keyOf(one, key));
  if (new Set(keys).size !== keys.length) return `${path}: duplicate`;
  return value.map((one, i) => complaint(schema.items ?? {}, one, `${path}[${i}]`)).find((one) => one !== undefined);
}

function keyOf(entry: unknown, key: string | undefined): unknown {
  return key === undefined ? entry : (entry as Json | null)?.[key];
}

function object(schema: Structural, value: Json, path: string): string | undefined {
  const fields = schema.properties ?? {};
  // A field that is null is absent: pruned before defaults are filled in.
  const missing = schema.required?.find((name) => (value[name] ?? undefined) === undefined);
  if (missing !== undefined) return `${path}.${missing}: required`;
  return Object.entries(value)
    .filter(([, one]) => one !== undefined)
    .map(([name, one]) => {
      const field = Object.hasOwn(fields, name) ? fields[name] : schema.additionalProperties;
      if (field !== undefined && one === null) return undefined;
      return field === undefined ? `${path}.${name}: unknown` : complaint(field, one, `${path}.${name}`);
    })
    .find((one) => one !== undefined);
}
