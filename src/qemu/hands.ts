/** What every action needs to be carried out. */
import type { LaunchNetwork } from '../api/effective-spec.ts';
import { tapName } from '../api/networks.ts';
import type { RunResult, Shell } from '../host/shell.ts';
import type { VmAction } from '../reconcile/action.ts';
import { EffectError, type VmContext } from '../reconcile/driver.ts';
import { type OwnershipRecord, recordText } from '../reconcile/record.ts';
import type { Agents } from './agents.ts';
import { type EffectPlace, runEffect, type StandIns, standIns } from './effect-script.ts';
import type { Monitors } from './monitors.ts';
import { WRITE_RECORD } from './scripts.ts';

export type ActionOf<T extends VmAction['type']> = Extract<VmAction, { type: T }>;
export type Executors = { readonly [T in VmAction['type']]: (action: ActionOf<T>, hands: Hands) => Promise<unknown> };

export interface Hands {
  readonly shell: Shell;
  readonly monitors: Monitors;
  readonly agents: Agents;
  /** By folder, stop markers for which there was no room on the host. */
  readonly unwrittenStops: Map<string, string>;
  readonly place: EffectPlace;
  readonly context: VmContext;
  readonly signal: AbortSignal;
}

interface RunMore {
  readonly stand?: StandIns;
  readonly refusal?: string;
}

export function run(hands: Hands, body: string, args: readonly string[], more: RunMore = {}): Promise<RunResult> {
  return runEffect(hands.shell, hands.place, { body, args, stand: standIns(), ...more }, hands.signal);
}

/** With the spec that this is done for: whoever writes the record keeps it. */
export function recordOf({ context }: Hands): OwnershipRecord {
  if (context.record === undefined) throw new EffectError('InternalError', `${context.wanted.folder} has no record`);
  return { ...context.record, spec: context.spec };
}

export function writeRecord(hands: Hands, change: (record: OwnershipRecord) => OwnershipRecord): Promise<RunResult> {
  return run(hands, WRITE_RECORD, [recordText(change(recordOf(hands)))]);
}

export async function monitorOf({ monitors, context }: Hands) {
  if (context.process.kind === 'absent') throw new EffectError('InternalError', 'the VM has no process');
  return monitors.get(context.wanted.folder, context.process.pid);
}

/** The interfaces that sudo makes for these networks, as `tap:bridge` words. */
export function tapWords({ context, place }: Hands, networks: readonly LaunchNetwork[]): string {
  const words = networks.flatMap(({ name, bridge }) =>
    bridge === undefined ? [] : [`${tapName(place.folder, name)}:${bridge}`],
  );
  return context.sudo ? words.join(' ') : '';
}
