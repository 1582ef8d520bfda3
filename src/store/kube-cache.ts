/**
 * Reads of a controller: all objects of a kind, kept by one watch. Watches of its own are told from here, after the
 * cache has changed, so that whoever is woken by an event finds what it tells.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ExpiredError, StoreUnavailableError } from '../api/errors.ts';
import type { ObjectOf } from '../api/kinds.ts';
import { KINDS, type Kind, keyOf, type ObjectRef } from '../api/meta.ts';
import { type Delta, Reflector } from '../kube/reflector.ts';
import type { KubeTransport } from '../kube/transport.ts';
import { ChangeHistory } from './change-history.ts';
import { pathOfKind } from './kube-objects.ts';
import { DirectReads, type Reads, readKubeObject, type Shows, type Written } from './kube-reads.ts';
import type { Reading } from './object-reader.ts';
import { listedBy, normalRef } from './object-rules.ts';
import { ReadingsByHost, SortedReadings } from './sorted-readings.ts';
import type { GetOptions, ListOptions, ObjectList, ObjectProblem, WatchEvent, WatchOptions } from './store.ts';

export interface KubeCacheOptions {
  readonly transport: KubeTransport;
  /** Changes that a watch can look back; default 1,000. */
  readonly history?: number | undefined;
  /** Told of each request of a watch or list that failed. */
  readonly onFailure?: ((error: unknown, againMs: number) => void) | undefined;
  readonly firstRetryMs?: number | undefined;
}

/** Watches here are told at once: only one that begins again looks back. */
const HISTORY = 1_000;
/** How long a reader waits for the first list. */
const FIRST_LIST_MS = 15_000;
/** How long a reader waits until the cache shows what was written here. */
const OWN_WRITE_MS = 2_000;
/** As the API server waits for a resourceVersion that it does not know yet. */
const AHEAD_MS = 3_000;

export class CachedReads implements Reads {
  readonly #kinds: ReadonlyMap<Kind, KindCache>;
  readonly #direct: DirectReads;

  /** Follows all kinds from now on: a watch can look back to here. */
  constructor(options: KubeCacheOptions) {
    this.#kinds = new Map(KINDS.map((kind) => [kind, new KindCache(kind, options)]));
    this.#direct = new DirectReads(options.transport);
  }

  async get<K extends Kind>(
    kind: K,
    ref: ObjectRef,
    { consistent }: GetOptions = {},
  ): Promise<ObjectOf<K> | undefined> {
    if (consistent === true) return this.#direct.get(kind, ref, { known: this.known(kind, ref) });
    const cache = this.#of(kind);
    await cache.isCurrent();
    return cache.get(keyOf(normalRef(kind, ref)))?.object as ObjectOf<K> | undefined;
  }

  async list<K extends Kind>(kind: K, options: ListOptions): Promise<ObjectList<K>> {
    const cache = this.#of(kind);
    await cache.isCurrent();
    const isListed = listedBy(options);
    const items: ObjectOf<K>[] = [];
    // One array, and no other: of thousands of objects it is made many times a second.
    for (const { object } of cache.sorted(options.hostName)) if (isListed(object)) items.push(object as ObjectOf<K>);
    return { items, resourceVersion: cache.resourceVersion };
  }

  watch<K extends Kind>(kind: K, options: WatchOptions): AsyncIterable<WatchEvent<K>> {
    return this.#of(kind).watch(options) as AsyncIterable<WatchEvent<K>>;
  }

