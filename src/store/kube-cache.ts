/**
 * Reads of a controller: all objects of a kind, kept by one watch. Watches of its own are told from here, after the
 * cache has changed, so that whoever is woken by an event finds what it tells.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ExpiredError, StoreUnavailableError } from '../api/errors.ts';
import type { ObjectOf } from '../api/kinds.ts';
import { KINDS, type Kind, keyOf, type ObjectRef } from '../api/meta.ts';
import { Reflector } from '../kube/reflector.ts';
import type { KubeTransport } from '../kube/transport.ts';
import { pathOfKind } from './kube-objects.ts';
import { namespaceFor, type Reads, readKubeObject, type Shows } from './kube-reads.ts';
import type { Reading } from './object-reader.ts';
import { normalRef } from './object-rules.ts';
import type { ListOptions, ObjectList, ObjectProblem, WatchEvent, WatchOptions } from './store.ts';

export interface KubeCacheOptions {
  readonly transport: KubeTransport;
  /** Changes that a watch can look back; default 10,000. */
  readonly history?: number | undefined;
  /** Told of each request of a watch or list that failed. */
  readonly onFailure?: ((error: unknown, againMs: number) => void) | undefined;
  readonly firstRetryMs?: number | undefined;
}

const HISTORY = 10_000;
/** Old changes go in batches. */
const SLACK = 1.1;
/** How long a reader waits for the first list. */
const FIRST_LIST_MS = 15_000;
/** How long a reader waits until the cache shows what was written here. */
const OWN_WRITE_MS = 2_000;
/** As the API server waits for a resourceVersion that it does not know yet. */
const AHEAD_MS = 3_000;

export class CachedReads implements Reads {
  readonly #kinds: ReadonlyMap<Kind, KindCache>;

  /** Follows all kinds from now on: a watch can look back to here. */
  constructor(options: KubeCacheOptions) {
    this.#kinds = new Map(KINDS.map((kind) => [kind, new KindCache(kind, options)]));
  }

  async get<K extends Kind>(kind: K, ref: ObjectRef): Promise<ObjectOf<K> | undefined> {
    const cache = this.#of(kind);
    await cache.isCurrent();
    return cache.get(keyOf(normalRef(kind, ref)))?.object as ObjectOf<K> | undefined;
  }

  async list<K extends Kind>(kind: K, options: ListOptions): Promise<ObjectList<K>> {
    const cache = this.#of(kind);
    await cache.isCurrent();
    const namespace = namespaceFor(kind, options.namespace === undefined ? {} : { namespace: options.namespace });
    const labels = Object.entries(options.labels ?? {});
    const items = cache
      .sorted()
      .map(({ object }) => object as ObjectOf<K>)
      .filter(({ metadata }) => namespace === undefined || metadata.namespace === namespace)
      .filter(({ metadata }) => labels.every(([key, value]) => metadata.labels?.[key] === value));
    return { items, resourceVersion: cache.resourceVersion };
  }

  watch<K extends Kind>(kind: K, options: WatchOptions): AsyncIterable<WatchEvent<K>> {
    return this.#of(kind).watch(options) as AsyncIterable<WatchEvent<K>>;
  }

  problems(): readonly ObjectProblem[] {
    return [...this.#kinds.values()].flatMap((cache) => cache.sorted().flatMap(({ problem }) => problem ?? []));
  }

  wrote(kind: Kind, ref: ObjectRef, shows: Shows): void {
    this.#kinds.get(kind)?.wrote(keyOf(normalRef(kind, ref)), shows);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#kinds.values()].map((cache) => cache.close()));
  }

  #of(kind: Kind): KindCache {
    const cache = this.#kinds.get(kind);
    if (cache === undefined) throw new Error(`nothing follows ${kind}`);
    return cache;
  }
}

interface Told {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: ObjectOf<Kind>;
  readonly revision: bigint;
}

class KindCache {
  readonly #kind: Kind;
  readonly #reflector: Reflector<Reading>;
  readonly #history: number;
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;
  readonly #listeners = new Set<() => void>();
  readonly #unseen = new Map<string, Shows>();
  #told: Told[] = [];
  /** Changes up to here are forgotten. */
  #compacted = -1n;
  #upTo = 0n;
  /** How often the cache went back in time: etcd was restored from a backup, and what was watched is no more. */
  #restored = 0;
  #sorted: readonly Reading[] | undefined;
  #failure: unknown;

