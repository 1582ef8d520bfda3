/** Bytes of a guest's interface, from what its agent counted at two looks. Pure. */
import type { Sample } from '../api/virtual-machine-monitor.ts';
import type { GuestInterface } from './agent-answers.ts';
import type { InterfaceReading } from './agents.ts';

/** As VmLook has it: absent where no agent is connected, `late` where it did not answer at once. */
type Reading = InterfaceReading | 'late' | undefined;

export interface ByteFigures {
  readonly figures: Pick<
    NonNullable<Sample['networks']>[number],
    'receiveBytes' | 'transmitBytes' | 'receiveBytesPerSecond' | 'transmitBytesPerSecond'
  >;
  readonly lacks?: {
    readonly figure: 'bytes' | 'byteRates';
    readonly reason: 'NoByteCounters' | 'GuestAgentSilent' | 'GuestDoesNotReport' | 'FirstSample' | 'CounterReset';
  };
}

/** Two readings nearer than this give no rates; `rates` tells why. */
const SHORTEST_MS = 200;

/** @param before the earlier look of the series; where there is none, `rates` tells why */
export function byteFigures(
  mac: string,
  to: Reading,
  before: { readonly interfaces?: Reading } | undefined,
): ByteFigures {
  if (to === undefined) return { figures: {}, lacks: { figure: 'bytes', reason: 'NoByteCounters' } };
  if (to === 'late') return { figures: {}, lacks: { figure: 'bytes', reason: 'GuestAgentSilent' } };
  const now = countersOf(mac, to);
  if (now === undefined) return { figures: {}, lacks: { figure: 'bytes', reason: 'GuestDoesNotReport' } };
  if (before === undefined) return { figures: now };
  const from = before.interfaces;
  const earlier = from === undefined || from === 'late' ? undefined : countersOf(mac, from);
  if (from === undefined || from === 'late' || earlier === undefined) {
    const reason = from === 'late' ? 'GuestAgentSilent' : 'FirstSample';
    return { figures: now, lacks: { figure: 'byteRates', reason } };
  }
  const elapsedMs = to.atMs - from.atMs;
  if (elapsedMs < SHORTEST_MS) return { figures: now };
  if (now.receiveBytes < earlier.receiveBytes || now.transmitBytes < earlier.transmitBytes)
    return { figures: now, lacks: { figure: 'byteRates', reason: 'CounterReset' } };
  const perSecond = (bytes: number) => Math.round((bytes * 1000) / elapsedMs);
  return {
    figures: {
      receiveBytesPerSecond: perSecond(now.receiveBytes - earlier.receiveBytes),
      transmitBytesPerSecond: perSecond(now.transmitBytes - earlier.transmitBytes),
      ...now,
    },
  };
}

function countersOf(
  mac: string,
  { interfaces }: InterfaceReading,
): Required<Pick<GuestInterface, 'receiveBytes' | 'transmitBytes'>> | undefined {
  const { receiveBytes, transmitBytes } = interfaces.find((one) => one.mac === mac.toLowerCase()) ?? {};
  return receiveBytes === undefined || transmitBytes === undefined ? undefined : { receiveBytes, transmitBytes };
}
