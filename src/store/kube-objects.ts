/** Objects as an API server keeps them, as the product reads them. */
import { KIND_INFO } from '../api/kinds.ts';
import { GROUP, type Kind, type ObjectMeta, type ObjectRef, VERSION } from '../api/meta.ts';
import { collectionPath, type KubeObject, objectPath, type Resource } from '../kube/objects.ts';
import { normalRef } from './object-rules.ts';
import type { StoredObject } from './object-table.ts';

const META_FIELDS = [
  'name',
  'namespace',
  'uid',
  'resourceVersion',
  'generation',
  'creationTimestamp',
  'deletionTimestamp',
  'finalizers',
  'labels',
  'annotations',
  'ownerReferences',
] as const satisfies readonly (keyof ObjectMeta)[];

/** kubectl's own copy of a manifest: as large as the object, and nobody here reads it. */
const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

function resourceOf(kind: Kind): Resource {
  return { group: GROUP, version: VERSION, plural: KIND_INFO[kind].plural };
}

export function pathOf(kind: Kind, ref: ObjectRef): string {
  return objectPath(resourceOf(kind), normalRef(kind, ref));
}

/** @param namespace absent: of all namespaces */
export function pathOfKind(kind: Kind, namespace?: string): string {
  return collectionPath(resourceOf(kind), KIND_INFO[kind].namespaced ? namespace : undefined);
}

/** Without what only the API server needs: who set which field takes more room than the fields. */
export function storedObject(kind: Kind, { metadata, spec, status }: KubeObject): StoredObject {
  const all = metadata as unknown as Readonly<Record<string, unknown>>;
  const kept = META_FIELDS.flatMap((field) => (all[field] === undefined ? [] : [[field, all[field]] as const]));
  const meta = Object.fromEntries(kept) as unknown as ObjectMeta;
  return {
    kind,
    metadata: meta.annotations === undefined ? meta : withoutCopy(meta),
    spec: spec ?? {},
    ...writtenStatus(status),
  };
}

/** Without what the CRD says until somebody has looked: a generation is 1 at least. */
function writtenStatus(status: KubeObject['status']): Pick<StoredObject, 'status'> {
  const written = Object.entries(status ?? {}).filter(([key, value]) => key !== 'observedGeneration' || value !== 0);
  return written.length === 0 ? {} : { status: Object.fromEntries(written) };
}

function withoutCopy({ annotations = {}, ...meta }: ObjectMeta): ObjectMeta {
  const { [LAST_APPLIED]: _copy, ...rest } = annotations;
  return Object.keys(rest).length === 0 ? meta : { ...meta, annotations: rest };
}
