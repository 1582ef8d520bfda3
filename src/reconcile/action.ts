/** Everything that can be done for a VM or a host: data, so that it can be logged, compared and simulated. */
import type { ExitReason } from '../api/conditions.ts';
import type { EffectiveDisk, EffectiveImage, LaunchSpec } from '../api/effective-spec.ts';
import type { HostForward } from '../api/networks.ts';
import type { SeenJob } from './job.ts';
import type { Marker, StopMarker } from './record.ts';

/** Done to a host. */
export type VmAction =
  /** Makes the folder and its ownership record. */
  | { readonly type: 'claim-folder' }
  /** Writes this object's identity into a record that another object's uid owns, and its nonce: adopting restarts nothing. */
  | { readonly type: 'adopt'; readonly fromUID: string; readonly nonce: string | undefined }
  | { readonly type: 'create-disk'; readonly disk: EffectiveDisk }
  /** Starts the job that makes the disk from its image. */
  | {
      readonly type: 'start-copy';
      readonly disk: EffectiveDisk;
      readonly image: EffectiveImage;
      readonly bootID: string;
      /** How often it was tried before. */
      readonly attempt: number;
      readonly nonce: string | undefined;
    }
  /** Makes what the job has made the VM's disk. */
  | { readonly type: 'finish-copy'; readonly disk: EffectiveDisk }
  /** Ends a job that is not wanted any more and removes what it made so far. */
  | { readonly type: 'cancel-copy'; readonly job: SeenJob }
  /** Notes a file that exists as this VM's disk; it is never deleted unless reclaimPolicy says so. */
  | { readonly type: 'attach-disk'; readonly disk: EffectiveDisk; readonly virtualBytes: number }
  /** Grows the file of a VM without a process. qcow2 only. */
  | { readonly type: 'grow-disk'; readonly disk: EffectiveDisk; readonly toBytes: number }
  /** Grows a disk of a running VM; the guest sees it at once. */
  | { readonly type: 'grow-disk-live'; readonly disk: EffectiveDisk; readonly toBytes: number }
  /** Notes what the spec says of disks that exist: size, reclaimPolicy. */
  | { readonly type: 'note-disk'; readonly disk: EffectiveDisk; readonly sizeBytes: number }
  /** Drops a disk from the record whose file is gone and was given up by a person. */
  | { readonly type: 'forget-disk'; readonly disk: string }
  | {
      readonly type: 'launch';
      readonly spec: LaunchSpec;
      readonly nonce: string | undefined;
      readonly bootID: string;
      readonly accelerator: 'KVM' | 'TCG';
      readonly acceleratorReason: string;
      readonly restart: boolean;
    }
  /** Completes the record of a launch that was interrupted after QEMU came up. */
  | { readonly type: 'note-launch' }
  | { readonly type: 'resume' }
  /** Plugs the host's end of a guest's cable into a bridge. For root and sudo alone: else the helper does it. */
  | { readonly type: 'join-bridge'; readonly bridge: string; readonly tap: string; readonly mtu: number }
  /** Changes the ports of the host that lead to a running guest; `forwards` is what there is then. */
  | {
      readonly type: 'forward';
      readonly network: string;
      readonly remove: readonly HostForward[];
      readonly add: readonly HostForward[];
      readonly forwards: readonly HostForward[];
    }
  /** One step of a stop: writes the marker, then asks. */
  | {
      readonly type: 'stop';
      readonly step: 'powerdown' | 'quit' | 'terminate' | 'kill';
      /** Of a powerdown, the guest's agent is asked: `first`, and the button is left alone if it takes it; or `too`. */
      readonly agent?: 'first' | 'too';
      /** The grace period begins anew: the host's clock was set back behind its beginning. */
      readonly afresh?: true;
      readonly reason: StopMarker['reason'];
    }
  /** Notes that a stop which was begun is no longer wanted. */
  | { readonly type: 'withdraw-stop' }
  /** Notes how a process ended and clears what it left. */
  | { readonly type: 'note-end'; readonly reason: ExitReason; readonly message: string; readonly crashes: number }
  /** Notes that the VM was off when nobody ran it. */
  | { readonly type: 'note-off' }
  /** Removes what we made, one by one, the record last. */
  | {
      readonly type: 'remove-files';
      /** Paths of disks that are another VM's too, and stay. */
      readonly keep: readonly string[];
    };

/** Done to the object in the store. */
export type StoreAction =
  | { readonly type: 'add-finalizer' }
  | { readonly type: 'note-provisioned'; readonly value: string }
  | { readonly type: 'remove-adopt' }
  | { readonly type: 'release' };

export type Action = VmAction | StoreAction;

export const STORE_ACTIONS: ReadonlySet<Action['type']> = new Set<StoreAction['type']>([
  'add-finalizer',
  'note-provisioned',
  'remove-adopt',
  'release',
]);

export function isStoreAction(action: Action): action is StoreAction {
  return STORE_ACTIONS.has(action.type);
}

/** Done for a whole host. */
export type HostAction =
  /**
   * Writes the marker of a vmDir, its epoch raised: from now on only this controller acts there. The former owner's
   * session on the host is ended first. Refused where the marker is not the one that was seen.
   */
  | {
      readonly type: 'claim';
      readonly vmDir: string;
      /** Whether sudo may make it, or give an empty one to the user. */
      readonly sudo?: true;
      readonly seen: { readonly marker: Marker; readonly line: string } | undefined;
    }
  /** Removes the marker of a vmDir whose Host object goes. */
  | { readonly type: 'unclaim'; readonly vmDir: string };
