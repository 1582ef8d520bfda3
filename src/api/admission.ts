/**
 * What may enter: the strict parser for manifests and tools, the lenient one for what a store returns, and the rules
 * between an old and a new spec. The same rules stand in the CRDs as CEL; here they serve stores without CEL and give
 * every mouth the same sentences.
 */
import { z } from 'zod';
import { type FieldIssue, InvalidObjectError, nearNames, quoteValue } from './errors.ts';
import { KIND_INFO, type ObjectOf, type SpecOf } from './kinds.ts';
import { API_VERSION, isNamespaced, KINDS, type Kind, type ObjectMeta } from './meta.ts';
import { formatQuantity, parseQuantity } from './quantity.ts';
import { strict, typeMeta, VM_NAME } from './schema.ts';
import type { VirtualMachine, VirtualMachineSpec } from './virtual-machine.ts';

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
      metadata: KIND_INFO[kind].metadata(strict),
      spec: KIND_INFO[kind].spec.strict,
      status: z.unknown().optional(),
    }),
  ]),
);

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
  const parsed = parse<Manifest & { status?: unknown }>(envelope, value, subject);
  const { status: _output, ...manifest } = parsed;
  const issues = specIssues(manifest);
  if (issues.length > 0) throw new InvalidObjectError(subject, issues);
  return manifest;
}

function kindOf(value: unknown): Kind {
  const { apiVersion, kind } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const issues: FieldIssue[] = [];
  if (apiVersion !== API_VERSION) {
    issues.push({ field: 'apiVersion', value: quoteValue(apiVersion), message: `must be ${API_VERSION}` });
  }
  if (!KINDS.some((known) => known === kind)) {
    issues.push({ field: 'kind', value: quoteValue(kind), message: `must be one of ${KINDS.join(', ')}` });
  }
  if (issues.length > 0) throw new InvalidObjectError('The manifest', issues);
  return kind as Kind;
}

function subjectOf(kind: Kind, value: unknown): string {
  const name = (value as { metadata?: { name?: unknown } }).metadata?.name;
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

function parse<T>(schema: z.ZodType, value: unknown, subject: string, path: string[] = []): T {
  const result = schema.safeParse(value, { reportInput: true });
  if (result.success) return result.data as T;
  throw new InvalidObjectError(
    subject,
    result.error.issues.flatMap((issue) => toIssues(issue, value, path)),
  );
}

function toIssues(issue: z.core.$ZodIssue, root: unknown, prefix: readonly string[]): FieldIssue[] {
  const field = fieldPath([...prefix, ...issue.path], root);
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => ({
        field: field === '' ? key : `${field}.${key}`,
        message: `unknown field${suggestion(key, issue, root)}`,
      }));
    case 'invalid_value':
      return [{ field, value: quoteValue(issue.input), message: `must be ${listed(issue.values.map(String))}` }];
    case 'invalid_type':
      return issue.input === undefined
        ? [{ field, message: 'is required' }]
        : [{ field, value: quoteValue(issue.input), message: `must be of type ${issue.expected}` }];
    case 'too_big':
      return [
        { field, value: quoteValue(issue.input), message: `must be at most ${issue.maximum}${unitOf(issue.origin)}` },
      ];
    case 'too_small':
      return [
        { field, value: quoteValue(issue.input), message: `must be at least ${issue.minimum}${unitOf(issue.origin)}` },
      ];
    case 'invalid_union': {
      const inner = issue.errors.flat().find((one) => one.code === 'invalid_format' || one.code === 'too_big');
      return [
        {
          field,
          value: quoteValue(issue.input),
          message:
            inner?.code === 'invalid_format'
              ? `must be ${inner.message}`
              : 'must be a quantity such as 2Gi, 512Mi or 20G',
        },
      ];
    }
    default:
      return [{ field, value: quoteValue(issue.input), message: `must be ${issue.message}` }];
  }
}

function unitOf(origin: string): string {
  return origin === 'string' ? ' characters' : origin === 'array' ? ' entries' : '';
}

function listed(values: readonly string[]): string {
  return values.length === 1 ? (values[0] ?? '') : `one of ${values.join(', ')}`;
}

/** The known sibling fields stand in the schema; the nearest ones to a mistyped one are worth naming. */
function suggestion(key: string, issue: z.core.$ZodIssue, root: unknown): string {
  const names = knownFields(issue.path, root);
  const near = nearNames(key, names);
  if (near.length > 0) return `; did you mean ${near.join(' or ')}?`;
  return names.length > 0 ? `; allowed are ${names.join(', ')}` : '';
}

function knownFields(path: readonly PropertyKey[], root: unknown): string[] {
  const kind = (root as { kind?: Kind }).kind;
  let schema: unknown = kind === undefined ? undefined : envelopes.get(kind);
  for (const part of path) {
    schema = typeof part === 'number' ? unwrap(schema)?.def?.element : unwrap(schema)?.shape?.[String(part)];
  }
  return Object.keys(unwrap(schema)?.shape ?? {});
}

interface SchemaNode {
  readonly shape?: Readonly<Record<string, unknown>>;
  readonly def?: { readonly innerType?: unknown; readonly element?: unknown };
}

