/** What one user may do, in the API server's own verbs and words. */
import { ForbiddenError } from '../api/errors.ts';
import type { ResourceAttributes } from '../kube/kube-users.ts';
import { apiErrorOf } from './kube-errors.ts';

export class Rights {
  readonly #username: string;
  readonly #allows: (attributes: ResourceAttributes) => Promise<boolean>;

  /** @param allows rejects where the API server does not say */
  constructor(username: string, allows: (attributes: ResourceAttributes) => Promise<boolean>) {
    this.#username = username;
    this.#allows = allows;
  }

  /** @throws an error of api/errors.ts where the API server does not say */
  async allows(attributes: ResourceAttributes): Promise<boolean> {
    try {
      return await this.#allows(attributes);
    } catch (error) {
      throw apiErrorOf(error, `the rights of ${this.#username}`);
    }
  }

  /** @throws ForbiddenError, and what allows() throws */
  async require(attributes: ResourceAttributes): Promise<void> {
    if (!(await this.allows(attributes))) throw this.refusal(attributes);
  }

  /** Source of the words: k8s.io/apiserver/pkg/endpoints/handlers/responsewriters, forbiddenMessage. */
  refusal({ verb, group, resource, namespace, name }: ResourceAttributes, subresource = ''): ForbiddenError {
    const what = `${group === '' ? resource : `${resource}.${group}`}${name === undefined ? '' : ` ${JSON.stringify(name)}`}`;
    const where = namespace === undefined ? 'at the cluster scope' : `in the namespace ${JSON.stringify(namespace)}`;
    return new ForbiddenError(
      `${what} is forbidden: User ${JSON.stringify(this.#username)} cannot ${verb} resource ` +
        `${JSON.stringify(resource + subresource)} in API group ${JSON.stringify(group)} ${where}`,
    );
  }
}