  problems(): readonly ObjectProblem[] {
    return [...this.#kinds.values()].flatMap((cache) => [...cache.problems()]);
  }

  known(kind: Kind, ref: ObjectRef): Reading | undefined {
    return this.#of(kind).get(keyOf(normalRef(kind, ref)));
  }

  wrote(kind: Kind, ref: ObjectRef, written: Written): void {
    this.#kinds.get(kind)?.wrote(keyOf(normalRef(kind, ref)), written);
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

class KindCache {
  readonly #kind: Kind;
  readonly #reflector: Reflector<Reading>;
  readonly #history: ChangeHistory;
  readonly #readings = new SortedReadings();
  readonly #byHost = new ReadingsByHost();
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;
  readonly #listeners = new Set<() => void>();
  /** Up to where it knows all; undefined until the first list is there. */
  #revision: bigint | undefined;
  /** The latest revision that was written here. */
  #written = 0n;
  /** What was taken away here: of that no revision is known. */
  readonly #removed = new Map<string, Shows>();
  #failure: unknown;

  constructor(kind: Kind, { transport, history = HISTORY, onFailure, firstRetryMs }: KubeCacheOptions) {
    this.#kind = kind;
    this.#history = new ChangeHistory(history);
    this.#reflector = new Reflector({
      transport,
      path: pathOfKind(kind),
      read: (raw, known) => readKubeObject(kind, raw, known),
      onFailure: (error, againMs) => {
        this.#failure = error;
        onFailure?.(error, againMs);
        this.#wake();
      },
      ...(firstRetryMs !== undefined && { firstRetryMs }),
    });
    this.#reflector.listen((delta) => {
      if (delta === undefined) this.#movedOn();
      else this.#tell(delta);
    });
    this.#done = this.#reflector.run(this.#abort.signal);
  }

  get resourceVersion(): string {
    return this.#reflector.resourceVersion ?? '0';
  }

  get(key: string): Reading | undefined {
    return this.#reflector.get(key);
  }

  /** By namespace and name. @param hostName absent: of all Hosts and of none */
  sorted(hostName?: string): readonly Reading[] {
    return hostName === undefined ? this.#readings.all : this.#byHost.of(hostName);
  }

  problems(): Iterable<ObjectProblem> {
    return this.#readings.problems;
  }

  wrote(key: string, written: Written): void {
    if (typeof written === 'bigint') {
      if (written > this.#written) this.#written = written;
    } else if (!written(this.get(key)?.object)) this.#removed.set(key, written);
  }

  /**
   * Resolves when the first list is there and the cache shows what was written here before; after some time without, too.
   * @throws StoreUnavailableError where there is no list
   */
  async isCurrent(): Promise<void> {
    if (this.#revision === undefined) {
      await this.#until(() => this.#revision !== undefined, FIRST_LIST_MS);
      if (this.#revision === undefined)
        throw new StoreUnavailableError(`${this.#kind} objects cannot be listed: ${String(this.#failure)}`, {
          cause: this.#failure,
        });
    }
    const [written, removed] = [this.#written, [...this.#removed]];
    const shows = () =>
      (this.#revision ?? 0n) >= written && removed.every(([key, shown]) => this.#removed.get(key) !== shown);
    if (shows()) return;
    await this.#until(shows, OWN_WRITE_MS);
    if (shows()) return;
    // Whoever reads next does not wait for it again.
    if (this.#written === written) this.#written = 0n;
    for (const [key] of removed) this.#removed.delete(key);
  }

  async *watch({ resourceVersion, namespace, name, signal }: WatchOptions): AsyncGenerator<WatchEvent> {
    const until = AbortSignal.any([signal, this.#abort.signal]);
    const wanted = ({ metadata }: ObjectOf<Kind>) =>
      (name === undefined || metadata.name === name) &&
      (namespace === undefined || metadata.namespace === undefined || metadata.namespace === namespace);
    // As the API server reads it.
    const isAny = resourceVersion === undefined || resourceVersion === '0';
    let at: bigint;
    try {
      await this.isCurrent();
      at = isAny ? (this.#revision ?? 0n) : await this.#begin(resourceVersion);
    } catch (error) {
      if (until.aborted) return;
      throw error;
    }
    let place = isAny ? this.#history.end : this.#history.placeAfter(at);
    if (isAny) {
      const first = this.sorted().filter(({ object }) => wanted(object));
      for (const { object } of first) yield { type: 'ADDED', object };
      yield { type: 'BOOKMARK', resourceVersion: String(at) };
    }
    const begun = at;
    while (!until.aborted) {
      const news = this.#history.from(place).filter(({ revision }) => revision > begun);
      const mine = news.filter(({ object }) => wanted(object));
      const now = this.#revision ?? at;
      const last = news.at(-1)?.revision ?? at;
      place = this.#history.end;
      for (const { type, object, revision } of mine)
        yield { type, object: type === 'DELETED' ? withRevision(object, revision) : object } as WatchEvent;
      const next = now > last ? now : last;
      if (next > at && mine.length === 0) yield { type: 'BOOKMARK', resourceVersion: String(next) };
      if (news.length === 0 && next === at) await this.#changed(until);
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
    const isKnown = () => (this.#revision ?? 0n) >= at;
    await this.#until(isKnown, AHEAD_MS);
    if (!isKnown()) throw new ExpiredError(`resourceVersion ${at} is none that this server has said`);
    return at;
  }

  #tell({ type, object: reading, resourceVersion }: Delta<Reading>): void {
    if (type === 'DELETED') this.#byHost.move(this.#readings.delete(reading), undefined);
    else this.#byHost.move(this.#readings.put(reading), reading);
    this.#history.add({ type, object: reading.object, revision: BigInt(resourceVersion) });
  }

  /** After each event, or after all that a list told. */
  #movedOn(): void {
    const before = this.#revision;
    this.#revision = BigInt(this.resourceVersion);
    // What was before the first list is not known here; nor is what is no more since etcd was restored from a backup.
    if (before === undefined || this.#revision < before) this.#history.forget(this.#revision);
    if (before !== undefined && this.#revision < before) this.#written = 0n;
    for (const [key, shows] of this.#removed) if (shows(this.get(key)?.object)) this.#removed.delete(key);
    this.#wake();
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

/** A deletion has a resourceVersion of its own: a watch that goes on from it is not told it again. */
function withRevision(object: ObjectOf<Kind>, revision: bigint): ObjectOf<Kind> {
  return { ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } } as ObjectOf<Kind>;
}
