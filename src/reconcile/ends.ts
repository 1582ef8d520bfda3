/** How a QEMU process ended, and when the next one may start. From evidence on the host, never guessed. */
import type { ExitReason } from '../api/conditions.ts';
import { launchDigest } from '../api/effective-spec.ts';
import { oneLine } from '../api/errors.ts';
import type { VirtualMachineSpec } from '../api/virtual-machine.ts';
import type { Decision, SeenVm, Subject } from './decision.ts';
import { act, clockTime, wait } from './decision.ts';
import type { LaunchRecord, OwnershipRecord } from './record.ts';

/** Running this long ends a series of crashes. */
const CALM_MS = 600_000;
/** A guest that powers off within this time of a powerdown does so because of it. */
const FOLLOWS_MS = 300_000;
const MAX_BACKOFF_MS = 300_000;

const CRASHES: ReadonlySet<ExitReason> = new Set([
  'Crashed',
  'Signaled',
  'GuestPanicked',
  'InternalError',
  'StoppedExternally',
]);

/** Whether a word of a status is one of these. */
export function isExitReason(word: string | undefined): word is ExitReason {
  return word !== undefined && word in END_WORDS;
}

export function isCrash(reason: ExitReason): boolean {
  return CRASHES.has(reason);
}

interface End {
  readonly reason: ExitReason;
  readonly message: string;
}

/** The first evidence that matches; `docs/concepts/ends.md` has the table. */
export function classifyEnd(launch: LaunchRecord, seen: SeenVm): End {
  const { folder } = seen;
  const stop = folder?.stop;
  const aboutThisProcess =
    stop !== undefined &&
    (launch.pid === undefined || (stop.pid === launch.pid && stop.startTicks === launch.startTicks)) &&
    // A guest may still follow a powerdown that was withdrawn meanwhile; long after, its end is its own.
    (stop.withdrawn !== true || seen.at - (stop.powerdownAt ?? stop.at) < FOLLOWS_MS);
  if (aboutThisProcess) return { reason: stop.reason, message: STOP_MESSAGES[stop.reason] };
  const log = lastLine(folder?.logTail ?? '');
  if (folder?.process.kind === 'absent' && folder.process.pidfileLeft) {
    return launch.bootID === seen.bootID
      ? {
          reason: 'Crashed',
          message: `QEMU ended without cleaning up${log === '' ? '; its log is empty' : `; its log ends with: ${log}`}`,
        }
      : { reason: 'HostRebooted', message: 'the host was rebooted while the VM ran' };
  }
  if (/terminating on signal/.test(log)) return { reason: 'Signaled', message: `QEMU was ended from outside: ${log}` };
  if (seen.heard === 'StoppedExternally') {
    return { reason: 'StoppedExternally', message: 'somebody ended QEMU through its monitor, not this controller' };
  }
  return {
    reason: 'GuestPoweredOff',
    message:
      seen.heard === 'GuestPoweredOff'
        ? 'the guest powered itself off'
        : 'the guest powered itself off (or a monitor command that nobody heard ended QEMU)',
  };
}

const STOP_MESSAGES: Readonly<Record<'StoppedByRequest' | 'HostShutdown' | 'GuestPanicked' | 'InternalError', string>> =
  {
    StoppedByRequest: 'stopped as requested',
    HostShutdown: 'stopped because the host was shutting down',
    GuestPanicked: 'the guest kernel panicked; the paused VM was ended to start it again',
    InternalError: 'QEMU met an internal error; the VM was ended to start it again',
  };

function lastLine(log: string): string {
  return oneLine(log.trimEnd().split('\n').at(-1) ?? '', 300);
}

/** Notes the end of a launched process that is gone. */
export function decideEnd(subject: Subject, record: OwnershipRecord, launch: LaunchRecord): Decision {
  const { vm, seen } = subject;
  const { reason, message } = classifyEnd(launch, seen);
  const counts = isCrash(reason) || (vm.spec.restartPolicy === 'Always' && reason === 'GuestPoweredOff');
  const before = record.end;
  const sameSeries =
    before !== undefined && before.digest === launchDigest(launch.spec) && seen.at - launch.at < CALM_MS;
  const crashes = counts ? (sameSeries ? before.crashes : 0) + 1 : 0;
  return act({ type: 'note-end', reason, message, crashes }, 'Stopped', message);
}

/**
 * Whether a VM that should be on and has no process starts now: undefined means now.
 * Not called for a process that is still there.
 */
export function decideRestart(subject: Subject, record: OwnershipRecord): Decision | 'stays-off' | undefined {
  const { vm, seen, wanted } = subject;
  const { end } = record;
  if (end === undefined || record.off === true || record.nonce !== vm.spec.restartedAt) return undefined;
  if (wasAskedFor(end.reason)) return undefined;
  if (staysOff(vm.spec.restartPolicy, end.reason)) return 'stays-off';
  if (end.digest !== launchDigest(wanted.launch)) return undefined;
  const delay = backoffMs(end.crashes, vm.metadata.uid);
  const left = end.at + delay - seen.at;
  // A clock that was set back must not stretch the wait.
  if (left <= 0 || seen.at < end.at) return undefined;
  return wait(
    left,
    'CrashLoopBackOff',
    `${END_WORDS[end.reason]} ${end.crashes} times in a row; starts again at ${clockTime(seen.at + left)}`,
  );
}

/** Whether the policy does not answer such an end: only a person starts the VM again. */
export function staysOff(policy: VirtualMachineSpec['restartPolicy'], end: ExitReason): boolean {
  if (wasAskedFor(end)) return false;
  return policy === 'Never' || (policy === 'OnFailure' && end === 'GuestPoweredOff');
}

function wasAskedFor(end: ExitReason): boolean {
  return end === 'StoppedByRequest' || end === 'HostShutdown';
}

const END_WORDS: Readonly<Record<ExitReason, string>> = {
  StoppedByRequest: 'stopped',
  HostShutdown: 'stopped by host shutdown',
  HostRebooted: 'ended by a host reboot',
  Crashed: 'QEMU crashed',
  Signaled: 'QEMU was killed',
  GuestPanicked: 'the guest panicked',
  InternalError: 'QEMU met an internal error',
  StoppedExternally: 'QEMU was ended from outside',
  GuestPoweredOff: 'the guest powered off',
};

/** 10 s x n², n = crashes before this one, at most 300 s; the spread keeps VMs of one event apart. */
export function backoffMs(crashes: number, uid: string): number {
  const before = Math.max(0, crashes - 1);
  const base = Math.min(10_000 * before * before, MAX_BACKOFF_MS);
  let spread = 0;
  for (const character of uid) spread = (spread * 31 + character.charCodeAt(0)) % 1000;
  return Math.min(MAX_BACKOFF_MS, Math.round(base * (1 + spread / 10_000)));
}
