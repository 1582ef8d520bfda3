/** On and off: how a process is ended, kept and started. */

import { type PendingChange, pendingChanges } from '../api/effective-spec.ts';
import type { VirtualMachineSpec } from '../api/virtual-machine.ts';
import type { Decision, Subject } from './decision.ts';
import { act, blocked, wait } from './decision.ts';
import { decideEnd, decideRestart } from './ends.ts';
import { awaitsImage, decideUselessJob } from './images.ts';
import { decideBridges, decideForwards, networkProblem, withPorts } from './network.ts';
import type { SeenProcess } from './observed.ts';
import { acceleratorOf, qemuProblem, toolProblem } from './readiness.ts';
import type { LaunchRecord, OwnershipRecord } from './record.ts';
import { secretProblem } from './secrets.ts';
import { decideStop, stopUnderWay } from './stop.ts';
import { decideDiskNotes, decideDisks, decideLiveGrowth, storageProblem } from './storage.ts';

/** A state that mends itself is looked at again after this. */
const AGAIN_MS = 5_000;
/** A host that shuts down is soon gone; what ends the wait wakes the VM by itself. */
const SHUTDOWN_MS = 60_000;
const SHUTTING_DOWN = 'the host is shutting down';
/** A disk on a file system with less room than this would only fail again. */
const RESUME_FREE_BYTES = 64 * 1024 * 1024;

type Process = Extract<SeenProcess, { kind: 'present' }>;

/** The VM should be off. */
export function decideOff(subject: Subject, record: OwnershipRecord, process: SeenProcess): Decision {
  if (process.kind === 'present') {
    return decideStop(subject, process, {
      reason: 'StoppedByRequest',
      message: `powerState is ${subject.vm.spec.powerState}`,
    });
  }
  if (record.launch !== undefined) return decideGone(subject, record, record.launch);
  // First of all: whatever else is in the way, off and on again must start it.
  const ended = record.end !== undefined && record.end.reason !== 'StoppedByRequest';
  if ((ended || record.nonce !== subject.vm.spec.restartedAt) && record.off !== true) {
    return act({ type: 'note-off' }, 'Stopped', 'noting that the VM is switched off');
  }
  const storage =
    decideUselessJob(subject, record, false) ?? storageProblem(subject, record) ?? decideDisks(subject, record, false);
  if (storage !== undefined) return withTools(subject, storage);
  const waiting = subject.wanted.disks.find((disk) => awaitsImage(subject, record, disk));
  const later = waiting === undefined ? '' : `; disk ${waiting.name} is made from its image when it is switched on`;
  return { kind: 'settled', reason: 'Stopped', message: `the VM is stopped, as powerState wants${later}` };
}

/** A launched process is gone: its end is noted before anything else. */
function decideGone(subject: Subject, record: OwnershipRecord, launch: LaunchRecord): Decision {
  const process = subject.seen.folder?.process;
  // A pidfile says that QEMU came up, although nobody was left to note it.
  const cameUp = process?.kind === 'absent' && process.pidfileLeft;
  if (launch.state === 'running' || cameUp) return decideEnd(subject, record, launch);
  // QEMU was about to be run and never came up: no end, nothing ran.
  return act(
    {
      type: 'note-end',
      reason: 'StoppedByRequest',
      message: 'a launch was interrupted before QEMU came up',
      crashes: record.end?.crashes ?? 0,
    },
    'Starting',
    'clearing an interrupted launch',
  );
}

/** What only a person or a new spec can mend. */
function problemOf(subject: Subject, record: OwnershipRecord): Decision | undefined {
  return (
    storageProblem(subject, record) ?? qemuProblem(subject) ?? secretProblem(subject) ?? networkProblem(subject, record)
  );
}

