/** How a process is ended: asked, then told, then made to. Each step is noted on the host before it is taken. */
import { hostShutdownOf } from '../api/host-shutdown.ts';
import type { VmAction } from './action.ts';
import { act, clockTime, type Decision, type SeenVm, type Subject, wait } from './decision.ts';
import type { SeenProcess } from './observed.ts';
import type { StopMarker } from './record.ts';

/** A powerdown during early boot is lost, so it is sent again. */
const RESEND_MS = 5_000;
const RESEND_IGNORED_MS = 30_000;
/** Time for each harder step to take effect. */
const STEP_MS = 5_000;

type Process = Extract<SeenProcess, { kind: 'present' }>;
type StopAction = Extract<VmAction, { type: 'stop' }>;

/** The marker of a stop of this very process that is still wanted. */
export function stopUnderWay({ folder }: SeenVm, process: Process): StopMarker | undefined {
  const marker = folder?.stop;
  const about = marker?.pid === process.pid && marker.startTicks === process.startTicks;
  return about && marker.withdrawn !== true ? marker : undefined;
}

/** One step towards no process. */
export function decideStop(
  subject: Subject,
  process: Process,
  options: { readonly reason: StopMarker['reason']; readonly message: string },
): Decision {
  const { vm, seen } = subject;
  const { reason, message } = options;
  const step = (name: 'quit' | 'terminate' | 'kill', detail = '') =>
    act({ type: 'stop', step: name, reason }, 'Stopping', `${message}${detail}`);
  const marker = stopUnderWay(seen, process);
  const asks = reason === 'StoppedByRequest' || reason === 'HostShutdown';
  const mode = vm.spec.powerState === 'ForcedOff' || !asks ? 'Hard' : vm.spec.powerOff.mode;
  if (mode !== 'Hard') {
    const soft = decideSoftStop(subject, process, marker);
    if (soft !== undefined) {
      const words = `${message}: ${soft.words}`;
      if (soft.waitMs > 0) return wait(soft.waitMs, soft.reason, words);
      const afresh: Partial<StopAction> = marker !== undefined && seen.at < marker.at ? { afresh: true } : {};
      return act(
        { type: 'stop', step: 'powerdown', reason, ...afresh, ...byAgent(process, marker) },
        soft.reason,
        words,
      );
    }
  }
  if (marker?.terminateAt !== undefined)
    return later(seen.at, marker.terminateAt, message) ?? step('kill', ': SIGKILL, since SIGTERM did not end QEMU');
  if (marker?.quitAt !== undefined)
    return later(seen.at, marker.quitAt, message) ?? step('terminate', ': SIGTERM, since QEMU did not quit');
  if (process.guest === 'silent') return step('terminate', ': SIGTERM, since the monitor does not answer');
  return step('quit', marker === undefined ? '' : ': the grace period is over, QEMU quits');
}

/** An agent is plainer than a button, which a desktop may take for sleep; where it leads nowhere, both are tried. */
function byAgent({ agent }: Process, marker: StopMarker | undefined): Partial<StopAction> {
  if (agent?.kind !== 'connected') return {};
  return { agent: marker?.powerdownAt === undefined ? 'first' : 'too' };
}

function later(at: number, since: number, message: string): Decision | undefined {
  // A clock that was set back counts as time passed: waiting longer helps nobody.
  const left = at < since ? 0 : since + STEP_MS - at;
  return left > 0 ? wait(left, 'Stopping', `${message}: QEMU is ending`) : undefined;
}

/** The guest is asked now, or again after a while; said in the same words, for whoever follows them. */
interface SoftStop {
  /** 0: now. */
  readonly waitMs: number;
  readonly reason: 'Stopping' | 'GuestIgnoresPowerdown';
  readonly words: string;
}

const FIRST_ASKED: SoftStop = { waitMs: 0, reason: 'Stopping', words: 'asking the guest to power down' };

/** undefined: the grace period is over, or the guest cannot react; go on to quit. */
function decideSoftStop(
  { vm, host, seen }: Subject,
  process: Process,
  marker: StopMarker | undefined,
): SoftStop | undefined {
  const { mode, gracePeriodSeconds } = vm.spec.powerOff;
  const reacts =
    process.guest === 'running' ||
    process.guest === 'starting' ||
    process.guest === 'silent' ||
    process.guest === 'not-asked';
  if (!reacts && mode === 'TrySoft') return undefined;
  if (marker?.quitAt !== undefined || marker?.terminateAt !== undefined) return undefined;
  const { untilMs = Number.POSITIVE_INFINITY } = hostShutdownOf(host, seen.bootID) ?? {};
  if (seen.at >= untilMs) return undefined;
  if (marker?.powerdownAt === undefined) return FIRST_ASKED;
  // A clock that was set back says nothing of the time that passed; the guest is not cut short for it.
  if (seen.at < marker.at) return FIRST_ASKED;
  const left = Math.min(marker.at + gracePeriodSeconds * 1000, untilMs) - seen.at;
  const sinceAsked = Math.max(0, seen.at - marker.powerdownAt);
  if (left > 0) {
    const end = mode === 'Soft' && untilMs > seen.at + left ? 'waits for it' : `quits at ${clockTime(seen.at + left)}`;
    return {
      waitMs: Math.max(0, Math.min(left, RESEND_MS - sinceAsked)),
      reason: 'Stopping',
      words: `the guest is powering down, QEMU ${end}`,
    };
  }
  if (mode === 'TrySoft') return undefined;
  return {
    waitMs: Math.max(0, Math.min(RESEND_IGNORED_MS - sinceAsked, untilMs - seen.at)),
    reason: 'GuestIgnoresPowerdown',
    words: `the guest has ignored the power button since ${clockTime(marker.at)} and powerOff.mode is Soft; powerState: ForcedOff ends it`,
  };
}
