/** What every object shares with Kubernetes: group, kinds, metadata. Field names and meanings are Kubernetes' own. */

export const GROUP = 'qemu-operator.dev';
export const VERSION = 'v1alpha1';
export const API_VERSION = `${GROUP}/${VERSION}`;

export const KINDS = ['VirtualMachine', 'Host', 'VirtualMachineMonitor'] as const;
export type Kind = (typeof KINDS)[number];

/** Annotations that people and tools set. Each is described in docs/reference/annotations.md. */
export const ANNOTATIONS = {
  /** Nothing is touched while it is present, deletion included. */
  paused: `${GROUP}/paused`,
  /** DELETE is refused while it is present. */
  protected: `${GROUP}/protected`,
  /** Deletion releases the object and leaves the host alone. */
  orphan: `${GROUP}/orphan`,
  /** Takes over the folder whose record carries this uid. Removed when done. */
  adopt: `${GROUP}/adopt`,
  /** `<machine-id>:<folder>`: where the disks were made. Their absence there is StorageMissing, never a reason to make them anew. */
  provisioned: `${GROUP}/provisioned`,
  /** On a Host: the machine-id whose vmDir was claimed. */
  claimed: `${GROUP}/claimed`,
  /** On a Host: the store uid in the marker that may be replaced, or `none` for a marker that was lost. Removed when done. */
  takeOver: `${GROUP}/take-over`,
  /** On a Host that a tool made for one address: when it was last used. It is removed some time later if it has no VM. */
  lastUsedAt: `${GROUP}/last-used-at`,
  /** On a Host: which boot of it is ending (host-shutdown.ts). Its guests are stopped, and none is started in that boot. */
  hostShutdown: `${GROUP}/host-shutdown`,
  /** Any text; a new one asks for a look now instead of at the next resync. */
  lookRequestedAt: `${GROUP}/look-requested-at`,
} as const;

export const LABELS = {
  host: `${GROUP}/host`,
  vmName: `${GROUP}/vm-name`,
  /** On the machine of quickstart: what its --remove may take away. */
  sample: `${GROUP}/sample`,
} as const;

export const FINALIZERS = {
  /** On a VirtualMachine: something of it may be on its host. */
  hostCleanup: `${GROUP}/host-cleanup`,
  /** On a Host: a VirtualMachine names it. */
  inUse: `${GROUP}/in-use`,
} as const;

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
}

/** metav1.ObjectMeta, the part a store fills and we use. Timestamps are RFC 3339. */
export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string | undefined;
  readonly uid: string;
  /** Opaque; changes with every write. */
  readonly resourceVersion: string;
  /** Raised by one with every change of the spec, and when a deletion begins. */
  readonly generation: number;
  readonly creationTimestamp: string;
  readonly deletionTimestamp?: string | undefined;
  readonly finalizers?: readonly string[] | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
  readonly ownerReferences?: readonly OwnerReference[] | undefined;
}

/** What identifies an object of a kind. `namespace` is absent for cluster-scoped kinds. */
export interface ObjectRef {
  readonly namespace?: string | undefined;
  readonly name: string;
}

export const DEFAULT_NAMESPACE = 'default';

/** `namespace/name`, or `name` for cluster-scoped kinds: the key of caches and work queues. */
export function keyOf(ref: ObjectRef): string {
  return ref.namespace === undefined ? ref.name : `${ref.namespace}/${ref.name}`;
}

export function isNamespaced(kind: Kind): boolean {
  return kind !== 'Host';
}
