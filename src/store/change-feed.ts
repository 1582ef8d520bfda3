/**
 * Watches over the history of changes. Own writes wake them at once; other processes' writes are noticed through
 * SQLite's data_version.
 */
import { ExpiredError } from '../api/errors.ts';
import type { ObjectOf } from '../api/kinds.ts';
import { isNamespaced, type Kind } from '../api/meta.ts';
import type { Database } from './database.ts';
import type { ObjectCache } from './object-cache.ts';
import type { ObjectTable } from './object-table.ts';
import type { WatchEvent, WatchOptions } from './store.ts';

export interface FeedTimes {
  /** How soon writes of other processes are seen. */
  readonly pollMs?: number | undefined;
  /** How often a quiet watch learns how far it has come. */
  readonly bookmarkMs?: number | undefined;
}

const POLL_MS = 100;
const BOOKMARK_MS = 60_000;
const BATCH = 500;

interface Batch<K extends Kind> {
  readonly events: readonly WatchEvent<K>[];
  readonly through: number;
  readonly more: boolean;
}

export interface FeedSources {
  readonly db: Database;
  readonly table: ObjectTable;
  readonly cache: ObjectCache;
}

export class ChangeFeed {
  readonly #db: Database;
  readonly #table: ObjectTable;
  readonly #cache: ObjectCache;
  readonly #pollMs: number;
  readonly #bookmarkMs: number;
  readonly #waiting = new Set<() => void>();
  #watches = 0;
  #poll: NodeJS.Timeout | undefined;
  #dataVersion = 0;
  #closed = false;

  constructor({ db, table, cache }: FeedSources, times: FeedTimes = {}) {
    this.#db = db;
    this.#table = table;
    this.#cache = cache;
    this.#pollMs = times.pollMs ?? POLL_MS;
    this.#bookmarkMs = times.bookmarkMs ?? BOOKMARK_MS;
  }

  /** Something was written. */
  wake(): void {
    for (const resume of [...this.#waiting]) resume();
  }

  close(): void {
    this.#closed = true;
    this.wake();
  }

  async *watch<K extends Kind>(kind: K, options: WatchOptions): AsyncGenerator<WatchEvent<K>> {
    const { signal } = options;
    this.#begin();
    try {
      let at: number;
      if (options.resourceVersion === undefined) {
        const { items, revision } = this.#snapshot<K>(kind, options);
        at = revision;
        for (const object of items) {
          if (signal.aborted) return;
          yield { type: 'ADDED', object };
        }
      } else at = Number(options.resourceVersion);
      yield* this.#follow(kind, options, at);
    } finally {
      this.#end();
    }
  }

  #snapshot<K extends Kind>(kind: K, options: WatchOptions): { items: ObjectOf<K>[]; revision: number } {
    return this.#db.read(() => ({
      revision: this.#table.revision(),
      items: this.#cache.objects(kind).filter((object) => isWanted(object, options)),
    }));
  }

  async *#follow<K extends Kind>(kind: K, options: WatchOptions, from: number): AsyncGenerator<WatchEvent<K>> {
    const { signal } = options;
    let at = from;
    let bookmarkAt = performance.now() + this.#bookmarkMs;
    while (!signal.aborted && !this.#closed) {
      const { events, through, more } = this.#changes<K>(kind, options, at);
      at = through;
      for (const event of events) {
        if (signal.aborted) return;
        yield event;
      }
      if (events.length > 0 || more) continue;
      if (performance.now() >= bookmarkAt) {
        bookmarkAt = performance.now() + this.#bookmarkMs;
        yield { type: 'BOOKMARK', resourceVersion: String(at) };
        continue;
      }
      // Nothing can be written between the look above and this wait: neither awaits.
      await this.#news(signal, bookmarkAt - performance.now());
    }
  }

  /** The events after `at`, and how far the history was read. */
  #changes<K extends Kind>(kind: K, options: WatchOptions, at: number): Batch<K> {
    return this.#db.read(() => {
      const revision = this.#table.revision();
      if (!Number.isSafeInteger(at) || at < this.#table.compacted() || at > revision) {
        throw new ExpiredError(
          `the history of ${kind} does not reach back to resourceVersion ${quoteRevision(options, at)}: list again`,
        );
      }
      const changes = this.#table.changesAfter(at, kind, BATCH);
      const last = changes.at(-1);
      const events = changes
        .map(({ type, row }) => ({ type, object: this.#cache.object(kind, row) }))
        .filter(({ object }) => isWanted(object, options));
      const more = changes.length === BATCH && last !== undefined;
      return { events, more, through: more ? last.revision : revision };
    });
  }

  /** Resolves at the next write, abort, close, or after `withinMs`. */
  #news(signal: AbortSignal, withinMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        this.#waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, Math.max(0, withinMs));
      signal.addEventListener('abort', done);
      this.#waiting.add(done);
    });
  }

  #begin(): void {
    this.#watches += 1;
    if (this.#poll !== undefined) return;
    this.#dataVersion = this.#db.dataVersion();
    this.#poll = setInterval(() => this.#look(), this.#pollMs);
  }

  #end(): void {
    this.#watches -= 1;
    if (this.#watches > 0) return;
    clearInterval(this.#poll);
    this.#poll = undefined;
  }

  #look(): void {
    try {
      const version = this.#db.dataVersion();
      if (version === this.#dataVersion) return;
      this.#dataVersion = version;
    } catch {
      // The watches meet the same error when they read, and tell it.
    }
    this.wake();
  }
}

function quoteRevision(options: WatchOptions, at: number): string {
  return JSON.stringify(options.resourceVersion ?? String(at)).slice(0, 40);
}

function isWanted<K extends Kind>(object: ObjectOf<K>, { namespace, name }: WatchOptions): boolean {
  const inNamespace = namespace === undefined || !isNamespaced(object.kind) || object.metadata.namespace === namespace;
  return inNamespace && (name === undefined || object.metadata.name === name);
}
