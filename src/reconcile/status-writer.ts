/** Status into the store: recomputed on the newest object where another write came between, dropped where the object is gone. */
import { isDeepStrictEqual } from 'node:util';
import { ConflictError, NotFoundError } from '../api/errors.ts';
import type { ObjectOf, StatusOf } from '../api/kinds.ts';
import type { Kind, ObjectRef } from '../api/meta.ts';
import type { Store } from '../store/store.ts';

const ATTEMPTS = 5;

/**
 * Resolves to the object as it is then; undefined where it is gone. Where nothing changes nothing is asked, and it may be
 * as old as the one that was given.
 * @param statusFrom the new status on top of the newest object; undefined leaves it as it is
 */
export async function writeStatus<K extends Kind>(
  store: Store,
  kind: K,
  object: ObjectOf<K>,
  statusFrom: (newest: ObjectOf<K>) => StatusOf<K> | undefined,
): Promise<ObjectOf<K> | undefined> {
  let newest: ObjectOf<K> | undefined = object;
  const ref: ObjectRef = object.metadata;
  for (let attempt = 1; newest !== undefined; attempt += 1) {
    if (newest.metadata.uid !== object.metadata.uid) return undefined;
    const status = statusFrom(newest);
    if (status === undefined || isDeepStrictEqual(status, newest.status)) return newest;
    const { uid, resourceVersion } = newest.metadata;
    try {
      return await store.updateStatus(kind, ref, status, { uid, resourceVersion });
    } catch (error) {
      if (error instanceof NotFoundError) return undefined;
      if (!(error instanceof ConflictError) || attempt >= ATTEMPTS) throw error;
      newest = await store.get(kind, ref, { consistent: true });
    }
  }
  return undefined;
}

/** Whether anything changed since that people, tools or our own steps have to say of an object: all but its status. */
export function isOutdated<K extends Kind>(object: ObjectOf<K>, newest: ObjectOf<K>): boolean {
  const { resourceVersion: _before, ...before } = object.metadata;
  const { resourceVersion: _after, ...after } = newest.metadata;
  return !isDeepStrictEqual(before, after);
}