/** The VM should be on. */
export function decideOn(subject: Subject, record: OwnershipRecord, process: SeenProcess): Decision {
  if (process.kind === 'present') return decideRunning(subject, record, process);
  if (record.launch !== undefined) return decideGone(subject, record, record.launch);
  const gate = decideRestart(subject, record);
  if (gate === 'stays-off') return staysOff(record);
  const problem = decideUselessJob(subject, record, true) ?? problemOf(subject, record);
  if (problem !== undefined) return problem;
  const disks = decideDisks(subject, record, true);
  return disks === undefined ? (gate ?? decideLaunch(subject, record)) : withTools(subject, disks);
}

/** Disks are made and grown by qemu-img. */
function withTools(subject: Subject, decision: Decision): Decision {
  const needed = decision.kind === 'act' && ['create-disk', 'start-copy', 'grow-disk'].includes(decision.action.type);
  return (needed ? toolProblem(subject) : undefined) ?? decision;
}

/** The VM should be on, and its host is shutting down: it is off until the next boot. */
export function decideHostShutdown(subject: Subject, record: OwnershipRecord, process: SeenProcess): Decision {
  if (process.kind === 'present') {
    if (record.launch?.state !== 'running') return NOTE_LAUNCH;
    return decideStop(subject, process, { reason: 'HostShutdown', message: SHUTTING_DOWN });
  }
  if (record.launch !== undefined) return decideGone(subject, record, record.launch);
  if (decideRestart(subject, record) === 'stays-off') return staysOff(record);
  return wait(SHUTDOWN_MS, 'HostShutdown', `${SHUTTING_DOWN}; the VM starts again at its next boot`);
}

function staysOff(record: OwnershipRecord): Decision {
  const end = record.end;
  if (end?.reason === 'GuestPoweredOff') {
    return { kind: 'settled', reason: 'GuestPoweredOff', message: `${end.message}; restartPolicy leaves it off` };
  }
  return blocked(
    end?.reason ?? 'InternalError',
    `${end?.message ?? 'ended'}; restartPolicy Never leaves it off: start it, or change the policy`,
  );
}

function decideLaunch(subject: Subject, record: OwnershipRecord): Decision {
  const { vm, wanted, seen } = subject;
  const { accelerator, reason } = acceleratorOf(subject);
  const byPolicy =
    record.end !== undefined &&
    record.off !== true &&
    record.nonce === vm.spec.restartedAt &&
    record.end.reason !== 'StoppedByRequest';
  return act(
    {
      type: 'launch',
      spec: withPorts(subject, record),
      nonce: vm.spec.restartedAt,
      bootID: seen.bootID,
      accelerator,
      acceleratorReason: reason,
      restart: byPolicy,
    },
    'Starting',
    byPolicy
      ? `starting again after ${record.end?.reason}`
      : `starting QEMU ${seen.facts.qemu[wanted.launch.architecture]?.version ?? ''} with ${accelerator}`,
  );
}

/** The end of a process that is not in the record could not be told. */
const NOTE_LAUNCH = act({ type: 'note-launch' }, 'Starting', 'QEMU is up; noting it in the record');

function decideRunning(subject: Subject, record: OwnershipRecord, process: Process): Decision {
  const { vm, wanted } = subject;
  if (record.launch === undefined || record.launch.state === 'starting') return NOTE_LAUNCH;
  if (process.guest === 'silent') {
    return wait(
      AGAIN_MS,
      'MonitorUnresponsive',
      `QEMU (pid ${process.pid}) runs, but its monitor does not answer; it is left alone`,
    );
  }
  const problem = problemOf(subject, record);
  const restart = restartMessage(subject, record);
  if (restart !== undefined) {
    if (problem !== undefined) return problem;
    return decideStop(subject, process, { reason: 'StoppedByRequest', message: restart });
  }
  if (stopUnderWay(subject.seen, process) !== undefined) {
    return act({ type: 'withdraw-stop' }, 'Running', 'the VM is wanted on again before it was off');
  }
  const unfit = decideUnfitGuest(subject, process);
  if (unfit !== undefined) return unfit;
  const growth = decideLiveGrowth(subject, record, process.diskBytes ?? new Map());
  if (growth !== undefined) return growth;
  const join = decideBridges(subject, record);
  if (join !== undefined) return join;
  if (problem !== undefined) return problem;
  const forwards = decideForwards(subject, record);
  if (forwards !== undefined) return forwards;
  const changes = pendingChanges(record.launch.spec, wanted.launch).length;
  return (
    decideDiskNotes(subject, record) ?? {
      kind: 'settled',
      reason: 'Running',
      message:
        changes === 0
          ? 'the guest is running'
          : `the guest is running; ${changes} change(s) wait for a restart (updateStrategy ${vm.spec.updateStrategy.type})`,
    }
  );
}

