/**
 * The store of a cluster: a Kubernetes API server, with its own admission, history and rights. Status is server-side
 * applied by one field manager; everything else that is written says only what changes.
 */
import type { Manifest } from '../api/admission.ts';
import { ConflictError, type ForbiddenError, NotFoundError } from '../api/errors.ts';
import type { ObjectOf, StatusOf } from '../api/kinds.ts';
import { API_VERSION, type Kind, keyOf, type ObjectRef } from '../api/meta.ts';
import { KubeStatusError } from '../kube/kube-error.ts';
import type { KubeObject } from '../kube/objects.ts';
import { type KubeTransport, PATCH_TYPES, type Query } from '../kube/transport.ts';
import { CachedReads, type KubeCacheOptions } from './kube-cache.ts';
import { apiErrorOf, asking } from './kube-errors.ts';
import { hasNamespace, uidOfCluster, uidOrRefusal } from './kube-identity.ts';
import { pathOf, pathOfKind, storedObject } from './kube-objects.ts';
import { DirectReads, type Reads, readKubeObject } from './kube-reads.ts';
import { plainJson } from './merge.ts';
import {
  admittedStatus,
  asked,
  checkPreconditions,
  deleted,
  hasSameMeta,
  normalRef,
  patched,
  refOfManifest,
} from './object-rules.ts';
import type { Declaration, StoredObject } from './object-table.ts';
import type {
  Applied,
  GetOptions,
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

export interface KubeStoreOptions extends KubeCacheOptions {
  /** Whose the fields are that are written here. */
  readonly fieldManager: string;
  /** Reads come from a cache that a watch keeps, as a controller wants it; default: each asks the API server. */
  readonly cached?: boolean;
}

/** A cluster is known on the hosts by the uid of its namespace kube-system, which lives as long as the cluster. */
export async function openKubeStore(options: KubeStoreOptions): Promise<KubeStore> {
  const { cached, transport } = options;
  return new KubeStore(await (cached === true ? uidOfCluster(transport) : uidOrRefusal(transport)), options);
}

export class KubeStore implements Store {
  readonly #uid: string | ForbiddenError;
  readonly #transport: KubeTransport;
  readonly #reads: Reads;
  readonly #fieldManager: string;

  constructor(uid: string | ForbiddenError, options: KubeStoreOptions, reads?: Reads) {
    this.#uid = uid;
    this.#transport = options.transport;
    this.#fieldManager = options.fieldManager;
    this.#reads = reads ?? (options.cached === true ? new CachedReads(options) : new DirectReads(options.transport));
  }

  /** The same store and cache for writes that are another's; it ends with this one. */
  writingAs(fieldManager: string): Store {
    return new KubeStore(this.#uid, { transport: this.#transport, fieldManager }, this.#reads);
  }

  /** @throws ForbiddenError for a person who may not read the namespace kube-system */
  get uid(): string {
    if (typeof this.#uid === 'string') return this.#uid;
    throw this.#uid;
  }

  hasNamespace(name: string): Promise<boolean> {
    return hasNamespace(this.#transport, name);
  }

  get<K extends Kind>(kind: K, ref: ObjectRef, options?: GetOptions): Promise<ObjectOf<K> | undefined> {
    return this.#asking(kind, ref, () => this.#reads.get(kind, ref, options));
  }

  list<K extends Kind>(kind: K, options: ListOptions = {}): Promise<ObjectList<K>> {
    return asking(`${kind} objects`, () => this.#reads.list(kind, options));
  }

  create<K extends Kind>(manifest: Manifest<K>, options: WriteOptions = {}): Promise<ObjectOf<K>> {
    const { kind } = manifest;
    const ref = refOfManifest(manifest);
    return this.#asking(kind, ref, async () => {
      const { labels, annotations, finalizers, ownerReferences } = manifest.metadata;
      const metadata = { ...ref, labels, annotations, finalizers, ownerReferences };
      const body = { apiVersion: API_VERSION, kind, metadata, spec: asked(manifest, options).spec };
      const query = this.#writing(options.dryRun);
      const made = await this.#transport.json<KubeObject>({
        method: 'POST',
        path: pathOfKind(kind, ref.namespace),
        query,
        body,
      });
      return this.#written<K>(kind, made, options.dryRun);
    });
  }

  apply<K extends Kind>(manifest: Manifest<K>, options: WriteOptions = {}): Promise<Applied<K>> {
    const { kind } = manifest;
    const ref = refOfManifest(manifest);
    return this.#asking(kind, ref, async () => {
      const before = await this.#fetch(kind, ref);
      if (before === undefined && options.undeclared !== undefined)
        return { object: await this.create(manifest, options), outcome: 'created' };
      if (before !== undefined) {
        checkPreconditions(before, manifest.metadata);
        if (before.metadata.deletionTimestamp !== undefined)
          throw new ConflictError(`${kind} ${keyOf(ref)} is being deleted: apply again when it is gone`);
      }
      const { spec, declaration } = asked(manifest, options);
      const object = await this.#declare(manifest, declaration, options);
      const rest = Object.entries(spec).filter(([key]) => options.undeclared?.includes(key));
      const after =
        rest.length === 0
          ? object
          : await this.patch(kind, ref, { spec: Object.fromEntries(rest) }, { dryRun: options.dryRun === true });
      if (before === undefined) return { object: after, outcome: 'created' };
      return { object: after, outcome: hasSameMeta(before, after) ? 'unchanged' : 'configured' };
    });
  }

  /** What the manifest says becomes this manager's, whoever said otherwise before. */
  async #declare<K extends Kind>(
    manifest: Manifest<K>,
    { spec }: Declaration,
    options: WriteOptions,
  ): Promise<ObjectOf<K>> {
    const { kind, metadata } = manifest;
    const ref = refOfManifest(manifest);
    const { uid, resourceVersion, finalizers, ownerReferences, labels = {}, annotations = {} } = metadata;
    const maps = Object.entries({ labels, annotations }).filter(([, map]) => Object.keys(map).length > 0);
    const declared = { ...ref, uid, resourceVersion, finalizers, ownerReferences, ...Object.fromEntries(maps) };
    const body = { apiVersion: API_VERSION, kind, metadata: declared, spec };
    return this.#written<K>(kind, await this.#serverSideApply(pathOf(kind, ref), body, options), options.dryRun);
  }

  #serverSideApply(path: string, body: object, { dryRun }: WriteOptions = {}): Promise<KubeObject> {
    const query = { ...this.#writing(dryRun), force: 'true' };
    return this.#transport.json<KubeObject>({ method: 'PATCH', path, query, contentType: PATCH_TYPES.apply, body });
  }

  patch<K extends Kind>(kind: K, ref: ObjectRef, patch: ObjectPatch, options: PatchOptions = {}): Promise<ObjectOf<K>> {
    return this.#asking(kind, ref, async () => {
      const { uid, resourceVersion, dryRun } = options;
      if (patch.spec !== undefined) {
        // Refused here with sentences that know what people mean; the API server judges again.
        const before = await this.#require(kind, ref);
        checkPreconditions(before, options);
        patched(before, patch);
      }
      const body = { ...patch, metadata: { ...patch.metadata, uid, resourceVersion } };
      const after = await this.#transport.json<KubeObject>({
        method: 'PATCH',
        path: pathOf(kind, ref),
        query: this.#writing(dryRun),
        contentType: PATCH_TYPES.merge,
        body: plainJson(body),
      });
      return this.#written<K>(kind, after, dryRun);
    });
  }

  hold<K extends Kind>(
    kind: K,
    ref: ObjectRef,
    { finalizer, labels }: Hold,
    { uid }: { readonly uid: string },
  ): Promise<ObjectOf<K>> {
    return this.#asking(kind, ref, async () => {
      const metadata = { ...normalRef(kind, ref), uid, labels, finalizers: [finalizer] };
      const body = { apiVersion: API_VERSION, kind, metadata };
      return this.#written<K>(kind, await this.#serverSideApply(pathOf(kind, ref), body), false);
    });
  }

  updateStatus<K extends Kind>(
    kind: K,
    ref: ObjectRef,
    status: StatusOf<K>,
    preconditions: Preconditions & { readonly uid: string },
  ): Promise<ObjectOf<K>> {
    return this.#asking(kind, ref, async () => {
      const { uid, resourceVersion = await this.#revisionOf(kind, ref, uid) } = preconditions;
      // A uid is no precondition of a status; the revision of the object that has it is.
      const metadata = { ...normalRef(kind, ref), resourceVersion };
      const body = { apiVersion: API_VERSION, kind, metadata, status: admittedStatus(kind, ref, status) };
      return this.#written<K>(kind, await this.#serverSideApply(`${pathOf(kind, ref)}/status`, body), false);
    });
  }

  delete<K extends Kind>(kind: K, ref: ObjectRef, preconditions: Preconditions = {}): Promise<ObjectOf<K>> {
    return this.#asking(kind, ref, async () => {
      const before = await this.#require(kind, ref);
      checkPreconditions(before, preconditions);
      const { uid } = before.metadata;
      const seen = (raw: KubeObject) => readKubeObject(kind, raw).object as ObjectOf<K>;
      if (before.metadata.deletionTimestamp !== undefined) return seen(before as unknown as KubeObject);
      const expected = deleted(before);
      const answer = await this.#transport.json<KubeObject & { kind?: string }>({
        method: 'DELETE',
        path: pathOf(kind, ref),
        query: { fieldManager: this.#fieldManager },
        body: { apiVersion: 'v1', kind: 'DeleteOptions', preconditions: { ...preconditions, uid } },
      });
      // Shown by a cache when it is gone or going.
      this.#reads.wrote(kind, ref, (one) => one?.metadata.uid !== uid || one.metadata.deletionTimestamp !== undefined);
      return seen(answer.kind === kind ? answer : (expected as unknown as KubeObject));
    });
  }

  watch<K extends Kind>(kind: K, options: WatchOptions): AsyncIterable<WatchEvent<K>> {
    const events = this.#reads.watch(kind, options);
    return (async function* () {
      try {
        yield* events;
      } catch (error) {
        throw apiErrorOf(error, `${kind} objects`);
      }
    })();
  }

  problems(): readonly ObjectProblem[] {
    return this.#reads.problems();
  }

  sourceProblems(): readonly SourceProblem[] {
    return [];
  }

  async close(): Promise<void> {
    await this.#reads.close();
    await this.#transport.close();
  }

  async #revisionOf(kind: Kind, ref: ObjectRef, uid: string): Promise<string> {
    const found = await this.#require(kind, ref);
    checkPreconditions(found, { uid });
    return found.metadata.resourceVersion;
  }

  async #require(kind: Kind, ref: ObjectRef): Promise<StoredObject> {
    const found = await this.#fetch(kind, ref);
    if (found === undefined) throw new NotFoundError(`${kind} ${keyOf(normalRef(kind, ref))} not found`);
    return found;
  }

  /** Past any cache: what a write is judged by. */
  async #fetch(kind: Kind, ref: ObjectRef): Promise<StoredObject | undefined> {
    try {
      return storedObject(kind, await this.#transport.json<KubeObject>({ method: 'GET', path: pathOf(kind, ref) }));
    } catch (error) {
      if (error instanceof KubeStatusError && error.code === 404) return undefined;
      throw error;
    }
  }

  #writing(dryRun: boolean | undefined): Query {
    return {
      fieldManager: this.#fieldManager,
      fieldValidation: 'Strict',
      ...(dryRun === true && { dryRun: 'All' }),
    };
  }

  #written<K extends Kind>(kind: Kind, raw: KubeObject, dryRun: boolean | undefined): ObjectOf<K> {
    const object = readKubeObject(kind, raw, this.#reads.known(kind, raw.metadata)).object as ObjectOf<K>;
    if (dryRun === true) return object;
    const revision = BigInt(object.metadata.resourceVersion);
    const { deletionTimestamp, finalizers = [] } = object.metadata;
    // The last finalizer of a deleted object took it away: of that the answer has no revision.
    const isGone = deletionTimestamp !== undefined && finalizers.length === 0;
    this.#reads.wrote(kind, object.metadata, isGone ? (one) => one?.metadata.uid !== object.metadata.uid : revision);
    return object;
  }

  #asking<T>(kind: Kind, ref: ObjectRef, work: () => Promise<T>): Promise<T> {
    return asking(`${kind} ${keyOf(normalRef(kind, ref))}`, work);
  }
}
