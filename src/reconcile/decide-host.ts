/**
 * Decides whether a vmDir may be worked in: whose it is, whether it is the one that was claimed, and which
 * controller acts there. Pure. A vmDir that is not ready makes its VMs "cannot see", never "absent".
 */
import type { Reason } from '../api/conditions.ts';
import type { Host } from '../api/host.ts';
import { ANNOTATIONS } from '../api/meta.ts';
import type { HostAction } from './action.ts';
import type { SeenVmDir } from './observed.ts';

export interface VmDirSubject {
  readonly host: Host;
  readonly vmDir: SeenVmDir;
  readonly machineID: string;
  /** Of the user that runs QEMU. */
  readonly uid: number;
  readonly storeUID: string;
  /** The epoch under which this controller acts there; undefined before its claim. */
  readonly epoch: number | undefined;
  /** Whether VMs were provisioned in this vmDir before. */
  readonly provisioned: boolean;
  readonly hostExists: (uid: string) => boolean;
  /** Whether the host's allowedPaths hold this vmDir, symbolic links resolved. */
  readonly allowed: boolean;
}

/** Of the annotation take-over: the marker was lost, and what lies in the vmDir is ours. */
export const NO_MARKER = 'none';

export type VmDirDecision =
  | { readonly kind: 'act'; readonly action: HostAction; readonly message: string }
  | {
      readonly kind: 'blocked';
      readonly reason: Reason;
      readonly message: string;
      readonly condition: 'VMDirReady' | 'Claimed';
    }
  /** Another controller of the same store acts there now: what is said of its VMs is for that one to say. */
  | { readonly kind: 'superseded'; readonly message: string }
  | { readonly kind: 'ready' };

export function decideVmDir(subject: VmDirSubject): VmDirDecision {
  const { host, vmDir, machineID } = subject;
  const claimed = host.metadata.annotations?.[ANNOTATIONS.claimed];
  if (claimed !== undefined && claimed !== machineID) {
    return blocked(
      'DifferentMachine',
      'Claimed',
      `the host was machine ${claimed} and is ${machineID} now; if that is meant: host claim ${host.metadata.name} --accept-machine`,
    );
  }
  const { marker } = vmDir;
  const takeOver = host.metadata.annotations?.[ANNOTATIONS.takeOver];
  if (marker.kind === 'invalid') {
    return blocked(
      'VMDirMissing',
      'VMDirReady',
      `${vmDir.path}/.qemu-operator.json is damaged; restore it, or remove it together with the annotation ${ANNOTATIONS.claimed} of Host ${host.metadata.name}`,
    );
  }
  if (marker.kind === 'absent')
    return decideUnclaimed(subject, claimed !== undefined && vmDir.path === host.spec.vmDir);
  if (vmDir.state === 'not-writable') return notWritable(subject);
  const { storeUID, hostUID, epoch } = marker.marker;
  if (storeUID !== subject.storeUID && takeOver !== storeUID) {
    return blocked(
      'ClaimedByAnother',
      'Claimed',
      `${vmDir.path} is claimed by another store (uid ${storeUID}); nothing is done there. Use another vmDir, or end the other controller and: host claim ${host.metadata.name} --take-over`,
    );
  }
  if (hostUID !== host.metadata.uid && subject.hostExists(hostUID)) {
    return blocked(
      'ClaimedByAnother',
      'Claimed',
      `${vmDir.path} is claimed by another Host of this store (uid ${hostUID}); give this one another vmDir`,
    );
  }
  if (hostUID === host.metadata.uid && epoch === subject.epoch) return { kind: 'ready' };
  if (hostUID === host.metadata.uid && subject.epoch !== undefined && epoch > subject.epoch) {
    return {
      kind: 'superseded',
      message: `a later controller of this store has taken ${vmDir.path} over (epoch ${epoch}, this one had ${subject.epoch}); this one does nothing more there`,
    };
  }
  return {
    kind: 'act',
    action: { type: 'claim', vmDir: vmDir.path, seen: { marker: marker.marker, line: marker.line } },
    message: `taking ${vmDir.path} over at epoch ${epoch + 1}`,
  };
}

function decideUnclaimed(subject: VmDirSubject, claimed: boolean): VmDirDecision {
  const { host, vmDir, provisioned, allowed } = subject;
  const takenOver = host.metadata.annotations?.[ANNOTATIONS.takeOver] === NO_MARKER;
  if ((claimed || provisioned) && !takenOver && vmDir.state === 'not-writable') {
    return blocked(
      'VMDirMissing',
      'VMDirReady',
      `${vmDir.path} was claimed before and is closed to the user that runs QEMU (uid ${subject.uid}) now. Where it is a mount point, mount it; where it belongs to another user, let that one run QEMU again, or on the host: sudo chown ${subject.uid} '${vmDir.path}'`,
    );
  }
  if ((claimed || provisioned) && !takenOver) {
    return blocked(
      'VMDirMissing',
      'VMDirReady',
      `${vmDir.path} was claimed before and has no marker now: a file system that is not mounted looks like this. Mount it; if it is empty on purpose, remove the annotation ${claimed ? ANNOTATIONS.claimed : ANNOTATIONS.provisioned} from ${claimed ? `Host ${host.metadata.name}` : 'its VMs'}; if only the marker was lost: host claim ${host.metadata.name} --take-over`,
    );
  }
  if (!allowed) {
    const roots = (host.spec.allowedPaths ?? [host.spec.vmDir]).join(', ');
    return blocked(
      'PathNotAllowed',
      'VMDirReady',
      `vmDir ${vmDir.path} lies outside the host's allowedPaths (${roots})`,
    );
  }
  const sudo = host.spec.sudo === true;
  if (vmDir.state === 'not-writable' && !sudo) return notWritable(subject);
  return {
    kind: 'act',
    action: { type: 'claim', vmDir: vmDir.path, seen: undefined, ...(sudo ? { sudo } : {}) },
    message: `claiming ${vmDir.path}`,
  };
}

function notWritable({ vmDir: { path }, uid }: VmDirSubject): VmDirDecision {
  return blocked(
    'VMDirMissing',
    'VMDirReady',
    `${path} is not writable for the user that runs QEMU. On the host: sudo install -d -o ${uid} -m 700 '${path}'; or choose another vmDir`,
  );
}

function blocked(reason: Reason, condition: 'VMDirReady' | 'Claimed', message: string): VmDirDecision {
  return { kind: 'blocked', reason, condition, message };
}
