/** Waiting for what the loop sees, by watching the object. A cancel ends the waiting; the change goes on. */
import { ExpiredError } from '../api/errors.ts';
import type { ObjectOf } from '../api/kinds.ts';
import type { Kind, ObjectRef } from '../api/meta.ts';
import type { Store } from './store.ts';

/** The object as it is, then after each change; undefined, as the last, when the one of this uid is gone. */
export async function* versions<K extends Kind>(
  store: Store,
  kind: K,
  { uid, ...ref }: ObjectRef & { readonly uid: string },
  signal: AbortSignal,
): AsyncGenerator<ObjectOf<K> | undefined> {
  while (!signal.aborted) {
    const object = await store.get(kind, ref);
    if (object === undefined || object.metadata.uid !== uid) {
      yield undefined;
      return;
    }
    yield object;
    try {
      const { resourceVersion } = object.metadata;
      for await (const event of store.watch(kind, { ...ref, resourceVersion, signal })) {
        if (event.type === 'BOOKMARK') continue;
        const gone = event.type === 'DELETED' || event.object.metadata.uid !== uid;
        yield gone ? undefined : event.object;
        if (gone) return;
      }
    } catch (error) {
      if (!(error instanceof ExpiredError)) throw error;
    }
  }
}

/**
 * The first version that `accept` takes; otherwise the last one that was seen, when the time is over.
 * @param accept undefined: go on waiting. It is asked with undefined when the object is gone.
 * @throws the signal's reason where it aborts
 */
export async function firstVersion<K extends Kind, T>(
  store: Store,
  kind: K,
  options: {
    readonly ref: ObjectRef & { readonly uid: string };
    readonly forMs: number;
    readonly signal: AbortSignal;
    readonly accept: (object: ObjectOf<K> | undefined) => T | undefined;
  },
): Promise<T | undefined> {
  const { ref, forMs, signal, accept } = options;
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), forMs);
  try {
    for await (const object of versions(store, kind, ref, AbortSignal.any([signal, over.signal]))) {
      const accepted = accept(object);
      if (accepted !== undefined) return accepted;
      if (object === undefined) break;
    }
  } finally {
    clearTimeout(timer);
  }
  signal.throwIfAborted();
  return undefined;
}
