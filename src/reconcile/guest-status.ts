/** What status says of a guest's inside. Pure; the previous status is read where nothing can be told yet, and for calm. */
import { type Condition, type Finding, findCondition } from '../api/conditions.ts';
import type { VirtualMachineStatus } from '../api/virtual-machine.ts';
import type { SeenAgent, SeenProcess } from './observed.ts';

const TYPE = 'GuestAgentConnected';
/** A clock that is nearer to the host's than this is not worth a word, and moves by less unsaid. */
const CLOCK_STEP_SECONDS = 10;

const MUTE = {
  GuestAgentSilent: 'the guest has opened its agent port, and nothing answers there in time',
  GuestAgentInvalid: 'what answers on the agent port of the guest is no guest agent',
} as const;

/** Undefined where no agent was ever seen. */
export function agentFinding(process: SeenProcess, previous: readonly Condition[] | undefined): Finding | undefined {
  const before = findCondition(previous, TYPE);
  const agent = process.kind === 'present' ? process.agent : undefined;
  if (agent?.kind === 'connected')
    return { type: TYPE, status: 'True', reason: 'GuestAgentAnswers', message: 'the guest agent answers' };
  if (agent?.kind === 'mute') return { type: TYPE, status: 'False', reason: agent.reason, message: MUTE[agent.reason] };
  if (before === undefined) return undefined;
  if (process.kind === 'absent') return { type: TYPE, status: 'False', reason: 'Stopped', message: 'no QEMU process' };
  if (agent?.kind === 'closed')
    return { type: TYPE, status: 'False', reason: 'GuestAgentClosed', message: 'no agent runs in the guest' };
  return { type: TYPE, status: before.status, reason: before.reason, message: before.message };
}

/** Where nobody can look. */
export function unseenAgentFinding(previous: readonly Condition[] | undefined, reason: string): Finding | undefined {
  if (findCondition(previous, TYPE) === undefined) return undefined;
  return { type: TYPE, status: 'Unknown', reason, message: 'the host cannot be seen' };
}

type Guest = NonNullable<VirtualMachineStatus['guest']>;

/** What was told of this very process holds while its agent has not been asked anew. */
function keptOf(process: SeenProcess, previous: VirtualMachineStatus | undefined): VirtualMachineStatus | undefined {
  const unasked = process.kind === 'present' && process.agent === undefined && previous?.pid === process.pid;
  return unasked ? previous : undefined;
}

/** By the name of the network, the addresses that are known of a process. */
export function knownAddresses(
  process: SeenProcess,
  previous: VirtualMachineStatus | undefined,
): ReadonlyMap<string, readonly string[]> {
  const earlier = (keptOf(process, previous)?.interfaces ?? []).flatMap(({ name, ips }) =>
    ips === undefined ? [] : [[name, ips] as const],
  );
  return new Map([...earlier, ...((process.kind === 'present' && process.addresses) || [])]);
}

export function guestOf(process: SeenProcess, previous: VirtualMachineStatus | undefined): Guest | undefined {
  const kept = keptOf(process, previous);
  if (kept !== undefined) return kept.guest;
  return process.kind === 'present' ? toldOf(process.agent, previous?.guest) : undefined;
}

function toldOf(agent: SeenAgent | undefined, previous: Guest | undefined): Guest | undefined {
  if (agent?.kind !== 'connected') return undefined;
  const { os, kernel, hostname, clockOffsetMs = 0 } = agent;
  const clockOffsetSeconds = calmOffset(clockOffsetMs / 1000, previous?.clockOffsetSeconds ?? 0);
  const guest: Guest = {
    ...(os === undefined ? {} : { os }),
    ...(kernel === undefined ? {} : { kernel }),
    ...(hostname === undefined ? {} : { hostname }),
    ...(clockOffsetSeconds === 0 ? {} : { clockOffsetSeconds }),
  };
  return Object.keys(guest).length === 0 ? undefined : guest;
}

/** In steps, and the former one while the clock is within a step of it. */
function calmOffset(seconds: number, former: number): number {
  if (Math.abs(seconds - former) < CLOCK_STEP_SECONDS) return former;
  return Math.trunc(seconds / CLOCK_STEP_SECONDS) * CLOCK_STEP_SECONDS;
}
