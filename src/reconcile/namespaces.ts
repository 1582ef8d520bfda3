/** Whose VMs a Host runs. */
import { messageOf } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import { selects } from '../api/label-selector.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { NamespaceReader } from '../store/store.ts';
import { blocked, type Decision, type SeenNamespace, type Subject } from './decision.ts';

/** Without a cluster a namespace is no object. It has the label that every namespace of a cluster has. */
export const NAMES_ALONE: NamespaceReader = {
  labels: async (name) => ({ 'kubernetes.io/metadata.name': name }),
  follow: () => () => undefined,
};

/** Asked for where the Host selects by labels. */
export async function seenNamespace(
  { metadata }: VirtualMachine,
  { spec }: Host,
  namespaces: NamespaceReader,
): Promise<SeenNamespace | undefined> {
  const { names = [], selector } = spec.allowedNamespaces ?? {};
  if (selector === undefined || names.includes(metadata.namespace)) return undefined;
  try {
    return { kind: 'known', labels: (await namespaces.labels(metadata.namespace)) ?? {} };
  } catch (error) {
    return { kind: 'unknown', message: messageOf(error) };
  }
}

/** Nothing new is made or started for a VM of a namespace that the Host does not take; undefined where it does. */
export function namespaceProblem({ vm, host, seen }: Subject): Decision | undefined {
  const allowed = host.spec.allowedNamespaces;
  const { namespace } = vm.metadata;
  if (allowed === undefined || allowed.names?.includes(namespace) === true) return undefined;
  const { selector } = allowed;
  if (selector !== undefined) {
    if (seen.namespace?.kind === 'known' && selects(selector, seen.namespace.labels)) return undefined;
    if (seen.namespace?.kind === 'unknown')
      return blocked(
        'NamespaceNotAllowed',
        `whether Host ${host.metadata.name} takes VMs of namespace ${namespace} is not known: ${seen.namespace.message}`,
      );
  }
  const names = allowed.names ?? [];
  const ways = [
    ...(names.length === 0 ? [] : [`of ${names.slice(0, 10).join(', ')}`]),
    ...(selector === undefined ? [] : ['of namespaces with the labels that its selector names']),
  ];
  const taken = ways.length === 0 ? 'none' : `those ${ways.join(' and ')}`;
  return blocked(
    'NamespaceNotAllowed',
    `Host ${host.metadata.name} takes no VMs of namespace ${namespace}; its allowedNamespaces take ${taken}`,
  );
}
