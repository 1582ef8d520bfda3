/** Hosts that a tool made for one address go some time after their last use, and their Secrets with them. */
import { exhaustMap, type Subscription, timer } from 'rxjs';
import type { Host } from '../api/host.ts';
import { OPERATOR_NAMESPACE, PASSING_HOST } from '../api/host-ssh.ts';
import { ANNOTATIONS } from '../api/meta.ts';
import { forgetCredentials } from '../store/host-credentials.ts';
import type { SecretStore, Store } from '../store/store.ts';

const LIFE_MS = 600_000;
const SWEEP_MS = 30_000;

/** @param onFailure told what went wrong; the next sweep tries again */
export function sweepPassingHosts(
  store: Store,
  secrets: SecretStore,
  onFailure: (error: unknown) => void,
): Subscription {
  let loose: ReadonlySet<string> = new Set();
  const again = async () => {
    loose = await sweep(store, secrets, { now: Date.now(), loose });
  };
  return timer(SWEEP_MS, SWEEP_MS)
    .pipe(exhaustMap(() => again().catch(onFailure)))
    .subscribe();
}

/**
 * @param loose Secrets without a Host at the sweep before: a Secret is written before its Host, so one sweep tells nothing
 * @returns the same of this sweep
 */
export async function sweep(
  store: Store,
  secrets: SecretStore,
  { now, loose }: { readonly now: number; readonly loose: ReadonlySet<string> },
): Promise<ReadonlySet<string>> {
  const known = new Set((await secrets.list(OPERATOR_NAMESPACE)).map(({ name }) => name));
  const { items: hosts } = await store.list('Host');
  const { items: vms } = await store.list('VirtualMachine');
  const isUsed = ({ metadata }: Host) => vms.some(({ spec }) => spec.hostName === metadata.name);
  for (const host of hosts) if (isOver(host, now) && !isUsed(host)) await remove(store, host);
  const held = new Set(hosts.flatMap(({ metadata, spec }) => [metadata.name, spec.ssh?.credentialsSecretRef?.name]));
  const left = [...known].filter((name) => PASSING_HOST.test(name) && !held.has(name));
  for (const name of left) if (loose.has(name)) await forgetCredentials(secrets, name);
  return new Set(left.filter((name) => !loose.has(name)));
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
