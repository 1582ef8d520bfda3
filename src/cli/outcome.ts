/** What a status says of a wait: it is over, it failed, or it goes on and why. Pure. */
import { findCondition, isTrue } from '../api/conditions.ts';
import type { AnyObject } from '../api/kinds.ts';

export interface Outcome {
  readonly kind: 'settled' | 'stalled' | 'waiting';
  readonly reason: string;
  readonly message: string;
}

/** Whether the object is as its spec wants, by a look that knew this very spec. */
export function outcomeOf(object: AnyObject): Outcome {
  const { status, metadata } = object;
  if (status === undefined || (status.observedGeneration ?? 0) < metadata.generation) {
    return { kind: 'waiting', reason: 'Pending', message: 'waiting for the controller to look' };
  }
  const { conditions } = status;
  const ready = findCondition(conditions, 'Ready');
  const { reason = 'Pending', message = '' } = ready ?? {};
  if (ready?.status === 'True') return { kind: 'settled', reason, message };
  const helpless = isTrue(conditions, 'Stalled') || isTrue(conditions, 'ReconcilePaused');
  return { kind: helpless ? 'stalled' : 'waiting', reason, message };
}

/** One line of progress. The phase leads where it says more than the reason. */
export function progressLine(name: string, object: AnyObject, { reason, message }: Outcome): string {
  const phase = object.kind === 'VirtualMachine' ? object.status?.phase : undefined;
  const state = phase === undefined || phase === reason ? reason : `${phase} (${reason})`;
  return `${name}: ${state}${message === '' ? '' : `: ${message}`}`;
}
