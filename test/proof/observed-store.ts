/** A store that a controller sees through somebody's eyes: each read, write and event passes a hook. */
import type { Manifest } from '../../src/api/admission.ts';
import type { ObjectOf, StatusOf } from '../../src/api/kinds.ts';
import type { Kind, ObjectRef } from '../../src/api/meta.ts';
import type {
  Applied,
  GetOptions,
  Hold,
  ListOptions,
  ObjectList,
  ObjectPatch,
  PatchOptions,
  Preconditions,
  Store,
  WatchEvent,
  WatchOptions,
  WriteOptions,
} from '../../src/store/store.ts';

export interface StoreHooks {
  /** Does the read, or answers otherwise; `past` answers as the store was at another time. */
  read<T>(what: string, now: () => Promise<T>, past: (store: Store) => Promise<T>): Promise<T>;
  write<T>(what: string, work: () => Promise<T>): Promise<T>;
  /** False: the watch never tells it. */
  tells(event: WatchEvent): boolean;
}

export class ObservedStore implements Store {
  readonly #store: Store;
  readonly #hooks: StoreHooks;

  constructor(store: Store, hooks: StoreHooks) {
    this.#store = store;
    this.#hooks = hooks;
  }

  get uid(): string {
    return this.#store.uid;
  }

  hasNamespace(name: string): Promise<boolean> {
    return this.#store.hasNamespace(name);
  }

  get<K extends Kind>(kind: K, ref: ObjectRef, options?: GetOptions): Promise<ObjectOf<K> | undefined> {
    const from = (store: Store) => store.get(kind, ref, options);
    if (options?.consistent === true) return from(this.#store);
    return this.#hooks.read(`get ${kind}`, () => from(this.#store), from);
  }

  list<K extends Kind>(kind: K, options?: ListOptions): Promise<ObjectList<K>> {
    const from = (store: Store) => store.list(kind, options);
    return this.#hooks.read(`list ${kind}`, () => from(this.#store), from);
  }

  create<K extends Kind>(manifest: Manifest<K>, options?: WriteOptions): Promise<ObjectOf<K>> {
    return this.#hooks.write(`create ${manifest.kind}`, () => this.#store.create(manifest, options));
  }

  apply<K extends Kind>(manifest: Manifest<K>, options?: WriteOptions): Promise<Applied<K>> {
    return this.#hooks.write(`apply ${manifest.kind}`, () => this.#store.apply(manifest, options));
  }

  patch<K extends Kind>(kind: K, ref: ObjectRef, patch: ObjectPatch, options?: PatchOptions): Promise<ObjectOf<K>> {
    const fields = Object.keys(patch.metadata ?? {}).join(', ');
    return this.#hooks.write(`patch ${kind} (${fields})`, () => this.#store.patch(kind, ref, patch, options));
  }

  hold<K extends Kind>(
    kind: K,
    ref: ObjectRef,
    hold: Hold,
    preconditions: { readonly uid: string },
  ): Promise<ObjectOf<K>> {
    return this.#hooks.write(`hold ${kind}`, () => this.#store.hold(kind, ref, hold, preconditions));
  }

  updateStatus<K extends Kind>(
    kind: K,
    ref: ObjectRef,
    status: StatusOf<K>,
    preconditions: Preconditions & { readonly uid: string },
  ): Promise<ObjectOf<K>> {
    return this.#hooks.write(`status of ${kind}`, () => this.#store.updateStatus(kind, ref, status, preconditions));
  }

  delete<K extends Kind>(kind: K, ref: ObjectRef, preconditions?: Preconditions): Promise<ObjectOf<K>> {
    return this.#hooks.write(`delete ${kind}`, () => this.#store.delete(kind, ref, preconditions));
  }

  async *watch<K extends Kind>(kind: K, options: WatchOptions): AsyncGenerator<WatchEvent<K>> {
    for await (const event of this.#store.watch(kind, options)) if (this.#hooks.tells(event)) yield event;
  }

  problems() {
    return this.#store.problems();
  }

  sourceProblems() {
    return this.#store.sourceProblems();
  }

  close(): Promise<void> {
    return this.#store.close();
  }
}
