/**
 * What may enter: the strict parser for manifests and tools, the lenient one for what a store returns, and the rules
 * between an old and a new spec. The same rules stand in the CRDs as CEL; here they serve stores without CEL and give
 * every mouth the same sentences.
 */
import { z } from 'zod';
import { type FieldIssue, InvalidObjectError, nearNames, quoteValue } from './errors.ts';
import { KIND_INFO, type ObjectOf, type SpecOf } from './kinds.ts';
import { API_VERSION, KINDS, type Kind, type ObjectMeta } from './meta.ts';
import { metadata, typeMeta } from './metadata.ts';
import { strict } from './schema.ts';
import { schemaIssues } from './schema-issues.ts';
import { objectIssues, updateIssues } from './spec-rules.ts';

/** An object as a person writes it: no uid, no times, defaults filled. */
export interface Manifest<K extends Kind = Kind> {
  readonly apiVersion: string;
  readonly kind: K;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly finalizers?: readonly string[];
    readonly ownerReferences?: ObjectMeta['ownerReferences'];
    readonly uid?: string;
    readonly resourceVersion?: string;
  };
  readonly spec: SpecOf<K>;
}

const envelopes = new Map<Kind, z.ZodType>(
  KINDS.map((kind) => [
    kind,
    strict({
      ...typeMeta(kind),
      metadata: metadata(strict, KIND_INFO[kind].name),
      spec: KIND_INFO[kind].spec.strict,
      status: z.unknown().optional(),
    }),
  ]),
);

/** More refusals than this help nobody. */
const MAX_ISSUES = 20;

/**
 * Admits one document of any kind. Unknown fields, wrong values and broken rules are refused together, each with its
 * field, value and what is allowed.
 * @throws InvalidObjectError
 */
export function parseManifest(value: unknown): Manifest {
  const kind = kindOf(value);
  const envelope = envelopes.get(kind);
  if (envelope === undefined) throw new Error(`no schema for ${kind}`);
  const subject = subjectOf(kind, value);
  const parsed = parse<Manifest & { status?: unknown }>(envelope, withoutNulls(envelope, value), subject);
  const { status: _output, ...manifest } = parsed;
  refuse(subject, objectIssues(manifest));
  return manifest;
}

/** A known field of the spec that is null is absent, as for an API server: `image:` with nothing behind it. */
function withoutNulls(envelope: z.ZodType, document: unknown): unknown {
  const { error } = envelope.safeParse(document);
  const paths = (error?.issues ?? []).map(({ path }) => path).filter((path) => path.length > 1 && path[0] === 'spec');
  return paths.filter((path) => at(document, path) === null).reduce(without, document);
}

function at(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce((node, key) => (node as Record<PropertyKey, unknown> | null | undefined)?.[key], value);
}

/** A copy without the field; an entry of a list stays. */
function without(value: unknown, [key, ...rest]: readonly PropertyKey[]): unknown {
  if (Array.isArray(value)) return value.map((one, i) => (i === key && rest.length > 0 ? without(one, rest) : one));
  const fields = Object.entries(value as object);
  return Object.fromEntries(
    fields.flatMap(([name, one]) =>
      name !== key ? [[name, one]] : rest.length === 0 ? [] : [[name, without(one, rest)]],
    ),
  );
}

function kindOf(value: unknown): Kind {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new InvalidObjectError('The manifest', [
      {
        field: 'document',
        value: quoteValue(value),
        message: 'must be a map with apiVersion, kind, metadata and spec',
      },
    ]);
  }
  const { apiVersion, kind } = value as Record<string, unknown>;
  const known = KINDS.find((one) => one === kind);
  const issues: FieldIssue[] = [];
  if (apiVersion !== API_VERSION) issues.push(mustBe('apiVersion', apiVersion, API_VERSION));
  if (known === undefined) {
    const near = typeof kind === 'string' ? nearNames(kind, KINDS) : [];
    const advice = near.length > 0 ? `; did you mean ${near.join(' or ')}?` : '';
    issues.push(mustBe('kind', kind, `one of ${KINDS.join(', ')}${advice}`));
  }
  if (known === undefined || issues.length > 0) throw new InvalidObjectError('The manifest', issues);
  return known;
}

function mustBe(field: string, value: unknown, allowed: string): FieldIssue {
  return value === undefined
    ? { field, message: `is required: ${allowed}` }
    : { field, value: quoteValue(value), message: `must be ${allowed}` };
}

function subjectOf(kind: Kind, value: unknown): string {
  const name = (value as { metadata?: { name?: unknown } | null }).metadata?.name;
  return typeof name === 'string' ? `${kind} ${quoteValue(name)}` : `The ${kind}`;
}

/**
 * Reads the spec of a stored object, unknown fields dropped.
 * @throws InvalidObjectError where this version cannot read it: its VM is left alone.
 */
export function readSpec<K extends Kind>(kind: K, name: string, spec: unknown): SpecOf<K> {
  return parse<SpecOf<K>>(KIND_INFO[kind].spec.lenient, spec, `${kind} ${quoteValue(name)}`, ['spec']);
}

/** The defaults of a kind's spec filled into a value that was admitted before. */
export function withDefaults<K extends Kind>(kind: K, spec: unknown): SpecOf<K> {
  return KIND_INFO[kind].spec.lenient.parse(spec) as SpecOf<K>;
}

/**
 * Refuses changes of immutable fields, as the CRD's transition rules do.
 * @throws InvalidObjectError
 */
export function validateUpdate<K extends Kind>(old: ObjectOf<K>, spec: SpecOf<K>): void {
  refuse(`${old.kind} ${quoteValue(old.metadata.name)}`, updateIssues(old, spec));
}

function parse<T>(schema: z.ZodType, value: unknown, subject: string, path: readonly string[] = []): T {
  const result = schema.safeParse(value, { reportInput: true });
  if (!result.success) refuse(subject, schemaIssues(result.error.issues, { schema, value, path }));
  return result.data as T;
}

function refuse(subject: string, issues: readonly FieldIssue[]): void {
  if (issues.length === 0) return;
  const rest = issues.length - MAX_ISSUES;
  const more = rest > 0 ? [{ field: '…', message: `${rest} more` }] : [];
  throw new InvalidObjectError(subject, [...issues.slice(0, MAX_ISSUES), ...more]);
}
