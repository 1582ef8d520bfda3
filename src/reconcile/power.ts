/** On and off: how a process is ended, kept and started. */

import { pendingChanges } from '../api/effective-spec.ts';
import type { Architecture } from '../api/virtual-machine.ts';
import type { Decision, Subject } from './decision.ts';
import { act, blocked, clockTime, wait } from './decision.ts';
import { decideEnd, decideRestart } from './ends.ts';
import type { HostFacts, SeenProcess } from './observed.ts';
import type { LaunchRecord, OwnershipRecord, StopMarker } from './record.ts';
import { decideDiskNotes, decideDisks, decideLiveGrowth, storageProblem } from './storage.ts';

/** A powerdown during early boot is lost, so it is sent again. */
const RESEND_MS = 5_000;
const RESEND_IGNORED_MS = 30_000;
/** Time for each harder step to take effect. */
const STEP_MS = 5_000;
/** A disk on a file system with less room than this would only fail again. */
const RESUME_FREE_BYTES = 64 * 1024 * 1024;

type Process = Extract<SeenProcess, { kind: 'present' }>;

/** One step towards no process. */
export function decideStop(
  subject: Subject,
  process: Process,
  options: { readonly reason: StopMarker['reason']; readonly message: string },
): Decision {
  const { vm, seen } = subject;
  const { reason, message } = options;
  const step = (name: 'powerdown' | 'quit' | 'terminate' | 'kill', detail = '') =>
    act({ type: 'stop', step: name, reason }, 'Stopping', `${message}${detail}`);
  const marker =
    seen.folder?.stop?.pid === process.pid && seen.folder.stop.startTicks === process.startTicks
      ? seen.folder.stop
      : undefined;
  const mode = vm.spec.powerState === 'ForcedOff' || reason !== 'StoppedByRequest' ? 'Hard' : vm.spec.powerOff.mode;
  if (mode !== 'Hard') {
    const soft = decideSoftStop(subject, process, marker, message);
    if (soft !== undefined) return soft === 'powerdown' ? step('powerdown', ': asking the guest to power down') : soft;
  }
  if (marker?.terminateAt !== undefined)
    return later(seen.at, marker.terminateAt, message) ?? step('kill', ': SIGKILL, since SIGTERM did not end QEMU');
  if (marker?.quitAt !== undefined)
    return later(seen.at, marker.quitAt, message) ?? step('terminate', ': SIGTERM, since QEMU did not quit');
  if (process.guest === 'silent') return step('terminate', ': SIGTERM, since the monitor does not answer');
  return step('quit', marker === undefined ? '' : ': the grace period is over, QEMU quits');
}

function later(at: number, since: number, message: string): Decision | undefined {
  // A clock that was set back counts as time passed: waiting longer helps nobody.
  const left = at < since ? 0 : since + STEP_MS - at;
  return left > 0 ? wait(left, 'Stopping', `${message}: QEMU is ending`) : undefined;
}

/** undefined: the grace period is over, or the guest cannot react; go on to quit. */
function decideSoftStop(
  { vm, seen }: Subject,
  process: Process,
  marker: StopMarker | undefined,
  message: string,
): Decision | 'powerdown' | undefined {
  const { mode, gracePeriodSeconds } = vm.spec.powerOff;
  const reacts =
    process.guest === 'running' ||
    process.guest === 'starting' ||
    process.guest === 'silent' ||
    process.guest === 'not-asked';
  if (!reacts && mode === 'TrySoft') return undefined;
  if (marker?.quitAt !== undefined || marker?.terminateAt !== undefined) return undefined;
  if (marker?.powerdownAt === undefined) return 'powerdown';
  const elapsed = Math.max(0, seen.at - marker.at);
  const left = gracePeriodSeconds * 1000 - elapsed;
  const sinceAsked = Math.max(0, seen.at - marker.powerdownAt);
  if (left > 0) {
    if (sinceAsked >= RESEND_MS) return 'powerdown';
    return wait(
      Math.min(left, RESEND_MS - sinceAsked),
      'Stopping',
      `${message}: the guest is powering down, QEMU ${mode === 'Soft' ? 'waits for it' : `quits at ${clockTime(seen.at + left)}`}`,
    );
  }
  if (mode === 'TrySoft') return undefined;
  if (sinceAsked >= RESEND_IGNORED_MS) return 'powerdown';
  return wait(
    RESEND_IGNORED_MS - sinceAsked,
    'GuestIgnoresPowerdown',
    `the guest has ignored the power button since ${clockTime(marker.at)} and powerOff.mode is Soft; powerState: ForcedOff ends it`,
  );
}

/** The VM should be off. */
export function decideOff(subject: Subject, record: OwnershipRecord, process: SeenProcess): Decision {
  if (process.kind === 'present') {
    return decideStop(subject, process, {
      reason: 'StoppedByRequest',
      message: `powerState is ${subject.vm.spec.powerState}`,
    });
  }
  if (record.launch !== undefined) return decideGone(subject, record, record.launch);
  const problem = storageProblem(subject, record) ?? toolProblem(subject);
  if (problem !== undefined) return problem;
  const disks = decideDisks(subject, record);
  if (disks !== undefined) return disks;
  const ended = record.end !== undefined && record.end.reason !== 'StoppedByRequest';
  if ((ended || record.nonce !== subject.vm.spec.restartedAt) && record.off !== true) {
    return act({ type: 'note-off' }, 'Stopped', 'noting that the VM is switched off');
  }
  return { kind: 'settled', reason: 'Stopped', message: 'the VM is stopped, as powerState wants' };
}

