/**
 * The store as one of its users sees it: each step asks first whether that user may take it, in the API server's own
 * verbs. Whoever has this and nothing else can do no more than the user could with kubectl.
 */
import type { Manifest } from '../api/admission.ts';
import { KIND_INFO, type ObjectOf, type StatusOf } from '../api/kinds.ts';
import { GROUP, isNamespaced, type Kind, type ObjectRef, VERSION } from '../api/meta.ts';
import type { ResourceAttributes } from '../kube/kube-users.ts';
import { namespaceFor } from './kube-reads.ts';
import { normalRef, refOfManifest } from './object-rules.ts';
import type { Rights } from './rights.ts';
import type {
  Applied,
  GetOptions,
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

/** Of so many namespaces each is asked about; with more, whoever may not list all has to name one. */
const MAX_NAMESPACES = 100;

export class CheckedStore implements Store {
  readonly uid: string;
  readonly #store: Store;
  readonly #rights: Rights;

  constructor(store: Store, rights: Rights) {
    this.uid = store.uid;
    this.#store = store;
    this.#rights = rights;
  }

  /** Not to be known without a right to Namespaces, which nobody needs here: what is done in one that is not there says so. */
  async hasNamespace(): Promise<boolean> {
    return true;
  }

  async get<K extends Kind>(kind: K, ref: ObjectRef, options?: GetOptions): Promise<ObjectOf<K> | undefined> {
    await this.#require('get', kind, normalRef(kind, ref));
    return this.#store.get(kind, ref, options);
  }

  /** Where no namespace is named: of those whose objects the user may list. */
  async list<K extends Kind>(kind: K, options: ListOptions = {}): Promise<ObjectList<K>> {
    const namespace = isNamespaced(kind) ? options.namespace : undefined;
    const listed = attributesOf('list', kind, { namespace });
    if (await this.#rights.allows(listed)) return this.#store.list(kind, options);
    const forbidden = this.#rights.refusal(listed);
    if (!isNamespaced(kind) || namespace !== undefined) throw forbidden;
    const all = await this.#store.list(kind, options);
    const namespaces = [...new Set(all.items.map(({ metadata }) => metadata.namespace))];
    if (namespaces.length > MAX_NAMESPACES) throw forbidden;
    const maySee = (one: string | undefined) => this.#rights.allows(attributesOf('list', kind, { namespace: one }));
    const asked = namespaces.map(async (one) => ((await maySee(one)) ? [one] : []));
    const seen = new Set((await Promise.all(asked)).flat());
    return { ...all, items: all.items.filter(({ metadata }) => seen.has(metadata.namespace)) };
  }

  /** @throws ForbiddenError where the user could not make one */
  async requireCreate(kind: Kind, namespace?: string): Promise<void> {
    await this.#require('create', kind, { namespace });
  }

  async create<K extends Kind>(manifest: Manifest<K>, options?: WriteOptions): Promise<ObjectOf<K>> {
    const { namespace } = refOfManifest(manifest);
    await this.requireCreate(manifest.kind, namespace);
    return this.#store.create(manifest, options);
  }

  async apply<K extends Kind>(manifest: Manifest<K>, options?: WriteOptions): Promise<Applied<K>> {
    const ref = refOfManifest(manifest);
    await this.#require('patch', manifest.kind, ref);
    await this.requireCreate(manifest.kind, ref.namespace);
    return this.#store.apply(manifest, options);
  }

  async patch<K extends Kind>(
    kind: K,
    ref: ObjectRef,
    patch: ObjectPatch,
    options?: PatchOptions,
  ): Promise<ObjectOf<K>> {
    await this.#require('patch', kind, normalRef(kind, ref));
    return this.#store.patch(kind, ref, patch, options);
  }

  /** What is held on the hosts is the operator's to say. */
  async hold<K extends Kind>(kind: K, ref: ObjectRef): Promise<ObjectOf<K>> {
    throw this.#rights.refusal(attributesOf('patch', kind, normalRef(kind, ref)), '/finalizers');
  }

  /** What was seen is the operator's to say. */
  async updateStatus<K extends Kind>(
    kind: K,
    ref: ObjectRef,
    _status: StatusOf<K>,
    _preconditions: Preconditions & { readonly uid: string },
  ): Promise<ObjectOf<K>> {
    throw this.#rights.refusal(attributesOf('patch', kind, normalRef(kind, ref)), '/status');
  }

  async delete<K extends Kind>(kind: K, ref: ObjectRef, preconditions?: Preconditions): Promise<ObjectOf<K>> {
    await this.#require('delete', kind, normalRef(kind, ref));
    return this.#store.delete(kind, ref, preconditions);
  }

  /** Ends with ForbiddenError where the right ends. */
  async *watch<K extends Kind>(kind: K, options: WatchOptions): AsyncGenerator<WatchEvent<K>> {
    const { namespace, name } = options;
    const named = { ...(namespace !== undefined && { namespace }), ...(name !== undefined && { name }) };
    const place = { ...named, namespace: namespaceFor(kind, named) };
    await this.#require('watch', kind, place);
    if (options.resourceVersion === undefined) await this.#require('list', kind, place);
    for await (const event of this.#store.watch(kind, options)) {
      await this.#require('watch', kind, place);
      yield event;
    }
  }

  /** They are told of all namespaces at once. */
  problems(): readonly ObjectProblem[] {
    return [];
  }

  sourceProblems(): readonly SourceProblem[] {
    return [];
  }

  /** It is the operator's, and goes on. */
  async close(): Promise<void> {}

  async #require(verb: string, kind: Kind, place: Partial<ObjectRef>): Promise<void> {
    await this.#rights.require(attributesOf(verb, kind, place));
  }
}

function attributesOf(verb: string, kind: Kind, { namespace, name }: Partial<ObjectRef>): ResourceAttributes {
  return { verb, group: GROUP, version: VERSION, resource: KIND_INFO[kind].plural, namespace, name };
}