  constructor(kind: Kind, { transport, history = HISTORY, onFailure, firstRetryMs }: KubeCacheOptions) {
    this.#kind = kind;
    this.#history = history;
    this.#reflector = new Reflector({
      transport,
      path: pathOfKind(kind),
      read: (raw) => readKubeObject(kind, raw),
      onFailure: (error, againMs) => {
        this.#failure = error;
        onFailure?.(error, againMs);
        this.#wake();
      },
      ...(firstRetryMs !== undefined && { firstRetryMs }),
    });
    this.#reflector.listen((delta) => {
      if (delta === undefined) this.#listed();
      else this.#tell({ type: delta.type, object: delta.object.object, revision: BigInt(delta.resourceVersion) });
    });
    this.#done = this.#reflector.run(this.#abort.signal);
  }

  get resourceVersion(): string {
    return this.#reflector.resourceVersion ?? '0';
  }

  get(key: string): Reading | undefined {
    return this.#reflector.get(key);
  }

  /** By namespace and name. */
  sorted(): readonly Reading[] {
    this.#sorted ??= this.#reflector.values().toSorted((a, b) => (orderOf(a) < orderOf(b) ? -1 : 1));
    return this.#sorted;
  }

  wrote(key: string, shows: Shows): void {
    if (!this.#shows(key, shows)) this.#unseen.set(key, shows);
  }

  /**
   * Resolves when the first list is there and the cache shows what was written here; after some time without, too.
   * @throws StoreUnavailableError where there is no list
   */
  async isCurrent(): Promise<void> {
    if (this.#reflector.resourceVersion === undefined) {
      await this.#until(() => this.#reflector.resourceVersion !== undefined, FIRST_LIST_MS);
      if (this.#reflector.resourceVersion === undefined)
        throw new StoreUnavailableError(`${this.#kind} objects cannot be listed: ${String(this.#failure)}`, {
          cause: this.#failure,
        });
    }
    if (this.#unseen.size === 0) return;
    await this.#until(() => this.#unseen.size === 0, OWN_WRITE_MS);
    this.#unseen.clear();
  }

  async *watch({ resourceVersion, namespace, name, signal }: WatchOptions): AsyncGenerator<WatchEvent> {
    const until = AbortSignal.any([signal, this.#abort.signal]);
    const wanted = ({ metadata }: ObjectOf<Kind>) =>
      (name === undefined || metadata.name === name) &&
      (namespace === undefined || metadata.namespace === undefined || metadata.namespace === namespace);
    // As the API server reads it.
    const isAny = resourceVersion === undefined || resourceVersion === '0';
    const history = this.#restored;
    let at: bigint;
    try {
      await this.isCurrent();
      at = isAny ? BigInt(this.resourceVersion) : await this.#begin(resourceVersion);
    } catch (error) {
      if (until.aborted) return;
      throw error;
    }
    if (isAny) {
      const first = this.sorted().filter(({ object }) => wanted(object));
      for (const { object } of first) yield { type: 'ADDED', object };
      yield { type: 'BOOKMARK', resourceVersion: String(at) };
    }
    while (!until.aborted) {
      if (at < this.#compacted || history !== this.#restored)
        throw new ExpiredError(`resourceVersion ${at} is not of this history, or older`);
      const now = BigInt(this.resourceVersion);
      const news = this.#told.filter(({ revision }) => revision > at).toSorted(byRevision);
      const mine = news.filter(({ object }) => wanted(object));
      const last = news.at(-1)?.revision ?? at;
      for (const { type, object, revision } of mine)
        yield { type, object: type === 'DELETED' ? withRevision(object, revision) : object } as WatchEvent;
      const next = now > last ? now : last;
      if (next > at && mine.length === 0) yield { type: 'BOOKMARK', resourceVersion: String(next) };
      if (next === at) await this.#changed(until);
      at = next;
    }
  }

  async close(): Promise<void> {
    this.#abort.abort();
    this.#wake();
    await this.#done;
  }

  async #begin(resourceVersion: string): Promise<bigint> {
    if (!/^\d+$/.test(resourceVersion)) throw new ExpiredError(`${resourceVersion} is no resourceVersion`);
    const at = BigInt(resourceVersion);
    await this.#until(() => BigInt(this.resourceVersion) >= at, AHEAD_MS);
    if (at > BigInt(this.resourceVersion))
      throw new ExpiredError(`resourceVersion ${at} is none that this server has said`);
    return at;
  }

  #tell(told: Told): void {
    this.#sorted = undefined;
    this.#told.push(told);
    if (this.#told.length <= this.#history * SLACK) return;
    for (const { revision } of this.#told.splice(0, this.#told.length - this.#history))
      if (revision > this.#compacted) this.#compacted = revision;
  }

  /** The cache has moved on as a whole: after each event, or after all that a list told. */
  #listed(): void {
    const upTo = BigInt(this.resourceVersion);
    const isPast = upTo < this.#upTo;
    this.#upTo = upTo;
    if (isPast) {
      this.#restored += 1;
      this.#unseen.clear();
    }
    if (isPast || this.#compacted < 0n) {
      // What was before the first list is not known here.
      this.#compacted = upTo;
      this.#told = [];
    }
    for (const [key, shows] of this.#unseen) if (this.#shows(key, shows)) this.#unseen.delete(key);
    this.#wake();
  }

  #shows(key: string, shows: Shows): boolean {
    return shows(this.get(key)?.object, BigInt(this.resourceVersion));
  }

  #wake(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  #changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        this.#listeners.delete(end);
        signal.removeEventListener('abort', end);
        resolve();
      };
      this.#listeners.add(end);
      signal.addEventListener('abort', end);
    });
  }

  async #until(isSo: () => boolean, forMs: number): Promise<void> {
    if (isSo()) return;
    const over = new AbortController();
    const signal = AbortSignal.any([over.signal, this.#abort.signal]);
    const timer = sleep(forMs, undefined, { signal }).then(
      () => over.abort(),
      () => undefined,
    );
    while (!signal.aborted && !isSo()) await this.#changed(signal);
    over.abort();
    await timer;
  }
}

/** No name has this character. */
function orderOf({ object: { metadata } }: Reading): string {
  return `${metadata.namespace ?? ''}\0${metadata.name}`;
}

function byRevision(a: Told, b: Told): number {
  return a.revision < b.revision ? -1 : a.revision > b.revision ? 1 : 0;
}

/** A deletion has a resourceVersion of its own: a watch that goes on from it is not told it again. */
function withRevision(object: ObjectOf<Kind>, revision: bigint): ObjectOf<Kind> {
  return { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } } as ObjectOf<Kind>;
}
