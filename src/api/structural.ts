/**
 * zod schema -> structural schema, the subset of OpenAPI that a CustomResourceDefinition takes. What Kubernetes would
 * refuse or silently read otherwise throws here, with the place.
 * Source: k8s.io/apiextensions-apiserver/pkg/apiserver/schema/validation.go.
 */
import { z } from 'zod';
import type { CelRule } from './schema.ts';

export interface Structural {
  readonly description?: string;
  readonly type?: 'object' | 'array' | 'string' | 'integer' | 'boolean';
  readonly format?: string;
  readonly default?: unknown;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly maxItems?: number;
  readonly maxProperties?: number;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Structural>>;
  readonly additionalProperties?: Structural;
  readonly items?: Structural;
  readonly 'x-kubernetes-int-or-string'?: true;
  readonly 'x-kubernetes-list-type'?: 'map' | 'set';
  readonly 'x-kubernetes-list-map-keys'?: readonly string[];
  readonly 'x-kubernetes-validations'?: readonly CelRule[];
}

/** What zod gives. Loose: every field is looked at below. */
interface JsonSchema {
  readonly type?: string;
  readonly anyOf?: readonly JsonSchema[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly additionalProperties?: boolean | JsonSchema;
  readonly items?: JsonSchema;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly [key: string]: unknown;
}

/** The fields that go through as they are, in the order in which they are written. */
const KEPT = [
  'description',
  'type',
  'format',
  'default',
  'enum',
  'pattern',
  'minLength',
  'maxLength',
  'minimum',
  'maximum',
  'maxItems',
  'maxProperties',
  'required',
  'x-kubernetes-int-or-string',
  'x-kubernetes-list-type',
  'x-kubernetes-list-map-keys',
  'x-kubernetes-validations',
] as const;

/** Says nothing to Kubernetes, and is no loss. */
const DROPPED = new Set(['$schema', 'propertyNames', 'anyOf', 'properties', 'additionalProperties', 'items']);

const TYPES = ['object', 'array', 'string', 'integer', 'boolean'];

/** What JavaScript's expressions know and RE2 does not: look-around, back-references, \u. */
const NOT_RE2 = /\(\?[=!<]|\\[1-9]|\\u/;

/** @throws Error where the schema says something that a CRD cannot */
export function structuralOf(schema: z.ZodType, path: string): Structural {
  const options = { target: 'openapi-3.0', reused: 'inline', cycles: 'throw', unrepresentable: 'throw' } as const;
  try {
    z.toJSONSchema(schema, { ...options, io: 'output' });
  } catch (cause) {
    throw new Error(`${path}: not representable; transforms are run by no API server`, { cause });
  }
  return converted(z.toJSONSchema(schema, { ...options, io: 'input' }) as JsonSchema, path);
}

function converted(json: JsonSchema, path: string): Structural {
  const strange = Object.keys(json).filter((key) => !DROPPED.has(key) && !KEPT.some((kept) => kept === key));
  if (strange.length > 0) throw new Error(`${path}: a CRD knows no ${strange.join(', ')}`);
  const node = plainForm(json);
  checkType(node, path);
  const { properties, additionalProperties, items } = node;
  const fields = Object.entries(properties ?? {});
  return {
    ...Object.fromEntries(KEPT.filter((key) => node[key] !== undefined).map((key) => [key, node[key]])),
    ...(fields.length === 0
      ? {}
      : {
          properties: Object.fromEntries(fields.map(([name, field]) => [name, converted(field, `${path}.${name}`)])),
        }),
    ...(typeof additionalProperties === 'object'
      ? { additionalProperties: converted(additionalProperties, `${path}.*`) }
      : {}),
    ...(items === undefined ? {} : { items: converted(items, `${path}[]`) }),
  };
}

function plainForm(json: JsonSchema): JsonSchema {
  if (json['x-kubernetes-int-or-string'] === true) return intOrString(json);
  return json.type === 'integer' ? wholeNumber(json) : json;
}

/** The two forms of a quantity have no type in common; the string's bounds apply to strings alone. */
function intOrString({ anyOf, ...rest }: JsonSchema): JsonSchema {
  const string = anyOf?.find(({ type }) => type === 'string');
  return { ...rest, pattern: string?.['pattern'], maxLength: string?.['maxLength'] };
}

/** JavaScript's own bounds of a whole number say nothing to people. */
function wholeNumber({ minimum = Number.MIN_SAFE_INTEGER, maximum = Number.MAX_SAFE_INTEGER, ...rest }: JsonSchema) {
  return {
    ...rest,
    format: 'int64',
    ...(minimum === Number.MIN_SAFE_INTEGER ? {} : { minimum }),
    ...(maximum === Number.MAX_SAFE_INTEGER ? {} : { maximum }),
  };
}

function checkType(node: JsonSchema, path: string): void {
  const { type, anyOf, properties, additionalProperties } = node;
  const pattern = node['pattern'];
  if (anyOf !== undefined) throw new Error(`${path}: a union is not structural; only int-or-string is`);
  if (type === undefined ? node['x-kubernetes-int-or-string'] !== true : !TYPES.includes(type))
    throw new Error(`${path}: type ${type} is not structural`);
  if (typeof pattern === 'string' && NOT_RE2.test(pattern)) throw new Error(`${path}: not an RE2 pattern: ${pattern}`);
  if (properties !== undefined && typeof additionalProperties === 'object')
    throw new Error(`${path}: fields and free keys in one object`);
  if (node['default'] !== undefined && node['x-kubernetes-list-type'] === 'map')
    throw new Error(`${path}: server-side apply would merge a default into every list`);
}
