/** What a write makes of a stored object: the rules of the Kubernetes API, as pure functions. */
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { type Manifest, parseManifest, readSpec, validateUpdate } from '../api/admission.ts';
import { ConflictError, ForbiddenError, InvalidObjectError, oneLine, quoteValue } from '../api/errors.ts';
import { KIND_INFO, type ObjectOf, type SpecOf, type StatusOf } from '../api/kinds.ts';
import {
  ANNOTATIONS,
  API_VERSION,
  DEFAULT_NAMESPACE,
  isNamespaced,
  type Kind,
  keyOf,
  LABELS,
  type ObjectMeta,
  type ObjectRef,
} from '../api/meta.ts';
import {
  isRecord,
  type JsonRecord,
  mergePatch,
  patchDeclared,
  plainJson,
  redeclare,
  withoutDefaults,
} from './merge.ts';
import { readObject, refOf } from './object-reader.ts';
import type { Declaration, StoredObject } from './object-table.ts';
import type { ListOptions, ObjectPatch, Preconditions, WriteOptions } from './store.ts';

/** Whom a manifest means. */
export function refOfManifest({ kind, metadata }: Manifest): ObjectRef {
  return isNamespaced(kind)
    ? { namespace: metadata.namespace ?? DEFAULT_NAMESPACE, name: metadata.name }
    : { name: metadata.name };
}

/** The ref as stored: the default namespace filled in, none where the kind has none. */
export function normalRef(kind: Kind, { namespace, name }: ObjectRef): ObjectRef {
  return isNamespaced(kind) ? { namespace: namespace ?? DEFAULT_NAMESPACE, name } : { name };
}

/** The Host that a VM names; undefined: none, or it is no VM. */
export function hostNameOf({ kind, spec }: ObjectOf<Kind>): string | undefined {
  return kind === 'VirtualMachine' ? spec.hostName : undefined;
}

/** Whether a list of these options has an object. */
export function listedBy({ namespace, labels = {}, hostName }: ListOptions): (object: ObjectOf<Kind>) => boolean {
  const wanted = Object.entries(labels);
  return (object) => {
    const { metadata } = object;
    if (namespace !== undefined && metadata.namespace !== undefined && metadata.namespace !== namespace) return false;
    if (hostName !== undefined && hostNameOf(object) !== hostName) return false;
    return wanted.every(([key, value]) => metadata.labels?.[key] === value);
  };
}

/** What a manifest asks for: the whole spec without defaults, and the part of it that is declared. */
export function asked(manifest: Manifest, options: WriteOptions): { spec: JsonRecord; declaration: Declaration } {
  const { kind, metadata } = manifest;
  const spec =
    options.asWritten === undefined
      ? withoutDefaults(kind, manifest.spec)
      : (plainJson(options.asWritten) as JsonRecord);
  parseManifest(plainJson({ ...manifest, spec }));
  const declared = Object.entries(spec).filter(([field]) => !options.undeclared?.includes(field));
  return {
    spec,
    declaration: {
      labels: ownWords(metadata.labels),
      annotations: ownWords(metadata.annotations),
      spec: Object.fromEntries(declared),
    },
  };
}

/** What only the controller writes is not the person's, even where `get -o yaml` was saved as a manifest. */
const MACHINE_WRITTEN: readonly string[] = [ANNOTATIONS.provisioned, ANNOTATIONS.claimed, LABELS.host, LABELS.vmName];

/** Of labels or annotations, those that are declared. */
export function ownWords(map: unknown): JsonRecord {
  return Object.fromEntries(Object.entries(isRecord(map) ? map : {}).filter(([key]) => !MACHINE_WRITTEN.includes(key)));
}

/** A new object; its resourceVersion is filled in when it is written. */
export function newObject(manifest: Manifest, spec: unknown, declaration: Declaration): StoredObject {
  const { kind, metadata } = manifest;
  return {
    kind,
    metadata: compactMeta({
      ...refOf(refOfManifest(manifest)),
      uid: randomUUID(),
      resourceVersion: '0',
      generation: 1,
      creationTimestamp: new Date().toISOString(),
      labels: metadata.labels,
      annotations: metadata.annotations,
      finalizers: metadata.finalizers,
      ownerReferences: metadata.ownerReferences,
    }),
    spec,
    declaration,
  };
}

/**
 * The object after a merge patch.
 * @throws InvalidObjectError
 */
