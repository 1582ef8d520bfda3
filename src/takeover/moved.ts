/** What a Host and its VMs are in the store that takes them over: the same, with the word that it may. Pure. */
import type { Host, HostSpec } from '../api/host.ts';
import { ANNOTATIONS, API_VERSION, LABELS, type ObjectMeta } from '../api/meta.ts';
import type { VirtualMachine, VirtualMachineSpec } from '../api/virtual-machine.ts';

type Annotations = Readonly<Record<string, string>>;

interface Metadata {
  readonly name: string;
  readonly namespace?: string;
  readonly labels?: Annotations;
  readonly annotations: Annotations;
}

export interface Moved<S> {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: Metadata;
  readonly spec: S;
}

/** Said of the object in its store, and of no other. */
const OF_ITS_STORE: ReadonlySet<string> = new Set([
  ANNOTATIONS.orphan,
  ANNOTATIONS.adopt,
  ANNOTATIONS.takeOver,
  ANNOTATIONS.lastUsedAt,
  ANNOTATIONS.hostShutdown,
  ANNOTATIONS.lookRequestedAt,
]);

/**
 * The word for a folder is the uid in its record. `provisioned` goes along: what is not found there is missing, and
 * not made anew.
 */
export function movedVm(vm: VirtualMachine, hostName: string): Moved<VirtualMachineSpec> {
  const { namespace, name, uid } = vm.metadata;
  const annotations = { ...kept(vm.metadata), [ANNOTATIONS.adopt]: uid };
  const metadata = { name, namespace, ...labelsOf(vm.metadata), annotations };
  return { apiVersion: API_VERSION, kind: 'VirtualMachine', metadata, spec: { ...vm.spec, hostName } };
}

/** @param secret where its credentials lie from then on; undefined: it has none */
export function movedHost(
  host: Host,
  { name, fromUID, secret }: { readonly name: string; readonly fromUID: string; readonly secret: string | undefined },
): Moved<HostSpec> {
  const { ssh } = host.spec;
  const spec =
    ssh === undefined || secret === undefined
      ? host.spec
      : { ...host.spec, ssh: { ...ssh, credentialsSecretRef: { name: secret } } };
  const annotations = { ...kept(host.metadata), ...takeOver(host, fromUID) };
  return { apiVersion: API_VERSION, kind: 'Host', metadata: { name, ...labelsOf(host.metadata), annotations }, spec };
}

/** Whose the vmDir was, and which machine it is: at another one nothing is taken over. */
export function takeOver({ metadata }: Host, fromUID: string): Annotations {
  const claimed = metadata.annotations?.[ANNOTATIONS.claimed];
  return { [ANNOTATIONS.takeOver]: fromUID, ...(claimed === undefined ? {} : { [ANNOTATIONS.claimed]: claimed }) };
}

function kept({ annotations = {} }: ObjectMeta): Annotations {
  return Object.fromEntries(Object.entries(annotations).filter(([key]) => !OF_ITS_STORE.has(key)));
}

/** Ours are written anew. */
function labelsOf({ labels = {} }: ObjectMeta): { readonly labels?: Annotations } {
  const { [LABELS.host]: _host, [LABELS.vmName]: _vmName, ...others } = labels;
  return Object.keys(others).length === 0 ? {} : { labels: others };
}