function unwrap(schema: unknown): SchemaNode | undefined {
  let node = schema as SchemaNode | undefined;
  while (node?.def?.innerType !== undefined) node = node.def.innerType as SchemaNode;
  return node;
}

/** `spec.disks[root].size`: list entries by their name, as people know them. */
function fieldPath(path: readonly PropertyKey[], root: unknown): string {
  let text = '';
  let value: unknown = root;
  for (const part of path) {
    value = (value as Record<PropertyKey, unknown> | undefined)?.[part];
    if (typeof part === 'number') {
      const name = (value as { name?: unknown } | undefined)?.name;
      text += `[${typeof name === 'string' && name.length <= 32 ? name : part}]`;
    } else text += text === '' ? String(part) : `.${String(part)}`;
  }
  return text;
}

/** Rules over several fields of one object. */
function specIssues(manifest: Manifest): FieldIssue[] {
  const issues: FieldIssue[] = [];
  const { name, namespace } = manifest.metadata;
  if (!isNamespaced(manifest.kind) && namespace !== undefined) {
    issues.push({
      field: 'metadata.namespace',
      value: quoteValue(namespace),
      message: `a ${manifest.kind} has no namespace`,
    });
  }
  if (manifest.kind === 'VirtualMachine')
    issues.push(...virtualMachineIssues(name, manifest.spec as VirtualMachineSpec));
  return issues;
}

function virtualMachineIssues(name: string, spec: VirtualMachineSpec): FieldIssue[] {
  const issues: FieldIssue[] = [];
  if (spec.vmName === undefined && !VM_NAME.test(name)) {
    issues.push({
      field: 'spec.vmName',
      message: `is required where metadata.name has more than 63 characters (it has ${name.length})`,
    });
  }
  if (spec.architecture === 'arm64' && spec.firmware?.type === 'BIOS') {
    issues.push({ field: 'spec.firmware.type', value: '"BIOS"', message: 'must be UEFI for architecture arm64' });
  }
  for (const list of ['disks', 'cdroms', 'networks'] as const) {
    const seen = new Set<string>();
    for (const entry of spec[list] ?? []) {
      if (seen.has(entry.name)) {
        issues.push({
          field: `spec.${list}[${entry.name}].name`,
          value: quoteValue(entry.name),
          message: `must be unique in ${list}`,
        });
      }
      seen.add(entry.name);
    }
  }
  const paths = new Set<string>();
  for (const { name: disk, path } of spec.disks ?? []) {
    if (path === undefined) continue;
    if (paths.has(path))
      issues.push({
        field: `spec.disks[${disk}].path`,
        value: quoteValue(path),
        message: 'is the path of another disk of this VM',
      });
    paths.add(path);
  }
  return issues;
}

/**
 * Refuses changes of immutable fields, as the CRD's transition rules do.
 * @throws InvalidObjectError
 */
export function validateUpdate<K extends Kind>(old: ObjectOf<K>, spec: SpecOf<K>): void {
  const issues =
    old.kind === 'VirtualMachine'
      ? virtualMachineUpdateIssues(old, spec as VirtualMachineSpec)
      : old.kind === 'VirtualMachineMonitor' && JSON.stringify(old.spec) !== JSON.stringify(spec)
        ? [{ field: 'spec', message: 'a monitor is immutable: create another' }]
        : [];
  if (issues.length > 0) throw new InvalidObjectError(`${old.kind} ${quoteValue(old.metadata.name)}`, issues);
}

function virtualMachineUpdateIssues(old: VirtualMachine, spec: VirtualMachineSpec): FieldIssue[] {
  const issues: FieldIssue[] = [];
  for (const field of ['hostName', 'vmName', 'uuid', 'architecture', 'vmDir'] as const) {
    const maySet = (field === 'hostName' || field === 'uuid') && old.spec[field] === undefined;
    if (old.spec[field] !== spec[field] && !maySet)
      issues.push(immutableIssue(`spec.${field}`, old.spec[field], spec[field]));
  }
  for (const next of spec.disks ?? []) {
    const before = old.spec.disks?.find(({ name }) => name === next.name);
    if (before === undefined) continue;
    for (const field of ['path', 'format'] as const) {
      if (before[field] !== next[field])
        issues.push(immutableIssue(`spec.disks[${next.name}].${field}`, before[field], next[field]));
    }
    const from = before.size === undefined ? undefined : parseQuantity(before.size);
    const to = next.size === undefined ? undefined : parseQuantity(next.size);
    if (from !== undefined && (to === undefined || to < from)) {
      const size = formatQuantity(from);
      issues.push({
        field: `spec.disks[${next.name}].size`,
        value: quoteValue(next.size),
        message: `disk grew to ${size}; set size: ${size} in your manifest`,
      });
    }
  }
  return issues;
}

function immutableIssue(field: string, from: unknown, to: unknown): FieldIssue {
  return {
    field,
    value: quoteValue(to),
    message:
      from === undefined ? 'cannot be set later: the field is immutable' : `is immutable; it is ${quoteValue(from)}`,
  };
}
