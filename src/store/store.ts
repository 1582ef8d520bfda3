/**
 * What is wanted and what was seen, as objects: one contract, kept by every store and proved by one suite
 * (test/conformance/store.ts). Meanings are those of the Kubernetes API. Reads may come from a cache that lags
 * behind writes; `resourceVersion` says by how much.
 *
 * Every method rejects with an ApiError of api/errors.ts, and with nothing else, for what a caller can meet.
 */
import type { Manifest } from '../api/admission.ts';
import type { SecretRef } from '../api/cloud-init.ts';
import type { ObjectOf, StatusOf } from '../api/kinds.ts';
import type { Kind, ObjectRef } from '../api/meta.ts';

/** Refuses the write with ConflictError unless the stored object still carries these. */
export interface Preconditions {
  readonly uid?: string | undefined;
  readonly resourceVersion?: string | undefined;
}

/** RFC 7386: `null` removes, lists are replaced whole. */
export interface ObjectPatch {
  readonly metadata?: {
    readonly labels?: Readonly<Record<string, string | null>>;
    readonly annotations?: Readonly<Record<string, string | null>>;
    readonly finalizers?: readonly string[] | null;
    readonly ownerReferences?: readonly unknown[] | null;
  };
  readonly spec?: Readonly<Record<string, unknown>>;
}

export interface GetOptions {
  /** As it is now, past any cache. */
  readonly consistent?: boolean;
}

export interface ListOptions {
  readonly namespace?: string | undefined;
  /** Equality of every named label. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** VirtualMachines that name this Host. */
  readonly hostName?: string | undefined;
}

export interface ObjectList<K extends Kind> {
  readonly items: readonly ObjectOf<K>[];
  /** Where a watch continues without a gap. */
  readonly resourceVersion: string;
}

export type WatchEvent<K extends Kind = Kind> =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: ObjectOf<K> }
  /** Nothing happened up to here; a later watch may start from this resourceVersion. */
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string };

export interface WatchOptions {
  /** Events after this one. Absent: ADDED for each object that exists, then what follows. */
  readonly resourceVersion?: string | undefined;
  readonly namespace?: string | undefined;
  readonly name?: string | undefined;
  readonly signal: AbortSignal;
}

/**
 * What about an object or its source deserves a word. A problem that comes or goes is told to watches as MODIFIED of
 * its object, so a controller need not poll problems().
 */
export interface ObjectProblem {
  readonly kind: Kind;
  /** An object that exists, or one that a manifest declares but that could not be made. */
  readonly ref: ObjectRef;
  /**
   * ManifestInvalid: the file cannot be used, the last good spec holds. ManifestMissing: the file is gone, the object
   * lives on. InvalidSpec: this version cannot read the stored spec; the object is returned with its spec as stored,
   * so only its metadata and status may be relied upon and its VM is left alone.
   */
  readonly reason: 'ManifestInvalid' | 'ManifestMissing' | 'InvalidSpec';
  readonly message: string;
}

/** A file that says nothing about whom it means: what is wrong with it. */
export interface SourceProblem {
  /** Path below the store's folder. */
  readonly source: string;
  readonly message: string;
}

export interface Store {
  /** Identifies the store on the hosts: who claimed a vmDir. Stable for the store's life. */
  readonly uid: string;

  /** Whether objects may be made there; true as well where the caller may not know. A folder has every namespace. */
  hasNamespace(name: string): Promise<boolean>;

  /** Undefined where it does not exist. Ask problems() for InvalidSpec before acting on a spec. */
  get<K extends Kind>(kind: K, ref: ObjectRef, options?: GetOptions): Promise<ObjectOf<K> | undefined>;
  list<K extends Kind>(kind: K, options?: ListOptions): Promise<ObjectList<K>>;