function restartMessage({ vm, wanted }: Subject, record: OwnershipRecord): string | undefined {
  const pending = record.launch === undefined ? [] : pendingChanges(record.launch.spec, wanted.launch);
  return restartCause(vm.spec, record.nonce, pending);
}

/**
 * Why a running process has to give way to another one now; undefined: it stays.
 * @param answered the restartedAt that the last launch answered
 */
export function restartCause(
  { restartedAt, updateStrategy }: Pick<VirtualMachineSpec, 'restartedAt' | 'updateStrategy'>,
  answered: string | undefined,
  pending: readonly PendingChange[],
): string | undefined {
  if (answered !== restartedAt) return `restarting as requested (restartedAt ${restartedAt ?? 'removed'})`;
  const first = updateStrategy.type === 'Restart' ? pending[0] : undefined;
  return first === undefined ? undefined : `restarting for the change of ${first.path} (updateStrategy Restart)`;
}

/** Whether the spec wants no process. */
export function wantsOff({ powerState }: Pick<VirtualMachineSpec, 'powerState'>): boolean {
  return powerState === 'PoweredOff' || powerState === 'ForcedOff';
}

/** A guest that is there but does not run. */
function decideUnfitGuest(subject: Subject, process: Process): Decision | undefined {
  const never = subject.vm.spec.restartPolicy === 'Never';
  switch (process.guest) {
    case 'running':
    case 'not-asked':
    case 'silent':
      return undefined;
    case 'starting':
      return wait(1000, 'Starting', 'QEMU is about to run the guest');
    case 'paused':
      return act({ type: 'resume' }, 'GuestPaused', 'the guest is paused; resuming it, since powerState wants it on');
    case 'io-error':
      return decideIoError(subject);
    case 'shutdown':
      // It ends by itself. Ending it here would make the guest's own power-off look like ours.
      return wait(1000, 'Stopping', 'the guest has shut down, QEMU is ending');
    case 'guest-panicked':
      if (never)
        return blocked(
          'GuestPanicked',
          'the guest panicked and is paused for inspection; restartPolicy is Never: restart or stop it',
        );
      return decideStop(subject, process, { reason: 'GuestPanicked', message: 'the guest panicked' });
    case 'internal-error':
      if (never)
        return blocked(
          'InternalError',
          'QEMU met an internal error and paused the guest; restartPolicy is Never: restart or stop it',
        );
      return decideStop(subject, process, { reason: 'InternalError', message: 'QEMU met an internal error' });
  }
}

function decideIoError({ wanted, seen }: Subject): Decision {
  for (const { name, path } of wanted.disks) {
    const file = seen.files.get(path);
    if (file?.kind === 'present' && file.freeBytes !== undefined && file.freeBytes < RESUME_FREE_BYTES) {
      return wait(
        AGAIN_MS,
        'IOError',
        `the guest is paused by a disk error: the file system of disk ${name} (${path}) is full; it resumes by itself once there is space`,
      );
    }
  }
  return act({ type: 'resume' }, 'IOError', 'the guest was paused by a disk error; resuming it');
}
