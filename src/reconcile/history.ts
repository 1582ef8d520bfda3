/** What is worth a line in a VM's history, and what is only shown while it lasts. */
import type { Finding } from '../api/conditions.ts';
import type { VirtualMachineStatus } from '../api/virtual-machine.ts';
import { clockTime } from './decision.ts';
import type { Pass, SeenPass } from './status.ts';

const MAX_HISTORY = 20;

/** The sentence of a pass, with how far long work is, or when what failed is tried again. */
export function sentenceOf({ decision, failure }: SeenPass): string {
  if (failure !== undefined) return `${failure.message}; tried again at ${clockTime(failure.nextAttemptAt)}`;
  const progress = 'progress' in decision ? decision.progress : undefined;
  return progress === undefined ? decision.message : `${decision.message} (${progress})`;
}

/** Progress and the time of the next attempt are shown while they last and make no history. */
export function newsOf(ready: Finding | undefined, pass: Pass): Finding | undefined {
  if (ready === undefined || pass.kind !== 'seen') return ready;
  return { ...ready, message: (pass.failure ?? pass.decision).message };
}

/** A line whenever the reason for the VM's state changes: what happened, why, and what comes next. */
export function historyOf(
  previous: VirtualMachineStatus | undefined,
  ready: Finding | undefined,
  at: string,
): VirtualMachineStatus['history'] {
  const history = previous?.history ?? [];
  if (ready === undefined) return history;
  const message = ready.message.slice(0, 512);
  // A step that is taken again and again (a powerdown that is sent anew) is told once while its reason lasts.
  const since = history.findLastIndex(({ reason }) => reason !== ready.reason) + 1;
  if (history.slice(since).some((line) => line.message === message)) return history;
  return [...history, { at, reason: ready.reason, message }].slice(-MAX_HISTORY);
}
