/**
 * Decides the single next step for one VM. Pure: no clock, no I/O, no memory, and it never reads status. The loop
 * takes the step, looks at the host again and asks again, so a step that half happened is simply seen.
 */
import { messageOf } from '../api/errors.ts';
import { hostShutdownOf } from '../api/host-shutdown.ts';
import { ANNOTATIONS, FINALIZERS } from '../api/meta.ts';
import type { Decision, Subject } from './decision.ts';
import { act, blocked } from './decision.ts';
import { decideUselessJob } from './images.ts';
import { namespaceProblem } from './namespaces.ts';
import { OWN_FILES } from './paths.ts';
import { decideHostShutdown, decideOff, decideOn, wantsOff } from './power.ts';
import type { OwnershipRecord } from './record.ts';
import { decideStop } from './stop.ts';

export function isPaused(metadata: { readonly annotations?: Readonly<Record<string, string>> | undefined }): boolean {
  const value = metadata.annotations?.[ANNOTATIONS.paused];
  return value !== undefined && value !== 'false';
}

export function isOrphaned(metadata: { readonly annotations?: Readonly<Record<string, string>> | undefined }): boolean {
  const value = metadata.annotations?.[ANNOTATIONS.orphan];
  return value !== undefined && value !== 'false';
}

/** A bug must not take the other VMs of the host with it. */
export function decideSafely(subject: Subject): Decision {
  const { host, vm } = subject;
  const taken = vm.metadata.finalizers?.includes(FINALIZERS.hostCleanup) === true;
  if (host.metadata.deletionTimestamp !== undefined && !taken && vm.metadata.deletionTimestamp === undefined) {
    return blocked('HostNotFound', `Host ${host.metadata.name} is being deleted and takes no new VMs`);
  }
  try {
    return decide(subject);
  } catch (error) {
    return blocked('InternalError', messageOf(error));
  }
}

export function decide(subject: Subject): Decision {
  const { vm, host } = subject;
  if (isPaused(vm.metadata))
    return blocked('PausedByOperator', `annotation ${ANNOTATIONS.paused} is set: nothing is touched`);
  if (isPaused(host.metadata))
    return blocked('PausedByOperator', `annotation ${ANNOTATIONS.paused} is set on Host ${host.metadata.name}`);
  if (vm.metadata.deletionTimestamp !== undefined) return decideDeletion(subject);
  const stranger = namespaceProblem(subject);
  // What was made here before its namespace was given up is stopped and removed as ever.
  if (stranger !== undefined && vm.metadata.annotations?.[ANNOTATIONS.provisioned] === undefined) return stranger;
  if (vm.metadata.finalizers?.includes(FINALIZERS.hostCleanup) !== true) {
    return act(
      { type: 'add-finalizer' },
      'Provisioning',
      'noting in the object that something of it will be on the host',
    );
  }
  const owned = decideOwnership(subject);
  if ('kind' in owned) return owned;
  const { record } = owned;
  const process = subject.seen.folder?.process ?? { kind: 'absent', pidfileLeft: false };
  if (stranger !== undefined && !(wantsOff(vm.spec) && process.kind === 'present')) return stranger;
  if (wantsOff(vm.spec)) return decideOff(subject, record, process);
  return hostShutdownOf(host, subject.seen.bootID) === undefined
    ? decideOn(subject, record, process)
    : decideHostShutdown(subject, record, process);
}

/** The record, once folder, record and annotation are in place; else the step towards it or what is in the way. */
function decideOwnership(subject: Subject): Decision | { readonly record: OwnershipRecord } {
  const { vm, wanted, seen } = subject;
  const provisioned = vm.metadata.annotations?.[ANNOTATIONS.provisioned];
  const here = `${seen.machineID}:${wanted.folder}`;
  const state = seen.folder?.record ?? { kind: 'absent' };
  switch (state.kind) {
    case 'too-new':
      return blocked(
        'RecordTooNew',
        `${wanted.folder}: its record has version ${state.version}, written by a later qemu-operator; the VM is left alone`,
      );
    case 'invalid':
      return blocked(
        'RecordInvalid',
        `${wanted.folder}/.qemu-operator.json cannot be read (${state.message}); the VM is left alone until it is restored`,
      );
    case 'absent':
      return decideUnowned(subject, provisioned, here);
    case 'readable':
      return decideOwned(subject, state.record, provisioned, here);
  }
}

function decideUnowned(subject: Subject, provisioned: string | undefined, here: string): Decision {
  const { wanted, seen } = subject;
  if (provisioned !== undefined) {
    return blocked(
      'StorageMissing',
      `the VM was provisioned at ${provisioned}, and ${provisioned === here ? `${wanted.folder} has no record of it now` : `this is ${here}`}: mount or restore it, or remove the annotation ${ANNOTATIONS.provisioned} to give its data up`,
    );
  }
  if (seen.olderRival !== undefined)
    return blocked('NameConflict', `VM ${seen.olderRival} claims the name ${wanted.vmName} on this host and is older`);
  if (seen.folder?.process.kind === 'present') {
    return blocked(
      'NameConflict',
      `a QEMU process (pid ${seen.folder.process.pid}) that no record explains runs in ${wanted.folder}`,
    );
  }
  if (seen.namesake !== undefined)
    return blocked('NameConflict', `VM ${seen.namesake} has the name ${wanted.vmName} on this host, in another vmDir`);
  const taken = seen.folder?.entries.find((name) => OWN_FILES.has(name));
  if (taken !== undefined)
    return blocked(
      'NameConflict',
      `${wanted.folder} exists and holds ${taken}, a name that qemu-operator keeps for its own files; move that file away, and the folder is taken with all else in it`,
    );
  return act({ type: 'claim-folder' }, 'Provisioning', `making ${wanted.folder}`);
}

