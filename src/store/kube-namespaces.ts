/** The Namespaces of a cluster, kept by a watch from the first time that one is asked for. */
import { messageOf } from '../api/errors.ts';
import { collectionPath, type Resource } from '../kube/objects.ts';
import { Reflector } from '../kube/reflector.ts';
import type { KubeTransport } from '../kube/transport.ts';
import type { NamespaceReader } from './store.ts';

const NAMESPACES: Resource = { group: '', version: 'v1', plural: 'namespaces' };
/** How long whoever asks first waits for the list. */
const FIRST_LIST_MS = 5_000;

type Labels = Readonly<Record<string, string>>;

export class KubeNamespaces implements NamespaceReader {
  readonly #reflector: Reflector<Labels>;
  readonly #abort = new AbortController();
  readonly #listeners = new Set<() => void>();
  readonly #listed = Promise.withResolvers<void>();
  #running: Promise<void> | undefined;
  #failure: unknown;

  constructor(transport: KubeTransport) {
    this.#reflector = new Reflector({
      transport,
      path: collectionPath(NAMESPACES),
      read: ({ metadata }) => metadata.labels ?? {},
      onFailure: (error) => {
        this.#failure = error;
        this.#listed.resolve();
      },
    });
    this.#reflector.listen((delta) => {
      if (delta === undefined) this.#listed.resolve();
      else for (const onChange of this.#listeners) onChange();
    });
  }

  async labels(name: string): Promise<Labels | undefined> {
    this.#running ??= this.#reflector.run(this.#abort.signal);
    const patience = setTimeout(() => this.#listed.resolve(), FIRST_LIST_MS);
    await this.#listed.promise;
    clearTimeout(patience);
    if (this.#reflector.resourceVersion !== undefined) return this.#reflector.get(name);
    const why = this.#failure === undefined ? 'the API server has not answered yet' : messageOf(this.#failure);
    throw new Error(`Namespaces cannot be listed: ${why}`);
  }

  follow(onChange: () => void): () => void {
    this.#listeners.add(onChange);
    return () => this.#listeners.delete(onChange);
  }

  async close(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }
}
