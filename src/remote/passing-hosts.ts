/** What is nobody's any more goes: Hosts that a tool made for one address, some time after their last use, and Secrets of Hosts that are gone. */
import { exhaustMap, merge, type Subscription, timer } from 'rxjs';
import type { Host } from '../api/host.ts';
import { ANNOTATIONS } from '../api/meta.ts';
import { type CredentialsPlace, forgetLeftCredentials } from '../store/host-credentials.ts';
import type { Store } from '../store/store.ts';

const LIFE_MS = 600_000;
const SWEEP_MS = 30_000;

/** @param onFailure told what went wrong; the next sweep tries again */
export function sweepPassing(place: CredentialsPlace, onFailure: (error: unknown) => void): Subscription {
  const every = (firstMs: number, work: () => Promise<void>) =>
    timer(firstMs, SWEEP_MS).pipe(exhaustMap(() => work().catch(onFailure)));
  return merge(
    // Not at once: a call for such a Host may be what this process was started for.
    every(SWEEP_MS, () => sweepHosts(place.store, Date.now())),
    every(0, () => forgetLeftCredentials(place, Date.now())),
  ).subscribe();
}

export async function sweepHosts(store: Store, now: number): Promise<void> {
  const { items: hosts } = await store.list('Host');
  const { items: vms } = await store.list('VirtualMachine');
  const isUsed = ({ metadata }: Host) => vms.some(({ spec }) => spec.hostName === metadata.name);
  for (const host of hosts) if (isOver(host, now) && !isUsed(host)) await remove(store, host);
}

function isOver({ metadata }: Host, now: number): boolean {
  const usedAt = metadata.annotations?.[ANNOTATIONS.lastUsedAt];
  return metadata.deletionTimestamp === undefined && usedAt !== undefined && now - Date.parse(usedAt) > LIFE_MS;
}

/** One that is away by now is not waited for: what stays there is a marker, which its next Host takes over. */
async function remove(store: Store, { metadata }: Host): Promise<void> {
  const { name, uid } = metadata;
  const annotations = { [ANNOTATIONS.orphan]: 'true' };
  const { metadata: newest } = await store.patch('Host', { name }, { metadata: { annotations } }, { uid });
  await store.delete('Host', { name }, { uid, resourceVersion: newest.resourceVersion });
}
