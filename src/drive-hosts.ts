/** The loop of a process: every Host of a store, driven by real QEMU. */
import type { Observable, Subscription } from 'rxjs';
import { messageOf } from './api/errors.ts';
import type { ControllerEvent } from './reconcile/loop-event.ts';
import type { Owns } from './reconcile/rendezvous.ts';
import type { HostShells } from './remote/host-shells.ts';
import type { NamespaceReader, SecretStore, Store } from './store/store.ts';

export interface LoopPlace {
  readonly store: Store;
  readonly secrets: SecretStore;
  /** Of a cluster. */
  readonly namespaces?: NamespaceReader;
  readonly shells: HostShells;
  /** Where replicas share the Hosts: which are this one's. */
  readonly owned$?: Observable<Owns>;
}

/** Loaded when it is run: a command that only reads the store does not wait for it. */
export async function driveHosts(
  { store, secrets, namespaces, shells, owned$ }: LoopPlace,
  tell: (event: ControllerEvent) => void,
): Promise<Subscription> {
  const [{ runController }, { QemuDriver }, { sweepPassing }] = await Promise.all([
    import('./reconcile/controller.ts'),
    import('./qemu/driver.ts'),
    import('./remote/passing-hosts.ts'),
  ]);
  const events$ = runController({
    store,
    secrets,
    ...(namespaces === undefined ? {} : { namespaces }),
    ...(owned$ === undefined ? {} : { owned$ }),
    driverFor: (host) => {
      const remote = shells.remote(host);
      if (remote === undefined) return new QemuDriver(shells.of(host));
      return new QemuDriver(remote, { connection: () => remote.seen(), connection$: remote.connection$ });
    },
  });
  const subscription = events$.subscribe(tell);
  const sweep = () =>
    sweepPassing({ store, secrets }, (error) =>
      tell({ type: 'failed', vm: '*', error, message: messageOf(error), host: '' }),
    );
  subscription.add(owned$ === undefined ? sweep() : whileOwned(owned$, sweep));
  return subscription;
}

/** What belongs to no Host is done by one replica. */
function whileOwned(owned$: Observable<Owns>, begin: () => Subscription): Subscription {
  let work: Subscription | undefined;
  const owned = owned$.subscribe((owns) => {
    if (!owns('')) {
      work?.unsubscribe();
      work = undefined;
    } else work ??= begin();
  });
  owned.add(() => work?.unsubscribe());
  return owned;
}
