/** What a cluster is known by, and whether a namespace of it is there. */
import { ForbiddenError } from '../api/errors.ts';
import { KubeStatusError } from '../kube/kube-error.ts';
import type { KubeObject } from '../kube/objects.ts';
import type { KubeTransport } from '../kube/transport.ts';
import { apiErrorOf } from './kube-errors.ts';

const pathOfNamespace = (name: string) => `/api/v1/namespaces/${encodeURIComponent(name)}`;

/** Asks the API server, which asks etcd. @throws an ApiError where it does not answer, or not to us */
export async function uidOfCluster(transport: KubeTransport, signal?: AbortSignal): Promise<string> {
  try {
    const path = pathOfNamespace('kube-system');
    const { metadata } = await transport.json<KubeObject>({ method: 'GET', path, signal });
    return metadata.uid;
  } catch (error) {
    throw apiErrorOf(error, 'Namespace kube-system');
  }
}

/** The same for a person: most may not read it, and only who needs it hears of that. */
export async function uidOrRefusal(transport: KubeTransport): Promise<string | ForbiddenError> {
  try {
    return await uidOfCluster(transport);
  } catch (error) {
    if (error instanceof ForbiddenError) return error;
    throw error;
  }
}

/** True as well where we may not know. */
export async function hasNamespace(transport: KubeTransport, name: string): Promise<boolean> {
  try {
    await transport.json({ method: 'GET', path: pathOfNamespace(name) });
    return true;
  } catch (error) {
    if (error instanceof KubeStatusError) return error.code !== 404;
    throw apiErrorOf(error, `Namespace ${name}`);
  }
}
