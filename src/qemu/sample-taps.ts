/**
 * What a guest on a bridge received and sent, as the host's end of its cable counts it: what the host sends into that
 * interface the guest receives. Pure.
 */
import type { LaunchNetwork } from '../api/effective-spec.ts';
import { tapName } from '../api/networks.ts';
import type { Sample } from '../api/virtual-machine-monitor.ts';

/** An interface of the host that a process holds open, with its own view of what went where. */
export interface Tap {
  /** Absent where it is joined to none. */
  readonly bridge?: string;
  readonly receivedBytes: number;
  readonly sentBytes: number;
  readonly receivedPackets: number;
  readonly sentPackets: number;
}

/** By name of the interface. */
export type Taps = ReadonlyMap<string, Tap>;

export interface TapFigures {
  readonly figures: Omit<NonNullable<Sample['networks']>[number], 'name'>;
  readonly lacks?: 'FirstSample' | 'CounterReset';
}

/** As tapName makes them. */
const NAMED_BY_US = /^qo[0-9a-f]{11}$/;

/**
 * By network, its interface. One that QEMU was told to make is known by its name; one that the helper made is known
 * where it alone of all leads to the bridge of one network alone.
 */
export function tapsOf(
  networks: readonly Pick<LaunchNetwork, 'name' | 'bridge'>[],
  folder: string,
  taps: Taps,
): ReadonlyMap<string, Tap> {
  const unnamed = networks.filter(({ name }) => !taps.has(tapName(folder, name)));
  const found = networks.flatMap(({ name, bridge }): [string, Tap][] => {
    if (bridge === undefined) return [];
    const own = taps.get(tapName(folder, name));
    if (own !== undefined) return [[name, own]];
    const [only, ...more] = [...taps].filter(([tap, of]) => !NAMED_BY_US.test(tap) && of.bridge === bridge);
    const isAlone = more.length === 0 && unnamed.filter((other) => other.bridge === bridge).length === 1;
    return only !== undefined && isAlone ? [[name, only[1]]] : [];
  });
  return new Map(found);
}

/** @param span the earlier counters, and the time since then, ms; absent where there are no rates to be had */
export function tapFigures(
  to: Tap,
  span: { readonly from: Tap | undefined; readonly elapsedMs: number } | undefined,
): TapFigures {
  const totals = { receiveBytes: to.sentBytes, transmitBytes: to.receivedBytes };
  if (span === undefined) return { figures: totals };
  const { from, elapsedMs } = span;
  if (from === undefined) return { figures: totals, lacks: 'FirstSample' };
  const keys = ['receivedBytes', 'sentBytes', 'receivedPackets', 'sentPackets'] as const;
  if (keys.some((key) => to[key] < from[key])) return { figures: totals, lacks: 'CounterReset' };
  const perSecond = (key: (typeof keys)[number]) => Math.round(((to[key] - from[key]) * 1000) / elapsedMs);
  return {
    figures: {
      receiveBytesPerSecond: perSecond('sentBytes'),
      transmitBytesPerSecond: perSecond('receivedBytes'),
      receivePacketsPerSecond: perSecond('sentPackets'),
      transmitPacketsPerSecond: perSecond('receivedPackets'),
      ...totals,
    },
  };
}
