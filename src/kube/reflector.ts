/**
 * What an API server has of a resource, kept by list and watch. The map changes before its listeners are told, so
 * whoever is woken by a change finds it there.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { BACKOFF, Backoff, type BackoffTimes } from './backoff.ts';
import { KubeStatusError } from './kube-error.ts';
import { listAll } from './list.ts';
import type { KubeObject } from './objects.ts';
import type { KubeTransport, Query } from './transport.ts';
import { watchFrom } from './watch.ts';

/** Old and new are of one uid: an object that was made anew under its name is told as DELETED, then ADDED. */
export interface Delta<T> {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  /** Of DELETED the last that was known. */
  readonly object: T;
  /** Of the change: of a deletion it is later than the object's own. */
  readonly resourceVersion: string;
}

export interface ReflectorOptions<T> {
  readonly transport: KubeTransport;
  readonly path: string;
  readonly query?: Query;
  /** What is kept of an object. @param known what is kept of it so far */
  readonly read: (object: KubeObject, known?: T) => T;
  /** Told of each request that failed. */
  readonly onFailure?: (error: unknown, againMs: number) => void;
  readonly firstRetryMs?: number;
}

interface Entry<T> {
  readonly uid: string;
  readonly resourceVersion: string;
  readonly object: T;
}

export class Reflector<T> {
  readonly #options: ReflectorOptions<T>;
  readonly #times: BackoffTimes;
  readonly #entries = new Map<string, Entry<T>>();
  readonly #listeners = new Set<(delta: Delta<T> | undefined) => void>();
  #resourceVersion: string | undefined;

  constructor(options: ReflectorOptions<T>) {
    this.#options = options;
    this.#times = { ...BACKOFF, ...(options.firstRetryMs !== undefined && { firstMs: options.firstRetryMs }) };
  }

  /** Up to where it knows all; undefined until the first list is there. */
  get resourceVersion(): string | undefined {
    return this.#resourceVersion;
  }

  /** @param key of keyOfObject() */
  get(key: string): T | undefined {
    return this.#entries.get(key)?.object;
  }

  /** In the order in which they became known. */
  values(): T[] {
    return Array.from(this.#entries.values(), ({ object }) => object);
  }

  /** Calls with each change after it was made, and with undefined where its resourceVersion moved on. */
  listen(listener: (delta: Delta<T> | undefined) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Lists and watches until the signal aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { transport, path, query, onFailure } = this.#options;
    const backoff = new Backoff(this.#times);
    while (!signal.aborted) {
      try {
        const { items, resourceVersion } = await listAll(transport, { path, ...(query && { query }), signal });
        this.#replace(items, resourceVersion);
        backoff.reset();
        await this.#follow(resourceVersion, signal);
      } catch (error) {
        if (signal.aborted) return;
        const expired = error instanceof KubeStatusError && error.expired;
        const againMs = backoff.next(error);
        if (!expired) onFailure?.(error, againMs);
        await sleep(againMs, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  async #follow(resourceVersion: string, signal: AbortSignal): Promise<void> {
    const { transport, path, query, onFailure } = this.#options;
    const events = watchFrom(transport, {
      path,
      resourceVersion,
      signal,
      ...(query && { query }),
      ...(onFailure && { onFailure }),
      backoff: this.#times,
    });
    for await (const event of events) {
      if (event.type === 'DELETED') this.#remove(keyOfObject(event.object), event.object.metadata.resourceVersion);
      else if (event.type !== 'BOOKMARK') this.#put(event.object);
      this.#moveTo(event.type === 'BOOKMARK' ? event.resourceVersion : event.object.metadata.resourceVersion);
    }
  }

  /** What a list shows, told as the changes that lead to it. */
  #replace(items: readonly KubeObject[], resourceVersion: string): void {
    // In a past that etcd was restored to, a resourceVersion that is known may be another object's.
    const isPast = BigInt(resourceVersion) < BigInt(this.#resourceVersion ?? 0);
    const listed = new Set(isPast ? [] : items.map(keyOfObject));
    for (const key of [...this.#entries.keys()]) if (!listed.has(key)) this.#remove(key, resourceVersion);
    for (const item of items) this.#put(item);
    this.#moveTo(resourceVersion);
  }

  #put(raw: KubeObject): void {
    const { uid, resourceVersion } = raw.metadata;
    const key = keyOfObject(raw);
    const known = this.#entries.get(key);
    if (known?.uid === uid && known.resourceVersion === resourceVersion) return;
    if (known !== undefined && known.uid !== uid) this.#remove(key, resourceVersion);
    const same = known?.uid === uid ? known : undefined;
    const object = this.#options.read(raw, same?.object);
    this.#entries.set(key, { uid, resourceVersion, object });
    this.#tell({ type: same === undefined ? 'ADDED' : 'MODIFIED', object, resourceVersion });
  }

  #remove(key: string, resourceVersion: string): void {
    const known = this.#entries.get(key);
    if (!this.#entries.delete(key) || known === undefined) return;
    this.#tell({ type: 'DELETED', object: known.object, resourceVersion });
  }

  #moveTo(resourceVersion: string): void {
    this.#resourceVersion = resourceVersion;
    this.#tell(undefined);
  }

  #tell(delta: Delta<T> | undefined): void {
    for (const listener of this.#listeners) listener(delta);
  }
}

/** `namespace/name`, or the name alone. */
export function keyOfObject({ metadata: { namespace, name } }: KubeObject): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}
