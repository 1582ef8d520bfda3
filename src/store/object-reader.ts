/** Stored objects as readers see them: defaults filled, frozen. */
import { readSpec } from '../api/admission.ts';
import { messageOf } from '../api/errors.ts';
import type { ObjectOf } from '../api/kinds.ts';
import { API_VERSION, type Kind, type ObjectRef } from '../api/meta.ts';
import { deepFreeze, sharing } from './merge.ts';
import type { StoredObject } from './object-table.ts';
import type { ObjectProblem } from './store.ts';

export interface Reading {
  readonly object: ObjectOf<Kind>;
  readonly problem: ObjectProblem | undefined;
  /** The spec without the defaults that a reader fills in. */
  readonly asStored: unknown;
}

/**
 * An unreadable spec is returned as stored: an object must never look absent.
 * @param known what was read of it before. Most changes leave the spec as it was: then it is not judged again
 */
export function readObject(stored: StoredObject, known?: Reading): Reading {
  const { kind } = stored;
  const metadata = sharing(known?.object.metadata, stored.metadata);
  const status = sharing(known?.object.status, stored.status);
  const asStored = sharing(known?.asStored, stored.spec);
  const isJudged = known !== undefined && known.asStored === asStored;
  const { spec, message } = isJudged ? { spec: known.object.spec, message: known.problem?.message } : specOf(stored);
  const object = deepFreeze({
    apiVersion: API_VERSION,
    kind,
    metadata,
    spec: isJudged ? spec : sharing(asStored, spec),
    ...(status === undefined ? {} : { status }),
  }) as ObjectOf<Kind>;
  if (message === undefined) return { object, problem: undefined, asStored };
  return { object, problem: { kind, ref: refOf(metadata), reason: 'InvalidSpec', message }, asStored };
}

function specOf({ kind, metadata, spec }: StoredObject): { spec: unknown; message?: string } {
  try {
    return { spec: readSpec(kind, metadata.name, spec) };
  } catch (error) {
    return { spec: spec ?? {}, message: messageOf(error) };
  }
}

export function refOf({
  namespace,
  name,
}: {
  readonly namespace?: string | undefined;
  readonly name: string;
}): ObjectRef {
  return namespace === undefined ? { name } : { namespace, name };
}
