/**
 * The store as one of its users sees it: each step asks first whether that user may take it, in the API server's own
 * verbs. Whoever has this and nothing else can do no more than the user could with kubectl.
 */
import type { Manifest } from '../api/admission.ts';
import { ForbiddenError } from '../api/errors.ts';
import { KIND_INFO, type ObjectOf, type StatusOf } from '../api/kinds.ts';
import { GROUP, isNamespaced, type Kind, type ObjectRef, VERSION } from '../api/meta.ts';
import type { ResourceAttributes } from '../kube/kube-users.ts';
import { apiErrorOf } from './kube-errors.ts';
import { namespaceFor } from './kube-reads.ts';
import { normalRef, refOfManifest } from './object-rules.ts';
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

export interface Rights {
  readonly username: string;
  allows(attributes: ResourceAttributes): Promise<boolean>;
}

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
    if (await this.#allows('list', kind, { namespace })) return this.#store.list(kind, options);
    const forbidden = this.#forbidden('list', kind, { namespace });
    if (!isNamespaced(kind) || namespace !== undefined) throw forbidden;
    const all = await this.#store.list(kind, options);
    const namespaces = [...new Set(all.items.map(({ metadata }) => metadata.namespace))];
    if (namespaces.length > MAX_NAMESPACES) throw forbidden;
    const asked = namespaces.map(async (one) => ((await this.#allows('list', kind, { namespace: one })) ? [one] : []));
    const seen = new Set((await Promise.all(asked)).flat());
    return { ...all, items: all.items.filter(({ metadata }) => seen.has(metadata.namespace)) };
  }

  async create<K extends Kind>(manifest: Manifest<K>, options?: WriteOptions): Promise<ObjectOf<K>> {
    const { namespace } = refOfManifest(manifest);
    await this.#require('create', manifest.kind, { namespace });
    return this.#store.create(manifest, options);
  }

  async apply<K extends Kind>(manifest: Manifest<K>, options?: WriteOptions): Promise<Applied<K>> {
    const ref = refOfManifest(manifest);
    await this.#require('patch', manifest.kind, ref);
    await this.#require('create', manifest.kind, { namespace: ref.namespace });
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
    throw this.#forbidden('patch', kind, normalRef(kind, ref), '/finalizers');
  }

  /** What was seen is the operator's to say. */
  async updateStatus<K extends Kind>(
    kind: K,
    ref: ObjectRef,
    _status: StatusOf<K>,
    _preconditions: Preconditions & { readonly uid: string },
  ): Promise<ObjectOf<K>> {
    throw this.#forbidden('patch', kind, normalRef(kind, ref), '/status');
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
    if (!(await this.#allows(verb, kind, place))) throw this.#forbidden(verb, kind, place);
  }

  async #allows(verb: string, kind: Kind, { namespace, name }: Partial<ObjectRef>): Promise<boolean> {
    const resource = KIND_INFO[kind].plural;
    try {
      return await this.#rights.allows({ verb, group: GROUP, version: VERSION, resource, namespace, name });
    } catch (error) {
      throw apiErrorOf(error, `the rights of ${this.#rights.username}`);
    }
  }

  /** In the words of the API server. Source: k8s.io/apiserver/pkg/endpoints/handlers/responsewriters, forbiddenMessage. */
  #forbidden(verb: string, kind: Kind, { namespace, name }: Partial<ObjectRef>, subresource = ''): ForbiddenError {
    const { plural } = KIND_INFO[kind];
    const what = `${plural}.${GROUP}${name === undefined ? '' : ` ${JSON.stringify(name)}`}`;
    const where = namespace === undefined ? 'at the cluster scope' : `in the namespace ${JSON.stringify(namespace)}`;
    return new ForbiddenError(
      `${what} is forbidden: User ${JSON.stringify(this.#rights.username)} cannot ${verb} resource ` +
        `${JSON.stringify(plural + subresource)} in API group ${JSON.stringify(GROUP)} ${where}`,
    );
  }
}
