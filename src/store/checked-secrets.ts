/** Secrets as one of their users sees them: each step asks first whether that user may take it, like CheckedStore. */
import type { SecretRef } from '../api/cloud-init.ts';
import type { Rights } from './rights.ts';
import type { SecretEntry, SecretStore } from './store.ts';

const SECRETS = { group: '', version: 'v1', resource: 'secrets' };

export class CheckedSecrets implements SecretStore {
  readonly operatorNamespace: string;
  readonly readHere: boolean;
  readonly #secrets: SecretStore;
  readonly #rights: Rights;

  constructor(secrets: SecretStore, rights: Rights) {
    this.operatorNamespace = secrets.operatorNamespace;
    this.readHere = secrets.readHere;
    this.#secrets = secrets;
    this.#rights = rights;
  }

  async read(ref: SecretRef): Promise<Uint8Array | undefined> {
    await this.#require(['get'], ref);
    return this.#secrets.read(ref);
  }

  setCommand(ref: SecretRef): string {
    return this.#secrets.setCommand(ref);
  }

  /** Nobody is told of what others do. */
  follow(): () => void {
    return () => undefined;
  }

  /** @throws ForbiddenError where the user could not keep one of this name */
  async requireSet(ref: Pick<SecretRef, 'namespace' | 'name'>): Promise<void> {
    await this.#require(['get', 'create', 'patch'], ref);
  }

  async set(ref: SecretRef, value: Uint8Array): Promise<'created' | 'configured' | 'unchanged'> {
    await this.requireSet(ref);
    return this.#secrets.set(ref, value);
  }

  async list(namespace?: string): Promise<SecretEntry[]> {
    await this.#require(['list'], { namespace });
    return this.#secrets.list(namespace);
  }

  async delete(ref: Pick<SecretRef, 'namespace' | 'name'>, key?: string): Promise<number> {
    await this.#require(key === undefined ? ['delete'] : ['get', 'patch', 'delete'], ref);
    return this.#secrets.delete(ref, key);
  }

  async #require(verbs: readonly string[], { namespace, name }: { namespace?: string | undefined; name?: string }) {
    for (const verb of verbs) await this.#rights.require({ ...SECRETS, verb, namespace, name });
  }
}