  /** Makes a new object. AlreadyExistsError where one of that name exists. */
  create<K extends Kind>(manifest: Manifest<K>, options?: WriteOptions): Promise<ObjectOf<K>>;
  /**
   * Declares an object, as `kubectl apply`: what the manifest says is so; what an earlier manifest said and this one
   * no longer does falls back to its default; what no manifest ever said (powerState after a stop) stays.
   */
  apply<K extends Kind>(manifest: Manifest<K>, options?: WriteOptions): Promise<Applied<K>>;
  /** A merge patch on metadata and spec; defaults and admission run on the result. */
  patch<K extends Kind>(kind: K, ref: ObjectRef, patch: ObjectPatch, options?: PatchOptions): Promise<ObjectOf<K>>;
  /**
   * Keeps an object from going away. What others say of it at the same time stays. NotFoundError or ConflictError where
   * the object of this uid is gone, InvalidObjectError where it is being deleted.
   */
  hold<K extends Kind>(
    kind: K,
    ref: ObjectRef,
    hold: Hold,
    preconditions: { readonly uid: string },
  ): Promise<ObjectOf<K>>;
  /** Replaces the status whole. Nothing is written, and no event sent, where it is the same. */
  updateStatus<K extends Kind>(
    kind: K,
    ref: ObjectRef,
    status: StatusOf<K>,
    preconditions: Preconditions & { readonly uid: string },
  ): Promise<ObjectOf<K>>;
  /**
   * Sets deletionTimestamp where finalizers hold the object, else removes it; removing the last finalizer of a
   * deleted object removes it. ForbiddenError while it carries the `protected` annotation.
   */
  delete<K extends Kind>(kind: K, ref: ObjectRef, preconditions?: Preconditions): Promise<ObjectOf<K>>;

  /**
   * Every change of a kind in order, until the signal aborts; then it ends without error. ExpiredError where
   * `resourceVersion` is older than the history: list again.
   */
  watch<K extends Kind>(kind: K, options: WatchOptions): AsyncIterable<WatchEvent<K>>;

  /** What is wrong with the sources of objects: manifests of a file store, unreadable specs. */
  problems(): readonly ObjectProblem[];
  /** Files of a file store that cannot be read and whose objects are not known. */
  sourceProblems(): readonly SourceProblem[];

  close(): Promise<void>;
}

export interface WriteOptions {
  /** Everything is checked and the result returned; nothing is kept. */
  readonly dryRun?: boolean;
  /** Spec fields, by first path segment, that stay out of the manifest a file store writes (a tool's powerState). */
  readonly undeclared?: readonly string[];
  /** The spec as the person wrote it, before defaults: all of it is declared. Absent: what differs from the defaults. */
  readonly asWritten?: Readonly<Record<string, unknown>>;
}

export interface Hold {
  readonly finalizer: string;
  /** Said with it. */
  readonly labels?: Readonly<Record<string, string>>;
}

export interface PatchOptions extends Preconditions {
  readonly dryRun?: boolean;
}

export interface Applied<K extends Kind> {
  readonly object: ObjectOf<K>;
  readonly outcome: 'created' | 'configured' | 'unchanged';
}

/** Who runs the loop on a store: at most one process at a time, the others stand by. */
export interface ControllerLock {
  /** Resolves when this process holds the lock; rejects when the signal aborts first. The kernel frees it on death. */
  acquire(signal: AbortSignal): Promise<{ release(): void }>;
  /** Holds the lock if nobody does; undefined otherwise. */
  tryAcquire(): { release(): void } | undefined;
}

/** The namespaces of objects, for a Host that says whose VMs it runs. */
export interface NamespaceReader {
  /** undefined: there is no such namespace. Rejects where that cannot be known. */
  labels(name: string): Promise<Readonly<Record<string, string>> | undefined>;
  /** Calls whenever labels may have changed; a hint. Returns what ends it. */
  follow(onChange: () => void): () => void;
}

/** Secrets, for who needs a value: the loop at a look (for its digest) and at a launch. */
export interface SecretReader {
  /** Where the credentials of Hosts are kept. */
  readonly operatorNamespace: string;
  /** undefined: there is no such Secret, or no such key in it. */
  read(ref: SecretRef): Promise<Uint8Array | undefined>;
  /** The command that sets it, for people. */
  setCommand(ref: SecretRef): string;
  /** Calls whenever Secrets may have changed, whoever changed them; a hint. Returns what ends it. */
  follow(onChange: () => void): () => void;
}

export interface SecretEntry extends SecretRef {
  readonly bytes: number;
}

/** Secrets of a place without a cluster, for the commands that keep them. */
export interface SecretStore extends SecretReader {
  /** Whether who reads them runs on this machine, so that the path of a file says enough. */
  readonly readHere: boolean;
  /** @throws InvalidObjectError for names that are none and values that are empty or too large */
  set(ref: SecretRef, value: Uint8Array): Promise<'created' | 'configured' | 'unchanged'>;
  /** Names and sizes, in order; never values. */
  list(namespace?: string): Promise<SecretEntry[]>;
  /** @param key absent: all keys. Returns how many keys went. */
  delete(secret: Pick<SecretRef, 'namespace' | 'name'>, key?: string): Promise<number>;
}
