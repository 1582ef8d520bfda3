/** What `decide` answers: one next step, or why there is none. Always with a sentence for people. */
import type { Reason } from '../api/conditions.ts';
import type { EffectiveSpec } from '../api/effective-spec.ts';
import type { Host } from '../api/host.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Action } from './action.ts';
import type { HeardEnd, HostFacts, SeenBridge, SeenFile, SeenFolder, SeenPort, SeenVmDir } from './observed.ts';

export type Decision =
  /** Do this, then look again at once. `reason` says what the VM is in the middle of. */
  | { readonly kind: 'act'; readonly action: Action; readonly reason: Reason; readonly message: string }
  /** Nothing to do until something changes, or `forMs` has passed on the host's clock. */
  | ({ readonly kind: 'wait'; readonly forMs: number; readonly reason: Reason; readonly message: string } & More)
  /** Only a new spec or a person helps; the next look may still see that it was mended. */
  | ({ readonly kind: 'blocked'; readonly reason: Reason; readonly message: string } & More)
  /** The VM is as its spec wants. */
  | { readonly kind: 'settled'; readonly reason: 'Running' | 'Stopped' | 'GuestPoweredOff'; readonly message: string };

interface More {
  /** How far long work is: shown with the message, and no news of its own. */
  readonly progress?: string;
  /** When it is tried again by itself, on the host's clock. */
  readonly retryAt?: number;
}

/** Everything that a decision rests on. */
export interface Subject {
  readonly vm: VirtualMachine;
  readonly host: Host;
  readonly wanted: EffectiveSpec;
  readonly seen: SeenVm;
}

/** The part of a look that concerns one VM. */
export interface SeenVm {
  readonly at: number;
  readonly bootID: string;
  readonly machineID: string;
  readonly vmDir: SeenVmDir;
  /** Undefined where there is none. */
  readonly folder: SeenFolder | undefined;
  readonly files: ReadonlyMap<string, SeenFile>;
  /** `namespace/name` of another VM of the machine whose record has this path, resolved, as a disk. */
  readonly ownerOf: (path: string) => string | undefined;
  /** Paths of its own record's disks that such a record claims as well, with that owner's `namespace/name`. */
  readonly sharedDisks: ReadonlyMap<string, string>;
  /** Path of another VM's folder on the machine that this path, resolved, lies in. */
  readonly otherFolderWith: (path: string) => string | undefined;
  /** Ports that somebody listens on, this VM included. */
  readonly ports: readonly SeenPort[];
  /** Ports that the records of other VMs claim, with the owner's `namespace/name`. */
  readonly portClaims: readonly PortClaim[];
  readonly bridges: ReadonlyMap<string, SeenBridge>;
  readonly facts: HostFacts;
  /** The Secret that cloudInit names; undefined where it names none. */
  readonly secret: SeenSecret | undefined;
  /** The VM's own; undefined where the Host does not ask for it. */
  readonly namespace: SeenNamespace | undefined;
  readonly heard: HeardEnd | undefined;
  /** An older object that claims the same (host, vmName), as `namespace/name`. */
  readonly olderRival: string | undefined;
  /** The owner of a record for the same vmName in another vmDir of the host, as `namespace/name`. */
  readonly namesake: string | undefined;
  /** Whether an object with this uid exists in the store. */
  readonly uidExists: (uid: string) => boolean;
}

export type PortClaim = Omit<SeenPort, 'holder'> & { readonly owner: string };
/** Never its value. */
export type SeenSecret =
  | { readonly kind: 'present'; readonly digest: string }
  | { readonly kind: 'absent'; readonly message: string };

export type SeenNamespace =
  | { readonly kind: 'known'; readonly labels: Readonly<Record<string, string>> }
  | { readonly kind: 'unknown'; readonly message: string };

export function act(action: Action, reason: Reason, message: string): Decision {
  return { kind: 'act', action, reason, message };
}

export function wait(forMs: number, reason: Reason, message: string, more: More = {}): Decision {
  return { kind: 'wait', forMs: Math.max(forMs, 50), reason, message, ...more };
}

export function blocked(reason: Reason, message: string, more: More = {}): Decision {
  return { kind: 'blocked', reason, message, ...more };
}

/** A moment of the host's clock for people and for comparisons of text: absolute, so that a message at rest stays the same. */
export function clockTime(ms: number): string {
  return new Date(Math.ceil(ms / 1000) * 1000).toISOString().replace('.000Z', 'Z');
}
