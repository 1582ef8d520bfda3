/** The Store contract over an ObjectTable. Where manifests stand beside it, they take part in each write as Sources. */
import type { Manifest } from '../api/admission.ts';
import { AlreadyExistsError, ConflictError, NotFoundError } from '../api/errors.ts';
import type { ObjectOf, StatusOf } from '../api/kinds.ts';
import { KINDS, type Kind, keyOf, type ObjectRef } from '../api/meta.ts';
import { ChangeFeed, type FeedTimes } from './change-feed.ts';
import type { Database } from './database.ts';
import { fingerprint } from './merge.ts';
import { ObjectCache } from './object-cache.ts';
import { readObject, refOf } from './object-reader.ts';
import {
  admittedStatus,
  asked,
  checkPreconditions,
  deleted,
  listedBy,
  newObject,
  normalRef,
  patched,
  redeclared,
  refOfManifest,
} from './object-rules.ts';
import type { Declaration, ObjectTable, StoredObject } from './object-table.ts';
import type {
  Applied,
  Hold,
  ListOptions,
  ObjectList,
  ObjectPatch,
  ObjectProblem,
  PatchOptions,
  Preconditions,
  SourceProblem,
  Store,
  WatchEvent,
  WatchOptions,
  WriteOptions,
} from './store.ts';

/** The manifests beside a table. All but `settle` run inside the transaction of a write. */
export interface Sources {
  /** Takes in what people changed in the manifests of this object. */
  refresh(kind: Kind, ref: ObjectRef): void;
  /** Plans that the object's manifest shall say this; a manifest that is missing stays so unless `make`. */
  declare(kind: Kind, ref: ObjectRef, declaration: Declaration, make: boolean): void;
  /** Plans that no manifest speaks of the object any more. */
  undeclare(kind: Kind, ref: ObjectRef): void;
  /** The object is gone for good. */
  removed(kind: Kind, ref: ObjectRef): void;
  /** Makes sure that what was planned can be done. */
  prepare(): void;
  /** After the commit: does it. */
  settle(): void;
  /** Nothing was committed. */
  forget(): void;
  problems(): readonly ObjectProblem[];
  sourceProblems(): readonly SourceProblem[];
}

export interface TableStoreOptions extends FeedTimes {
  readonly db: Database;
  readonly table: ObjectTable;
  readonly sources?: Sources | undefined;
}

export class TableStore implements Store {
  readonly #db: Database;
  readonly #table: ObjectTable;
  readonly #feed: ChangeFeed;
  readonly #cache: ObjectCache;
  readonly #sources: Sources | undefined;

  constructor({ db, table, sources, ...times }: TableStoreOptions) {
    this.#db = db;
    this.#table = table;
    this.#cache = new ObjectCache(db, table);
    this.#feed = new ChangeFeed({ db, table, cache: this.#cache }, times);
    this.#sources = sources;
  }

  get uid(): string {
    return this.#table.uid;
  }

  async hasNamespace(): Promise<boolean> {
    return true;
  }

