/** What a change of an object will do, before it is made: the nouns that `plan` and the tools' dry_run share. */
import type { Kind, ObjectRef } from './meta.ts';

/**
 * create, delete: the object or a part of it is made or taken away. live: in force without another QEMU process.
 * restart: needs another QEMU process. start, stop: of the VM. stalls: the store takes it, and the VM then waits for
 * a person. refused: the store takes none of it.
 */
export type Effect = 'create' | 'delete' | 'live' | 'restart' | 'start' | 'stop' | 'stalls' | 'refused';

/** Why a change has its effect. The sentences, one each, stand in messages/. */
export const WHYS = [
  'new-object',
  'object-goes',
  'disk-goes',
  'disk-stays',
  'host-assigned',
  'restarts-now',
  'waits-for-restart',
  'process-has-it',
  'no-process',
  'no-other-process',
  'secrets-compared',
  'disk-grows-live',
  'disk-grows',
  'disk-is-large-enough',
  'disk-not-made-yet',
  'raw-by-hand',
  'cannot-shrink',
  'starts',
  'on-already',
  'stops',
  'off-already',
  'restart-asked',
  'next-end',
  'next-stop',
  'next-change',
  'at-deletion',
  'metadata',
  'next-look',
  'not-admitted',
] as const;
export type Why = (typeof WHYS)[number];

export interface ForeseenChange {
  /** As in `spec.disks[root].size`. */
  readonly path: string;
  /** One bounded line; absent where there was nothing. */
  readonly from?: string | undefined;
  /** One bounded line; absent where nothing will be. */
  readonly to?: string | undefined;
  readonly effect: Effect;
  readonly why: Why;
  /** What the sentence names: a command to run, a size, the store's own words. */
  readonly detail?: string | undefined;
}

/** What a plan should be read with. */
export type Caveat = 'paused' | 'stalled' | 'not-seen-since-last-change' | 'host-unreachable' | 'host-unknown';

/** What becomes of the VM's QEMU process. `none`: there is none, and none is started. */
export type ProcessFate = 'none' | 'kept' | 'started' | 'stopped' | 'restarted';

export interface Foreseen {
  readonly kind: Kind;
  readonly ref: ObjectRef;
  readonly outcome: 'create' | 'change' | 'none' | 'delete' | 'refused';
  readonly changes: readonly ForeseenChange[];
  /** Of VirtualMachines alone. */
  readonly process?: ProcessFate | undefined;
  /** Fields that wait for a restart when this is done, earlier changes among them. */
  readonly waiting: readonly string[];
  readonly caveats: readonly Caveat[];
}
