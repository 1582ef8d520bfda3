/** One word for people. Nothing reads it back. */
import type { Phase, VirtualMachine } from '../api/virtual-machine.ts';
import type { Decision } from './decision.ts';
import type { SeenProcess } from './observed.ts';
import type { SeenPass } from './status.ts';

/** @param process as it was seen */
export function phaseOf(
  vm: VirtualMachine,
  { decision, failure }: Pick<SeenPass, 'decision' | 'failure'>,
  process: SeenProcess,
): Phase {
  if (vm.metadata.deletionTimestamp !== undefined) return 'Terminating';
  if (process.kind === 'present') return presentPhase(decision, process);
  if (failure !== undefined) return 'Failed';
  switch (decision.reason) {
    case 'Provisioning':
    case 'ImageDownloading':
      return 'Provisioning';
    case 'Starting':
      return 'Starting';
    case 'CrashLoopBackOff':
      return 'CrashLoopBackOff';
    case 'Stopped':
    case 'GuestPoweredOff':
    case 'PausedByOperator':
    case 'HostShutdown':
      return 'Stopped';
    default:
      return decision.kind === 'blocked' ? 'Failed' : 'Pending';
  }
}

function presentPhase(decision: Decision, process: Extract<SeenProcess, { kind: 'present' }>): Phase {
  if (decision.reason === 'Stopping' || decision.reason === 'GuestIgnoresPowerdown') return 'Stopping';
  switch (process.guest) {
    case 'running':
      return 'Running';
    case 'starting':
      return 'Starting';
    case 'silent':
    case 'not-asked':
      return 'Unknown';
    case 'shutdown':
      return 'Stopping';
    case 'guest-panicked':
    case 'internal-error':
      return 'Failed';
    case 'paused':
    case 'io-error':
      return 'Paused';
  }
}
