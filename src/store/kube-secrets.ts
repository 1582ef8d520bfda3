/** Secrets of a cluster: those of a VM's namespace for its seed, those of the operator's own for the way to a Host. */
import { MAX_SECRET_BYTES, type SecretRef } from '../api/cloud-init.ts';
import { InvalidObjectError } from '../api/errors.ts';
import { KubeStatusError } from '../kube/kube-error.ts';
import { listAll } from '../kube/list.ts';
import { collectionPath, type KubeObject, objectPath, type Resource } from '../kube/objects.ts';
import { Reflector } from '../kube/reflector.ts';
import { type KubeTransport, PATCH_TYPES } from '../kube/transport.ts';
import { apiErrorOf } from './kube-errors.ts';
import type { SecretEntry, SecretStore } from './store.ts';

const SECRETS: Resource = { group: '', version: 'v1', plural: 'secrets' };
/** What people make; those of service accounts and of Helm are not ours to show. */
const OPAQUE = 'Opaque';

interface KubeSecret extends KubeObject {
  readonly type?: string;
  readonly data?: Readonly<Record<string, string>>;
}

export interface KubeSecretsOptions {
  readonly transport: KubeTransport;
  readonly operatorNamespace: string;
  readonly fieldManager: string;
}

export class KubeSecrets implements SecretStore {
  readonly operatorNamespace: string;
  readonly readHere = false;
  readonly #transport: KubeTransport;
  readonly #fieldManager: string;

  constructor({ transport, operatorNamespace, fieldManager }: KubeSecretsOptions) {
    this.operatorNamespace = operatorNamespace;
    this.#transport = transport;
    this.#fieldManager = fieldManager;
  }

  async read({ namespace, name, key }: SecretRef): Promise<Uint8Array | undefined> {
    return this.#asking({ namespace, name }, async () => {
      const value = (await this.#find({ namespace, name }))?.data?.[key];
      return value === undefined ? undefined : Buffer.from(value, 'base64');
    });
  }

  setCommand({ namespace, name, key }: SecretRef): string {
    return `kubectl create secret generic ${name} -n ${namespace} --from-file=${key}=FILE`;
  }

  /** Those of the operator's namespace are watched; what a VM's seed is made from is read at each look. */
  follow(onChange: () => void): () => void {
    const abort = new AbortController();
    const path = collectionPath(SECRETS, this.operatorNamespace);
    // What they hold stays on the API server.
    const reflector = new Reflector({ transport: this.#transport, path, read: () => undefined });
    let isListed = false;
    reflector.listen((delta) => {
      if (delta === undefined) isListed = true;
      else if (isListed) onChange();
    });
    void reflector.run(abort.signal);
    return () => abort.abort();
  }

  async set({ namespace, name, key }: SecretRef, value: Uint8Array): Promise<'created' | 'configured' | 'unchanged'> {
    if (value.length === 0 || value.length > MAX_SECRET_BYTES) {
      const message = value.length === 0 ? 'must not be empty' : `must have at most ${MAX_SECRET_BYTES} bytes`;
      throw new InvalidObjectError(`Secret ${name}`, [{ field: `value of ${key}`, message }]);
    }
    return this.#asking({ namespace, name }, async () => {
      const data = { [key]: Buffer.from(value).toString('base64') };
      const found = await this.#find({ namespace, name });
      if (found === undefined) {
        const path = collectionPath(SECRETS, namespace);
        const body = { apiVersion: 'v1', kind: 'Secret', metadata: { namespace, name }, type: OPAQUE, data };
        await this.#transport.json({ method: 'POST', path, query: { fieldManager: this.#fieldManager }, body });
        return 'created';
      }
      const before = found.data?.[key];
      if (before === data[key]) return 'unchanged';
      await this.#patch({ namespace, name }, { data });
      return before === undefined ? 'created' : 'configured';
    });
  }

  async list(namespace?: string): Promise<SecretEntry[]> {
    return this.#asking({ namespace: namespace ?? '', name: '' }, async () => {
      const path = collectionPath(SECRETS, namespace);
      const { items } = await listAll<KubeSecret>(this.#transport, {
        path,
        query: { fieldSelector: `type=${OPAQUE}` },
      });
      return items.flatMap(({ metadata, data = {} }) =>
        Object.entries(data).map(([key, value]) => ({
          namespace: metadata.namespace ?? '',
          name: metadata.name,
          key,
          bytes: Buffer.byteLength(value, 'base64'),
        })),
      );
    });
  }

  async delete(secret: Pick<SecretRef, 'namespace' | 'name'>, key?: string): Promise<number> {
    return this.#asking(secret, async () => {
      const keys = Object.keys((await this.#find(secret))?.data ?? {});
      const doomed = keys.filter((one) => key === undefined || one === key);
      if (doomed.length === 0) return 0;
      if (doomed.length < keys.length)
        await this.#patch(secret, { data: Object.fromEntries(doomed.map((one) => [one, null])) });
      else await this.#transport.json({ method: 'DELETE', path: objectPath(SECRETS, secret) });
      return doomed.length;
    });
  }

  async #find(secret: Pick<SecretRef, 'namespace' | 'name'>): Promise<KubeSecret | undefined> {
    try {
      return await this.#transport.json<KubeSecret>({ method: 'GET', path: objectPath(SECRETS, secret) });
    } catch (error) {
      if (error instanceof KubeStatusError && error.code === 404) return undefined;
      throw error;
    }
  }

  async #patch(secret: Pick<SecretRef, 'namespace' | 'name'>, body: object): Promise<void> {
    await this.#transport.json({
      method: 'PATCH',
      path: objectPath(SECRETS, secret),
      query: { fieldManager: this.#fieldManager },
      contentType: PATCH_TYPES.merge,
      body,
    });
  }

  async #asking<T>({ namespace, name }: Pick<SecretRef, 'namespace' | 'name'>, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw apiErrorOf(error, `Secret ${namespace}/${name}`);
    }
  }
}