  async get<K extends Kind>(kind: K, ref: ObjectRef): Promise<ObjectOf<K> | undefined> {
    return this.#db.read(() => {
      const row = this.#table.row(kind, normalRef(kind, ref));
      return row === undefined ? undefined : this.#cache.object(kind, row);
    });
  }

  async list<K extends Kind>(kind: K, options: ListOptions = {}): Promise<ObjectList<K>> {
    return this.#db.read(() => ({
      resourceVersion: String(this.#table.revision()),
      items: this.#cache.objects(kind).filter(listedBy(options)),
    }));
  }

  async create<K extends Kind>(manifest: Manifest<K>, options: WriteOptions = {}): Promise<ObjectOf<K>> {
    const { kind } = manifest;
    return this.#write(options.dryRun, () => {
      const ref = refOfManifest(manifest);
      this.#sources?.refresh(kind, ref);
      const existing = this.#table.find(kind, ref);
      if (existing !== undefined) {
        const ending = existing.metadata.deletionTimestamp === undefined ? '' : ' and is being deleted';
        throw new AlreadyExistsError(`${kind} ${keyOf(ref)} already exists${ending}`);
      }
      return seen<K>(this.#insert(manifest, options));
    });
  }

  #insert(manifest: Manifest, options: WriteOptions): StoredObject {
    const { spec, declaration } = asked(manifest, options);
    this.#sources?.declare(manifest.kind, refOfManifest(manifest), declaration, true);
    return this.#table.insert(newObject(manifest, spec, declaration));
  }

  async apply<K extends Kind>(manifest: Manifest<K>, options: WriteOptions = {}): Promise<Applied<K>> {
    const { kind, metadata } = manifest;
    const ref = refOfManifest(manifest);
    return this.#write(options.dryRun, () => {
      this.#sources?.refresh(kind, ref);
      const before = this.#table.find(kind, ref);
      if (before === undefined) return { object: seen<K>(this.#insert(manifest, options)), outcome: 'created' };
      checkPreconditions(before, metadata);
      if (before.metadata.deletionTimestamp !== undefined) {
        throw new ConflictError(`${kind} ${keyOf(ref)} is being deleted: apply again when it is gone`);
      }
      const { spec, declaration } = asked(manifest, options);
      const rest = Object.entries(spec).filter(([field]) => options.undeclared?.includes(field));
      const after = this.#table.update(before, redeclared(before, declaration, Object.fromEntries(rest)));
      this.#sources?.declare(kind, ref, declaration, true);
      const outcome = after.metadata.resourceVersion === before.metadata.resourceVersion ? 'unchanged' : 'configured';
      return { object: seen<K>(after), outcome };
    });
  }

  patch<K extends Kind>(kind: K, ref: ObjectRef, patch: ObjectPatch, options: PatchOptions = {}): Promise<ObjectOf<K>> {
    return this.#patch(kind, ref, () => patch, options);
  }

  hold<K extends Kind>(
    kind: K,
    ref: ObjectRef,
    { finalizer, labels }: Hold,
    preconditions: { readonly uid: string },
  ): Promise<ObjectOf<K>> {
    const held = ({ metadata: { finalizers = [] } }: StoredObject): ObjectPatch => ({
      metadata: { finalizers: [...new Set([...finalizers, finalizer])], ...(labels && { labels }) },
    });
    return this.#patch(kind, ref, held, preconditions);
  }

  async #patch<K extends Kind>(
    kind: K,
    ref: ObjectRef,
    patchOf: (before: StoredObject) => ObjectPatch,
    options: PatchOptions,
  ): Promise<ObjectOf<K>> {
    const at = normalRef(kind, ref);
    return this.#write(options.dryRun, () => {
      this.#sources?.refresh(kind, at);
      const before = this.#require(kind, at, options);
      const after = patched(before, patchOf(before));
      if (after.declaration !== undefined && fingerprint(after.declaration) !== fingerprint(before.declaration)) {
        this.#sources?.declare(kind, at, after.declaration, false);
      }
      return seen<K>(this.#keep(before, after));
    });
  }

  /** Writes the object; the last finalizer of a deleted one takes it away. */
  #keep(before: StoredObject, after: StoredObject): StoredObject {
    const { deletionTimestamp, finalizers = [] } = after.metadata;
    if (deletionTimestamp === undefined || finalizers.length > 0) return this.#table.update(before, after);
    const last = this.#table.remove(after);
    this.#sources?.removed(after.kind, refOf(after.metadata));
    return last;
  }

  async updateStatus<K extends Kind>(
    kind: K,
    ref: ObjectRef,
    status: StatusOf<K>,
    preconditions: Preconditions & { readonly uid: string },
  ): Promise<ObjectOf<K>> {
    const admitted = admittedStatus(kind, ref, status);
    return this.#write(false, () => {
      const before = this.#require(kind, normalRef(kind, ref), preconditions);
      return seen<K>(this.#table.update(before, { ...before, status: admitted }));
    });
  }

  async delete<K extends Kind>(kind: K, ref: ObjectRef, preconditions: Preconditions = {}): Promise<ObjectOf<K>> {
    const at = normalRef(kind, ref);
    return this.#write(false, () => {
      this.#sources?.refresh(kind, at);
      const before = this.#require(kind, at, preconditions);
      if (before.metadata.deletionTimestamp !== undefined) return seen<K>(before);
      const after = deleted(before);
      this.#sources?.undeclare(kind, at);
      return seen<K>(this.#keep(before, after));
    });
  }

  watch<K extends Kind>(kind: K, options: WatchOptions): AsyncIterable<WatchEvent<K>> {
    return this.#feed.watch(kind, options);
  }

  problems(): readonly ObjectProblem[] {
    return this.#db.read(() => [
      ...KINDS.flatMap((kind) => this.#cache.problems(kind)),
      ...(this.#sources?.problems() ?? []),
    ]);
  }

  sourceProblems(): readonly SourceProblem[] {
    return this.#sources?.sourceProblems() ?? [];
  }

  /** Something else than this store's methods wrote to the table. */
  wake(): void {
    this.#feed.wake();
  }

  async close(): Promise<void> {
    this.#feed.close();
    this.#db.close();
  }

  #write<T>(dryRun: boolean | undefined, work: () => T): T {
    const result = this.#commit(dryRun === true, work);
    if (dryRun === true) return result;
    this.#sources?.settle();
    this.#feed.wake();
    return result;
  }

  #commit<T>(dryRun: boolean, work: () => T): T {
    try {
      if (dryRun) return this.#db.rehearse(work);
      return this.#db.write(() => {
        const done = work();
        this.#sources?.prepare();
        return done;
      });
    } catch (error) {
      this.#sources?.forget();
      throw error;
    } finally {
      if (dryRun) this.#sources?.forget();
    }
  }

  #require(kind: Kind, ref: ObjectRef, preconditions: Preconditions): StoredObject {
    const stored = this.#table.find(kind, ref);
    if (stored === undefined) throw new NotFoundError(`${kind} ${keyOf(ref)} not found`);
    checkPreconditions(stored, preconditions);
    return stored;
  }
}

/** What a write hands back. Not cached: the write may yet be taken back. */
function seen<K extends Kind>(stored: StoredObject): ObjectOf<K> {
  return readObject(stored).object as ObjectOf<K>;
}
