/** Changes of several kinds as one stream, for `get -w`. */
import { EventEmitter, on } from 'node:events';
import { ExpiredError } from '../api/errors.ts';
import type { AnyObject } from '../api/kinds.ts';
import { type Kind, keyOf } from '../api/meta.ts';
import type { Store, WatchOptions } from '../store/store.ts';
import type { Asked } from './resources.ts';

export interface Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: AnyObject;
}

/** Where a watch begins that shall show all that happens from now on. @param namespace absent: all */
export async function positions(
  store: Store,
  { kinds }: Asked,
  namespace: string | undefined,
): Promise<ReadonlyMap<Kind, string>> {
  const found = kinds.map(async (kind) => [kind, (await store.list(kind, { namespace })).resourceVersion] as const);
  return new Map(await Promise.all(found));
}

export interface Scope {
  /** Absent: all. */
  readonly namespace: string | undefined;
  readonly since: ReadonlyMap<Kind, string>;
}

/** Every change of what was asked for, until the signal aborts; then it ends without error. */
export async function* watchAll(
  store: Store,
  { kinds, targets }: Asked,
  { namespace, since }: Scope,
  signal: AbortSignal,
): AsyncGenerator<Change> {
  const emitter = new EventEmitter();
  const wanted = new Set(targets.map(({ kind, ref }) => `${kind}/${keyOf(ref)}`));
  for (const kind of kinds) {
    const scope = { namespace: kind === 'Host' ? undefined : namespace, signal };
    forward(store, kind, { ...scope, resourceVersion: since.get(kind) }, emitter).catch((error: unknown) =>
      emitter.emit('error', error),
    );
  }
  try {
    for await (const [change] of on(emitter, 'change', { signal }) as AsyncIterable<[Change]>) {
      const { kind, metadata } = change.object;
      if (wanted.size === 0 || wanted.has(`${kind}/${keyOf({ namespace: metadata.namespace, name: metadata.name })}`))
        yield change;
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

async function forward<K extends Kind>(
  store: Store,
  kind: K,
  options: WatchOptions,
  emitter: EventEmitter,
): Promise<void> {
  let { resourceVersion } = options;
  while (!options.signal.aborted) {
    try {
      for await (const event of store.watch(kind, { ...options, resourceVersion })) {
        if (event.type !== 'BOOKMARK') emitter.emit('change', event);
      }
    } catch (error) {
      if (!(error instanceof ExpiredError)) throw error;
      // What happened in between is lost; what follows is not.
      resourceVersion = (await store.list(kind, { namespace: options.namespace })).resourceVersion;
    }
  }
}
