/**
 * The annotation that says of a Host that it is shutting down: `<boot id>` or `<boot id>/<RFC 3339>`. It counts for
 * that boot alone, so that one that was left behind holds nothing up.
 */
import type { Host } from './host.ts';
import { ANNOTATIONS } from './meta.ts';

export interface HostShutdown {
  /** When guests that still run are switched off, ms of the host's clock; Infinity where nothing was said. */
  readonly untilMs: number;
}

/** @param untilMs by the host's clock */
export function hostShutdownValue(bootID: string, untilMs: number): string {
  return `${bootID}/${new Date(untilMs).toISOString()}`;
}

/** Undefined where the host is not shutting down in this boot. */
export function hostShutdownOf({ metadata }: Host, bootID: string): HostShutdown | undefined {
  const [of, until = ''] = metadata.annotations?.[ANNOTATIONS.hostShutdown]?.split('/') ?? [];
  if (of === undefined || of !== bootID) return undefined;
  const untilMs = Date.parse(until);
  return { untilMs: Number.isNaN(untilMs) ? Number.POSITIVE_INFINITY : untilMs };
}