export function patched(before: StoredObject, patch: ObjectPatch): StoredObject {
  const { labels, annotations, finalizers, ownerReferences } = plainJson(patch.metadata ?? {}) as JsonRecord;
  const metadata = compactMeta({
    ...before.metadata,
    labels: mergePatch(before.metadata.labels ?? {}, labels ?? {}) as ObjectMeta['labels'],
    annotations: mergePatch(before.metadata.annotations ?? {}, annotations ?? {}) as ObjectMeta['annotations'],
    ...(finalizers === undefined ? {} : { finalizers: (finalizers ?? undefined) as ObjectMeta['finalizers'] }),
    ...(ownerReferences === undefined
      ? {}
      : { ownerReferences: (ownerReferences ?? undefined) as ObjectMeta['ownerReferences'] }),
  });
  refuseNewFinalizers(before, metadata);
  const spec = plainJson(patch.spec ?? {});
  const after = { ...before, metadata, spec: mergePatch(before.spec, spec) };
  admit(before, after, spec);
  return nextGeneration(before, { ...after, declaration: patchedDeclaration(before, patch) });
}

/** The object after its declaration changed. @throws InvalidObjectError where a field may not change so. */
export function redeclared(before: StoredObject, declaration: Declaration, undeclared: JsonRecord = {}): StoredObject {
  const old = before.declaration;
  const { labels, annotations } = before.metadata;
  const after = {
    ...before,
    metadata: compactMeta({
      ...before.metadata,
      labels: redeclare(labels, old?.labels, declaration.labels) as ObjectMeta['labels'],
      annotations: redeclare(annotations, old?.annotations, declaration.annotations) as ObjectMeta['annotations'],
    }),
    spec: { ...(redeclare(before.spec, old?.spec, declaration.spec) as JsonRecord), ...undeclared },
    declaration,
  };
  admit(before, after, {});
  return nextGeneration(before, after);
}

/** Whether nothing was asked anew: a spec has its generation. A status that somebody wrote meanwhile is no such thing. */
export function hasSameMeta(
  before: { readonly metadata: ObjectMeta },
  after: { readonly metadata: ObjectMeta },
): boolean {
  const { resourceVersion: _before, ...was } = before.metadata;
  const { resourceVersion: _after, ...is } = after.metadata;
  return isDeepStrictEqual(was, is);
}

/** The object at the beginning of its deletion. @throws ForbiddenError while it is protected */
export function deleted(before: StoredObject): StoredObject {
  const { metadata, kind } = before;
  const name = keyOf(metadata);
  const shield = metadata.annotations?.[ANNOTATIONS.protected];
  if (shield !== undefined && shield !== 'false') {
    throw new ForbiddenError(
      `${kind} ${name} is protected by its annotation ${ANNOTATIONS.protected}: remove it first, ` +
        `with \`qemu-operator annotate ${KIND_INFO[kind].singular} ${metadata.name}` +
        `${metadata.namespace === undefined ? '' : ` -n ${metadata.namespace}`} ${ANNOTATIONS.protected}-\``,
    );
  }
  const deletionTimestamp = new Date().toISOString();
  return { ...before, metadata: { ...metadata, deletionTimestamp, generation: metadata.generation + 1 } };
}

/** The status as it is kept. @throws InvalidObjectError */
export function admittedStatus<K extends Kind>(kind: K, { name }: ObjectRef, status: StatusOf<K>): unknown {
  const result = KIND_INFO[kind].status.safeParse(plainJson(status));
  if (result.success) return plainJson(result.data);
  throw new InvalidObjectError(
    `The status of ${kind} ${quoteValue(name)}`,
    result.error.issues.map(({ path, message }) => ({ field: ['status', ...path].map(String).join('.'), message })),
  );
}

/** @throws ConflictError where the object is no longer the one the caller read */
export function checkPreconditions({ kind, metadata }: StoredObject, wanted: Preconditions = {}): void {
  if (wanted.uid !== undefined && wanted.uid !== metadata.uid) {
    throw new ConflictError(
      `${kind} ${keyOf(metadata)} is another object now: its uid is ${metadata.uid}, not ${oneLine(wanted.uid, 64)}`,
    );
  }
  if (wanted.resourceVersion !== undefined && wanted.resourceVersion !== metadata.resourceVersion) {
    throw new ConflictError(
      `${kind} ${keyOf(metadata)} has changed since it was read (resourceVersion ${metadata.resourceVersion}, ` +
        `not ${oneLine(wanted.resourceVersion, 64)}): read it again and decide again`,
    );
  }
}

