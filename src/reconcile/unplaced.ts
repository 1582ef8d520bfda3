/** VMs that name no Host, or one that does not exist: there is no loop to answer for them. */
import { nearNames } from '../api/errors.ts';
import { ANNOTATIONS, FINALIZERS } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Store } from '../store/store.ts';
import { isOrphaned, isPaused } from './decide.ts';
import { statusOf } from './status.ts';
import { writeStatus } from './status-writer.ts';
import { applyStoreAction } from './store-actions.ts';

const MOST_NAMES = 10;

/** Says so in its status, and lets one go that nothing on a host holds. @param now milliseconds since the epoch */
export async function answerUnplaced(store: Store, vm: VirtualMachine, now: number): Promise<void> {
  // Its Host is there, and its loop about to be: that one answers.
  if (await isPlaced(store, vm)) return;
  const { metadata } = vm;
  const deleting = metadata.deletionTimestamp !== undefined;
  const ran = metadata.annotations?.[ANNOTATIONS.provisioned] !== undefined;
  const isFree = !ran || isOrphaned(metadata);
  if (deleting && isFree && !isPaused(metadata) && metadata.finalizers?.includes(FINALIZERS.hostCleanup) === true) {
    await applyStoreAction(store, { type: 'release' }, vm, metadata.name);
    return;
  }
  const why = await whyUnplaced(store, vm, deleting);
  await writeStatus(store, 'VirtualMachine', vm, (newest) =>
    statusOf(newest, { kind: 'unseen', at: now, ...why, hostKnown: false }),
  );
}

async function isPlaced(store: Store, { spec: { hostName } }: VirtualMachine): Promise<boolean> {
  return hostName !== undefined && (await store.get('Host', { name: hostName })) !== undefined;
}

async function whyUnplaced(
  store: Store,
  { spec: { hostName } }: VirtualMachine,
  deleting: boolean,
): Promise<{ reason: string; message: string }> {
  const hint = deleting ? `; its files are left where they are if you set the annotation ${ANNOTATIONS.orphan}` : '';
  const { items } = await store.list('Host');
  const names = items.map(({ metadata }) => metadata.name);
  const known = names.length === 0 ? '' : `; there are ${names.slice(0, MOST_NAMES).join(', ')}`;
  if (hostName === undefined)
    return { reason: 'HostNotAssigned', message: `spec.hostName names no Host${known}${hint}` };
  const near = nearNames(hostName, names);
  const meant = near.length > 0 ? `; did you mean ${near.join(' or ')}?` : known;
  return { reason: 'HostNotFound', message: `Host ${hostName} does not exist${meant}${hint}` };
}