function decideOwned(
  subject: Subject,
  record: OwnershipRecord,
  provisioned: string | undefined,
  here: string,
): Decision | { readonly record: OwnershipRecord } {
  const { vm, wanted, seen } = subject;
  const adopt = vm.metadata.annotations?.[ANNOTATIONS.adopt];
  if (record.uid !== vm.metadata.uid) {
    const owner = `${record.namespace}/${record.name} (uid ${record.uid})`;
    if (adopt === undefined) {
      return blocked(
        'NameConflict',
        `${wanted.folder} belongs to VM ${owner}; to take it over, set the annotation ${ANNOTATIONS.adopt}: ${record.uid}`,
      );
    }
    if (adopt !== record.uid)
      return blocked(
        'NameConflict',
        `${wanted.folder} belongs to VM ${owner}, and ${ANNOTATIONS.adopt} names ${adopt}`,
      );
    if (seen.uidExists(record.uid))
      return blocked(
        'NameConflict',
        `${wanted.folder} belongs to VM ${owner}, which still exists: it is not taken over`,
      );
    return act(
      { type: 'adopt', fromUID: record.uid, nonce: vm.spec.restartedAt },
      'Provisioning',
      `taking over the folder of ${owner}`,
    );
  }
  if (provisioned === here) {
    return adopt === undefined ? { record } : act({ type: 'remove-adopt' }, 'Provisioning', 'the folder is taken over');
  }
  if (provisioned === undefined && adopt === undefined) {
    const lost = Object.entries(record.disks).find(
      ([, { path, state }]) => state === 'created' && seen.files.get(path)?.kind === 'absent',
    );
    // The annotation was removed with the word that the data is gone: forget the lost disks, then provision anew.
    if (lost !== undefined)
      return act(
        { type: 'forget-disk', disk: lost[0] },
        'Provisioning',
        `disk ${lost[0]} (${lost[1].path}) was given up`,
      );
  }
  return act({ type: 'note-provisioned', value: here }, 'Provisioning', 'noting in the object where its disks lie');
}

/** A folder that lost its record while our own files are in it: they are not left behind unsaid. The record is removed last. */
function remainsOf({ vm, seen, wanted }: Subject): Decision | undefined {
  const { folder } = seen;
  if (folder === undefined || vm.metadata.annotations?.[ANNOTATIONS.provisioned] === undefined) return undefined;
  const file = folder.entries.find((name) => OWN_FILES.has(name));
  const running = folder.process.kind === 'present' ? `QEMU (pid ${folder.process.pid}) runs there` : undefined;
  if (running === undefined && file === undefined) return undefined;
  return blocked(
    'RecordInvalid',
    `${wanted.folder} has lost its record, but ${running ?? `${file} is there`}; restore .qemu-operator.json, or release the object with annotation ${ANNOTATIONS.orphan}`,
  );
}

function decideDeletion(subject: Subject): Decision {
  const { vm, seen, wanted } = subject;
  if (isOrphaned(vm.metadata))
    return act({ type: 'release' }, 'Terminating', `annotation ${ANNOTATIONS.orphan} is set: the host is left alone`);
  const state = seen.folder?.record ?? { kind: 'absent' };
  if (state.kind === 'too-new')
    return blocked(
      'RecordTooNew',
      `${wanted.folder}: its record was written by a later qemu-operator; annotation ${ANNOTATIONS.orphan} releases the object`,
    );
  if (state.kind === 'invalid')
    return blocked(
      'RecordInvalid',
      `${wanted.folder}/.qemu-operator.json cannot be read (${state.message}); annotation ${ANNOTATIONS.orphan} releases the object`,
    );
  const remains = state.kind === 'absent' ? remainsOf(subject) : undefined;
  if (remains !== undefined) return remains;
  if (state.kind === 'absent' || state.record.uid !== vm.metadata.uid) {
    return act({ type: 'release' }, 'Terminating', 'nothing of the VM is on the host');
  }
  const process = seen.folder?.process;
  if (process?.kind === 'present')
    return decideStop(subject, process, { reason: 'StoppedByRequest', message: 'the VM is being deleted' });
  const shared = [...seen.sharedDisks].map(([path, owner]) => `${path}, which is a disk of VM ${owner} as well`);
  const except = shared.length === 0 ? '' : `, but not ${shared.join(', nor ')}`;
  return (
    decideUselessJob(subject, state.record, false) ??
    act(
      { type: 'remove-files', keep: [...seen.sharedDisks.keys()] },
      'Terminating',
      `removing the files of the VM${except}`,
    )
  );
}
