/** Stored objects as readers see them: defaults filled, frozen, shared until they change. */
import { readSpec } from '../api/admission.ts';
import { messageOf } from '../api/errors.ts';
import type { ObjectOf } from '../api/kinds.ts';
import { API_VERSION, type Kind, type ObjectMeta, type ObjectRef } from '../api/meta.ts';
import { deepFreeze } from './merge.ts';
import type { StoredObject } from './object-table.ts';
import type { ObjectProblem } from './store.ts';

interface Reading {
  readonly object: ObjectOf<Kind>;
  readonly problem: ObjectProblem | undefined;
}

const MAX_CACHED = 20_000;

export class ObjectReader {
  readonly #current = new Map<string, Reading>();

  /** The object of the row as it is now. */
  current(stored: StoredObject): Reading {
    const key = `${stored.kind}/${stored.metadata.namespace ?? ''}/${stored.metadata.name}`;
    const known = this.#current.get(key);
    if (known !== undefined && isSame(known.object.metadata, stored.metadata)) return known;
    const made = readObject(stored);
    // Objects come and go under ever new names; starting afresh now and then is simpler than to follow them.
    if (this.#current.size >= MAX_CACHED) this.#current.clear();
    this.#current.set(key, made);
    return made;
  }
}

function isSame(a: ObjectMeta, b: ObjectMeta): boolean {
  return a.uid === b.uid && a.resourceVersion === b.resourceVersion;
}

/** An unreadable spec is returned as stored: an object must never look absent. */
export function readObject(stored: StoredObject): Reading {
  const { kind, metadata, status } = stored;
  const { spec, message } = specOf(stored);
  const object = deepFreeze({
    apiVersion: API_VERSION,
    kind,
    metadata,
    spec,
    ...(status === undefined ? {} : { status }),
  }) as ObjectOf<Kind>;
  if (message === undefined) return { object, problem: undefined };
  return { object, problem: { kind, ref: refOf(metadata), reason: 'InvalidSpec', message } };
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