/** A launched process is gone: its end is noted before anything else. */
function decideGone(subject: Subject, record: OwnershipRecord, launch: LaunchRecord): Decision {
  if (launch.state === 'running') return decideEnd(subject, record, launch);
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

/** The VM should be on. */
export function decideOn(subject: Subject, record: OwnershipRecord, process: SeenProcess): Decision {
  if (process.kind === 'present') return decideRunning(subject, record, process);
  if (record.launch !== undefined) return decideGone(subject, record, record.launch);
  const gate = decideRestart(subject, record);
  if (gate === 'stays-off') return staysOff(record);
  const problem = storageProblem(subject, record) ?? toolProblem(subject) ?? qemuProblem(subject);
  if (problem !== undefined) return problem;
  return decideDisks(subject, record) ?? gate ?? decideLaunch(subject, record);
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
      spec: wanted.launch,
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

/** KVM runs guests of the host's own architecture only. */
export function acceleratorOf({ wanted, seen }: Subject): {
  readonly accelerator: 'KVM' | 'TCG';
  readonly reason: string;
} {
  const { accelerator, architecture } = wanted.launch;
  if (accelerator === 'TCG') return { accelerator: 'TCG', reason: 'the spec wants TCG' };
  const native = isNative(seen.facts, architecture);
  if (native && seen.facts.kvm.works) return { accelerator: 'KVM', reason: seen.facts.kvm.reason };
  if (accelerator === 'KVM') return { accelerator: 'KVM', reason: 'the spec wants KVM' };
  return {
    accelerator: 'TCG',
    reason: native
      ? seen.facts.kvm.reason
      : `${architecture} guests cannot use KVM on a ${seen.facts.architecture} host`,
  };
}

function isNative(facts: HostFacts, architecture: Architecture): boolean {
  return facts.architecture === (architecture === 'arm64' ? 'aarch64' : 'x86_64');
}

function toolProblem({ seen }: Subject): Decision | undefined {
  return seen.facts.qemuImg
    ? undefined
    : blocked('QEMUNotInstalled', 'qemu-img: command not found; install it: apt-get install qemu-utils');
}

/** Debian's names; docs/operations/hosts.md has those of other systems. */
const PACKAGES: Readonly<Record<Architecture, string>> = { x86_64: 'qemu-system-x86', arm64: 'qemu-system-arm' };
const COMMANDS: Readonly<Record<Architecture, string>> = { x86_64: 'qemu-system-x86_64', arm64: 'qemu-system-aarch64' };

export function qemuProblem(subject: Subject): Decision | undefined {
  const { architecture, firmware, accelerator } = subject.wanted.launch;
  const { facts } = subject.seen;
  const qemu = facts.qemu[architecture];
  if (qemu === undefined) {
    return blocked(
      'QEMUNotInstalled',
      `${COMMANDS[architecture]}: command not found; install it: apt-get install ${PACKAGES[architecture]}`,
    );
  }
  if (Number.parseInt(qemu.version, 10) < 6)
    return blocked('QEMUTooOld', `${qemu.command} is version ${qemu.version}; 6.0 or later is needed`);
  if (firmware === 'UEFI' && qemu.uefi === undefined) {
    return blocked(
      'FirmwareNotFound',
      `no UEFI firmware for ${architecture}; install it: apt-get install ${architecture === 'arm64' ? 'qemu-efi-aarch64' : 'ovmf'}`,
    );
  }
  if (accelerator === 'KVM' && !(isNative(facts, architecture) && facts.kvm.works)) {
    const why = isNative(facts, architecture) ? facts.kvm.reason : `the host is ${facts.architecture}`;
    return blocked('KVMUnavailable', `accelerator is KVM, which does not work here: ${why}; use Auto or TCG`);
  }
  return undefined;
}

function decideRunning(subject: Subject, record: OwnershipRecord, process: Process): Decision {
  const { vm, wanted } = subject;
  if (record.launch === undefined || record.launch.state === 'starting') {
    return act({ type: 'note-launch' }, 'Starting', 'QEMU is up; noting it in the record');
  }
  if (process.guest === 'silent') {
    return wait(
      STEP_MS,
      'MonitorUnresponsive',
      `QEMU (pid ${process.pid}) runs, but its monitor does not answer; it is left alone`,
    );
  }
  const problem = storageProblem(subject, record) ?? toolProblem(subject) ?? qemuProblem(subject);
  const restart = restartMessage(subject, record);
  if (restart !== undefined) {
    if (problem !== undefined) return problem;
    return decideStop(subject, process, { reason: 'StoppedByRequest', message: restart });
  }
  const unfit = decideUnfitGuest(subject, process);
  if (unfit !== undefined) return unfit;
  const growth = decideLiveGrowth(subject, record, process.diskBytes ?? new Map());
  if (growth !== undefined) return growth;
  if (problem !== undefined) return problem;
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
  if (record.nonce !== vm.spec.restartedAt)
    return `restarting as requested (restartedAt ${vm.spec.restartedAt ?? 'removed'})`;
  if (vm.spec.updateStrategy.type !== 'Restart' || record.launch === undefined) return undefined;
  const first = pendingChanges(record.launch.spec, wanted.launch)[0];
  return first === undefined ? undefined : `restarting for the change of ${first.path} (updateStrategy Restart)`;
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
      return decideStop(subject, process, {
        reason: 'StoppedByRequest',
        message: 'the guest has shut down but QEMU is still there',
      });
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
        STEP_MS,
        'IOError',
        `the guest is paused by a disk error: the file system of disk ${name} (${path}) is full; it resumes by itself once there is space`,
      );
    }
  }
  return act({ type: 'resume' }, 'IOError', 'the guest was paused by a disk error; resuming it');
}
