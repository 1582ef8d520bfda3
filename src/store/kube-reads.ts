/** How objects of an API server are read: each time anew, for a command; or from a cache that a watch keeps. */
import { ExpiredError } from '../api/errors.ts';
import type { ObjectOf } from '../api/kinds.ts';
import { DEFAULT_NAMESPACE, isNamespaced, type Kind, keyOf, type ObjectRef } from '../api/meta.ts';
import { KubeStatusError } from '../kube/kube-error.ts';
import { listAll } from '../kube/list.ts';
import type { KubeObject } from '../kube/objects.ts';
import type { KubeTransport, Query } from '../kube/transport.ts';
import { watchFrom } from '../kube/watch.ts';
import { pathOf, pathOfKind, storedObject } from './kube-objects.ts';
import { type Reading, readObject } from './object-reader.ts';
import { listedBy, normalRef } from './object-rules.ts';
import type { GetOptions, ListOptions, ObjectList, ObjectProblem, WatchEvent, WatchOptions } from './store.ts';

/** Whether a cache that has this of the object shows what was done to it. */
export type Shows = (object: ObjectOf<Kind> | undefined) => boolean;

/** What a cache is to show: all up to a revision, or, where the answer had none, something of the object. */
export type Written = bigint | Shows;

export interface Reads {
  get<K extends Kind>(kind: K, ref: ObjectRef, options?: GetOptions): Promise<ObjectOf<K> | undefined>;
  list<K extends Kind>(kind: K, options: ListOptions): Promise<ObjectList<K>>;
  watch<K extends Kind>(kind: K, options: WatchOptions): AsyncIterable<WatchEvent<K>>;
  /** Unreadable specs among what was read. */
  problems(): readonly ObjectProblem[];
  /** What is known of an object without asking. */
  known(kind: Kind, ref: ObjectRef): Reading | undefined;
  /** Something was written: what is read from now on shows it. */
  wrote(kind: Kind, ref: ObjectRef, written: Written): void;
  close(): Promise<void>;
}

/** @param known what was last read of it: what is the same is not judged again, nor kept twice */
export function readKubeObject(kind: Kind, raw: KubeObject, known?: Reading): Reading {
  return readObject(storedObject(kind, raw), known);
}

/** Which namespace is listed or watched; undefined: all. */
export function namespaceFor(kind: Kind, { namespace, name }: Partial<ObjectRef>): string | undefined {
  if (!isNamespaced(kind)) return undefined;
  return namespace ?? (name === undefined ? undefined : DEFAULT_NAMESPACE);
}

export class DirectReads implements Reads {
  readonly #transport: KubeTransport;
  readonly #problems = new Map<string, ObjectProblem>();
  readonly #ended = new AbortController();

  constructor(transport: KubeTransport) {
    this.#transport = transport;
  }

  async get<K extends Kind>(
    kind: K,
    ref: ObjectRef,
    { known }: GetOptions & { readonly known?: Reading | undefined } = {},
  ): Promise<ObjectOf<K> | undefined> {
    try {
      const found = await this.#transport.json<KubeObject>({ method: 'GET', path: pathOf(kind, ref) });
      return this.#read<K>(kind, found, known);
    } catch (error) {
      if (!(error instanceof KubeStatusError) || error.code !== 404) throw error;
      this.#problems.delete(problemKey(kind, normalRef(kind, ref)));
      return undefined;
    }
  }

  async list<K extends Kind>(kind: K, options: ListOptions): Promise<ObjectList<K>> {
    const path = pathOfKind(kind, options.namespace);
    const { items, resourceVersion } = await listAll(this.#transport, { path, query: selecting(options.labels) });
    return { items: items.map((item) => this.#read<K>(kind, item)).filter(listedBy(options)), resourceVersion };
  }

  async *watch<K extends Kind>(kind: K, { signal, ...options }: WatchOptions): AsyncGenerator<WatchEvent<K>> {
    const until = AbortSignal.any([signal, this.#ended.signal]);
    try {
      yield* this.#events<K>(kind, options, until);
    } catch (error) {
      if (!until.aborted) throw error;
    }
  }

  async *#events<K extends Kind>(
    kind: K,
    { resourceVersion, namespace, name }: Omit<WatchOptions, 'signal'>,
    signal: AbortSignal,
  ): AsyncGenerator<WatchEvent<K>> {
    const path = pathOfKind(kind, namespaceFor(kind, { namespace, ...(name !== undefined && { name }) }));
    const query: Query = name === undefined ? {} : { fieldSelector: `metadata.name=${name}` };
    let from = resourceVersion;
    if (from === undefined || from === '0') {
      const listed = await listAll(this.#transport, { path, query, signal });
      for (const item of listed.items) yield { type: 'ADDED', object: this.#read<K>(kind, item) };
      from = listed.resourceVersion;
      yield { type: 'BOOKMARK', resourceVersion: from };
    }
    if (!/^\d+$/.test(from)) throw new ExpiredError(`${from} is no resourceVersion`);
    for await (const event of watchFrom(this.#transport, { path, query, resourceVersion: from, signal })) {
      if (event.type === 'BOOKMARK') yield event;
      else yield { type: event.type, object: this.#read<K>(kind, event.object) };
    }
  }

  problems(): readonly ObjectProblem[] {
    return [...this.#problems.values()];
  }

  known(): undefined {
    return undefined;
  }

  wrote(): void {
    // Each read asks the API server.
  }

  async close(): Promise<void> {
    this.#ended.abort();
  }

  #read<K extends Kind>(kind: Kind, raw: KubeObject, known?: Reading): ObjectOf<K> {
    const { object, problem } = readKubeObject(kind, raw, known);
    const key = problemKey(kind, object.metadata);
    if (problem === undefined) this.#problems.delete(key);
    else this.#problems.set(key, problem);
    return object as ObjectOf<K>;
  }
}

const problemKey = (kind: Kind, ref: ObjectRef) => `${kind} ${keyOf(ref)}`;

function selecting(labels: ListOptions['labels']): Query {
  const pairs = Object.entries(labels ?? {});
  return pairs.length === 0 ? {} : { labelSelector: pairs.map(([key, value]) => `${key}=${value}`).join(',') };
}
