/** The VMs that a call may mean: those that the caller sees. */
import { ForbiddenError } from '../api/errors.ts';
import { DEFAULT_NAMESPACE } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { ToolContext } from './tool.ts';

/**
 * Of all namespaces, unless the call names one. In a cluster, whoever may not list all sees those of the server's own.
 * @throws ForbiddenError where not even that may be listed
 */
export async function visibleVms(
  { store, namespace: own = DEFAULT_NAMESPACE }: ToolContext,
  asked?: string | undefined,
): Promise<readonly VirtualMachine[]> {
  const listed = async (namespace?: string) => (await store.list('VirtualMachine', { namespace })).items;
  if (asked !== undefined) return listed(asked);
  try {
    return await listed();
  } catch (error) {
    if (!(error instanceof ForbiddenError)) throw error;
    return listed(own);
  }
}