/** @throws InvalidObjectError where the whole is not a valid object, or may not follow `before`. */
function admit(before: StoredObject, after: StoredObject, specPatch: unknown): void {
  const { kind, metadata } = after;
  parseManifest({
    apiVersion: API_VERSION,
    kind,
    metadata: { ...refOf(metadata), ...changedMeta(before.metadata, metadata) },
    spec: strictView(before, after, specPatch),
  });
  if (isDeepStrictEqual(before.spec, after.spec)) return;
  const old = readObject(before);
  if (old.problem === undefined) validateUpdate(old.object, readSpec(kind, metadata.name, after.spec) as SpecOf<Kind>);
}

/** What a write leaves alone is not judged: a rule that came later must not hold up the release of a finalizer. */
function changedMeta(before: ObjectMeta, after: ObjectMeta): JsonRecord {
  const fields = ['labels', 'annotations', 'finalizers'] as const;
  const changed = fields.filter((field) => after[field] && !isDeepStrictEqual(before[field], after[field]));
  return Object.fromEntries(changed.map((field) => [field, plainJson(after[field])]));
}

/**
 * The spec as admission judges it: not at all where the write leaves it alone. What a newer version stored and this
 * one does not know is no fault of a patch, so the patch is judged on top of what this version reads; a spec it
 * cannot read is judged as a whole, so that a patch can mend it.
 */
function strictView(before: StoredObject, after: StoredObject, specPatch: unknown): unknown {
  if (isDeepStrictEqual(before.spec, after.spec)) return PLACEHOLDER[after.kind];
  const { object, problem } = readObject(before);
  if (problem === undefined) {
    const patchedSpec = mergePatch(object.spec, specPatch);
    return isRecord(specPatch) && Object.keys(specPatch).length > 0
      ? patchedSpec
      : readSpec(after.kind, after.metadata.name, after.spec);
  }
  return after.spec;
}

/** Valid specs, to judge metadata alone. */
const PLACEHOLDER: Readonly<Record<Kind, unknown>> = {
  VirtualMachine: { architecture: 'x86_64', vmName: 'x' },
  Host: { local: {} },
  VirtualMachineMonitor: { virtualMachineName: 'x', until: '2000-01-01T00:00:00Z' },
};

function refuseNewFinalizers(before: StoredObject, { finalizers }: ObjectMeta): void {
  if (before.metadata.deletionTimestamp === undefined) return;
  const added = finalizers?.filter((one) => !before.metadata.finalizers?.includes(one)) ?? [];
  if (added.length === 0) return;
  throw new InvalidObjectError(`${before.kind} ${quoteValue(before.metadata.name)}`, [
    {
      field: 'metadata.finalizers',
      value: quoteValue(added),
      message: 'an object that is being deleted takes no more',
    },
  ]);
}

function patchedDeclaration(before: StoredObject, patch: ObjectPatch): Declaration | undefined {
  const { declaration } = before;
  if (declaration === undefined) return undefined;
  const { labels, annotations } = plainJson(patch.metadata ?? {}) as { labels?: JsonRecord; annotations?: JsonRecord };
  const spec = plainJson(patch.spec ?? {}) as JsonRecord;
  return {
    labels: patchDeclared(declaration.labels, labels ?? {}, undefined),
    annotations: patchDeclared(declaration.annotations, annotations ?? {}, undefined),
    spec: patchDeclared(declaration.spec, spec, readObject(before).object.spec),
  };
}

/** The generation counts changes of the spec as readers see it. */
function nextGeneration(before: StoredObject, after: StoredObject): StoredObject {
  if (isDeepStrictEqual(readObject(before).object.spec, readObject(after).object.spec)) return after;
  return { ...after, metadata: { ...after.metadata, generation: before.metadata.generation + 1 } };
}

/** Empty maps and lists are absent, as in Kubernetes' JSON. */
function compactMeta(metadata: ObjectMeta): ObjectMeta {
  return Object.fromEntries(
    Object.entries(metadata).filter(
      ([, value]) => value !== undefined && !(typeof value === 'object' && Object.keys(value ?? {}).length === 0),
    ),
  ) as unknown as ObjectMeta;
}
