/** zod's issues as refusals that a person understands: the field, what stood there, what is allowed. */
import type { z } from 'zod';
import { type FieldIssue, nearNames, quoteValue } from './errors.ts';
import { quantityFromQemuSize } from './quantity.ts';
import { QUANTITY_WORDS } from './schema.ts';

/** Comparing names takes its time; a document of nothing but strangers is not worth it. */
const MAX_SUGGESTIONS = 20;

interface Parsed {
  readonly schema: z.ZodType;
  readonly value: unknown;
  /** Where the value stands in its object. */
  readonly path: readonly string[];
}

export function schemaIssues(issues: readonly z.core.$ZodIssue[], parsed: Parsed): FieldIssue[] {
  return issues.flatMap((issue) => toIssues(issue, parsed));
}

function toIssues(issue: z.core.$ZodIssue, parsed: Parsed): FieldIssue[] {
  const field = fieldPath(issue.path, parsed);
  if (issue.code === 'unrecognized_keys') {
    const known = knownFields(issue.path, parsed.schema);
    return issue.keys.map((key, i) => ({
      field: joined(field, key),
      message: `unknown field${i < MAX_SUGGESTIONS ? suggestion(key, known) : ''}`,
    }));
  }
  if (issue.input === undefined) return [{ field, message: missing(issue) }];
  return [{ field, value: quoteValue(issue.input), message: sentenceOf(issue) }];
}

function missing(issue: z.core.$ZodIssue): string {
  return issue.code === 'invalid_value' ? `is required: ${listed(issue.values.map(String))}` : 'is required';
}

function sentenceOf(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_value':
      return `must be ${listed(issue.values.map(String))}${valueAdvice(issue.input, issue.values.map(String))}`;
    case 'invalid_type':
      return typeSentence(issue.expected, issue.input);
    case 'too_big':
      return `must be at most ${issue.maximum}${unitOf(issue.origin)}`;
    case 'too_small':
      return `must be at least ${issue.minimum}${unitOf(issue.origin)}`;
    case 'invalid_union':
      return `must be ${QUANTITY_WORDS}${sizeAdvice(issue.input)}`;
    case 'invalid_key':
      return `its key must be ${issue.issues[0]?.message ?? 'another'}`;
    default:
      return `must be ${issue.message}${issue.message === QUANTITY_WORDS ? sizeAdvice(issue.input) : ''}`;
  }
}

function unitOf(origin: string): string {
  if (origin === 'string') return ' characters';
  return origin === 'array' ? ' entries' : '';
}

const TYPE_WORDS: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a whole number',
  string: 'text',
  boolean: 'true or false',
  object: 'a map',
  record: 'a map',
  array: 'a list',
};

function typeSentence(expected: string, input: unknown): string {
  const quotes = typeof input === 'string' && /^[0-9]+$/.test(input) ? ', without quotes' : '';
  const unquoted = expected === 'string' && (typeof input === 'number' || typeof input === 'boolean');
  return `must be ${TYPE_WORDS[expected] ?? expected}${unquoted ? ': put it in quotes' : quotes}`;
}

function listed(values: readonly string[]): string {
  return values.length === 1 ? (values[0] ?? '') : `one of ${values.join(', ')}`;
}

/** What people write for a value that manifests name otherwise. An unquoted On arrives as true from YAML 1.1. */
const OTHER_WORDS: Readonly<Record<string, string>> = {
  amd64: 'x86_64',
  'x86-64': 'x86_64',
  x64: 'x86_64',
  aarch64: 'arm64',
  armv8: 'arm64',
  on: 'PoweredOn',
  true: 'PoweredOn',
  running: 'PoweredOn',
  off: 'PoweredOff',
  false: 'PoweredOff',
  stopped: 'PoweredOff',
  efi: 'UEFI',
  img: 'raw',
};

function valueAdvice(input: unknown, values: readonly string[]): string {
  if (typeof input !== 'string' && typeof input !== 'boolean') return '';
  const asked = String(input).toLowerCase().slice(0, 64);
  const other = OTHER_WORDS[asked];
  if (other !== undefined && values.includes(other)) return `; did you mean ${other}?`;
  const near = typeof input === 'string' ? nearNames(asked, values) : [];
  return near.length > 0 ? `; did you mean ${near.join(' or ')}?` : '';
}

/** `2GB` and `2gb`: QEMU's way of writing, or nearly. */
function sizeAdvice(input: unknown): string {
  if (typeof input !== 'string') return '';
  const quantity = quantityFromQemuSize(input.replaceAll(/\s/g, ''));
  return quantity === undefined ? '' : `; did you mean ${quantity}?`;
}

/** The known sibling fields stand in the schema; the nearest ones to a mistyped one are worth naming. */
function suggestion(key: string, names: readonly string[]): string {
  const near = nearNames(key, names);
  if (near.length > 0) return `; did you mean ${near.join(' or ')}?`;
  return names.length > 0 ? `; allowed are ${names.join(', ')}` : '; none is allowed here';
}

interface SchemaNode {
  readonly shape?: Readonly<Record<string, unknown>>;
  readonly def?: { readonly innerType?: unknown; readonly element?: unknown };
}

function knownFields(path: readonly PropertyKey[], root: z.ZodType): string[] {
  let schema: unknown = root;
  for (const part of path) {
    const node = unwrapped(schema);
    schema = typeof part === 'number' ? node?.def?.element : node?.shape?.[String(part)];
  }
  return Object.keys(unwrapped(schema)?.shape ?? {});
}

function unwrapped(schema: unknown): SchemaNode | undefined {
  let node = schema as SchemaNode | undefined;
  while (node?.def?.innerType !== undefined) node = node.def.innerType as SchemaNode;
  return node;
}

/** `spec.disks[root].size`: list entries by their name, as people know them. */
function fieldPath(path: readonly PropertyKey[], { value, path: prefix }: Parsed): string {
  let text = prefix.join('.');
  let node: unknown = value;
  for (const part of path) {
    node = (node as Record<PropertyKey, unknown> | null | undefined)?.[part];
    text = typeof part === 'number' ? `${text}[${entryName(node, part)}]` : joined(text, String(part));
  }
  return text;
}

function entryName(entry: unknown, index: number): string {
  const name = (entry as { name?: unknown } | null | undefined)?.name;
  return typeof name === 'string' && /^[A-Za-z0-9_.-]{1,63}$/.test(name) ? name : String(index);
}

/** A key may come from anywhere: what is no plain field name is quoted and bounded. */
function joined(field: string, key: string): string {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(key)) return `${field}[${quoteValue(key)}]`;
  return field === '' ? key : `${field}.${key}`;
}
