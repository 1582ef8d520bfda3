/**
 * Who wakes whom: the store's changes to the loop of the Host they concern. One loop per Host, for as long as the
 * Host exists. VMs that name no Host, or one that does not exist, are answered here.
 */
import {
  asyncScheduler,
  defer,
  from,
  mergeMap,
  Observable,
  type SchedulerLike,
  Subject,
  Subscription,
  timer,
} from 'rxjs';
import { ExpiredError, messageOf, nearNames } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import { ANNOTATIONS, FINALIZERS, KINDS, type Kind, keyOf } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { VirtualMachineMonitor } from '../api/virtual-machine-monitor.ts';
import type { SecretReader, Store, WatchEvent } from '../store/store.ts';
import { isOrphaned, isPaused } from './decide.ts';
import type { HostDriver } from './driver.ts';
import { HostLoop, type HostLoopOptions } from './host-loop.ts';
import type { ControllerEvent } from './loop-event.ts';
import { HostSampler } from './sampler.ts';
import { statusOf } from './status.ts';
import { writeStatus } from './status-writer.ts';
import { applyStoreAction } from './store-actions.ts';

export interface ControllerDependencies {
  readonly store: Store;
  readonly driverFor: (host: Host) => HostDriver;
  /** Absent: there are none. */
  readonly secrets?: SecretReader;
  readonly scheduler?: SchedulerLike;
  readonly options?: Partial<HostLoopOptions>;
}

interface Running {
  /** As its loop was last woken for it. */
  host: Host;
  readonly loop: HostLoop;
  readonly sampler: HostSampler;
  readonly driver: HostDriver;
  readonly subscription: Subscription;
}

const WATCH_RETRY_MS = 1_000;
/** Objects are listed this often, for whatever a watch did not tell. */
const RELIST_MS = 60_000;

/** Drives every Host of the store until unsubscribed. Never errors. */
export function runController(dependencies: ControllerDependencies): Observable<ControllerEvent> {
  return new Observable((subscriber) => {
    const controller = new Controller(dependencies, (event) => subscriber.next(event));
    controller.start();
    return () => controller.stop();
  });
}

class Controller {
  readonly #deps: ControllerDependencies;
  readonly #scheduler: SchedulerLike;
  readonly #emit: (event: ControllerEvent) => void;
  readonly #running = new Map<string, Running>();
  readonly #abort = new AbortController();
  readonly #unplaced$ = new Subject<VirtualMachine>();
  #subscriptions: Subscription[] = [];

  constructor(dependencies: ControllerDependencies, emit: (event: ControllerEvent) => void) {
    this.#deps = dependencies;
    this.#scheduler = dependencies.scheduler ?? asyncScheduler;
    this.#emit = emit;
  }

  start(): void {
    const unplaced = this.#unplaced$.pipe(mergeMap((vm) => defer(() => this.#answerUnplaced(vm)), 4)).subscribe();
    // Hosts come first, so that a VM's first event finds its loop.
    const watches = KINDS.toSorted((a) => (a === 'Host' ? -1 : 0)).map((kind) =>
      changes(this.#deps.store, kind, this.#abort.signal, this.#scheduler).subscribe((event) => this.#onChange(event)),
    );
    const secrets = new Subscription(
      this.#deps.secrets?.follow(() => {
        for (const { loop } of this.#running.values()) loop.wake();
      }),
    );
    const relists = timer(RELIST_MS, RELIST_MS, this.#scheduler).subscribe(() => void this.#relist());
    this.#subscriptions = [unplaced, secrets, ...watches, relists];
  }

  stop(): void {
    this.#abort.abort();
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
    for (const name of [...this.#running.keys()]) this.#endHost(name);
  }

  #onChange(event: WatchEvent): void {
    if (event.type === 'BOOKMARK') return;
    switch (event.object.kind) {
      case 'Host':
        this.#onHost(event.object, event.type === 'DELETED');
        return;
      case 'VirtualMachine':
        this.#onVm(event.object, event.type === 'DELETED');
        return;
      case 'VirtualMachineMonitor':
        this.#onMonitor(event.object);
    }
  }

  /** What the watches should have told. VMs that have a loop are looked at by it in any case. */
  async #relist(): Promise<void> {
    try {
      const hosts = (await this.#deps.store.list('Host')).items;
      const monitors = (await this.#deps.store.list('VirtualMachineMonitor')).items;
      if (this.#abort.signal.aborted) return;
      const uids = new Set(hosts.map(({ metadata }) => metadata.uid));
      for (const [name, { host }] of this.#running) if (!uids.has(host.metadata.uid)) this.#endHost(name);
      for (const host of hosts) this.#onHost(host, false);
      for (const monitor of monitors) this.#onMonitor(monitor);
    } catch (error) {
      this.#emit({ type: 'failed', vm: '*', error, message: messageOf(error), host: '' });
    }
    await this.#wakeUnplaced();
  }

  #onHost(host: Host, deleted: boolean): void {
    const { name } = host.metadata;
    const known = this.#running.get(name)?.host;
    if (known !== undefined && (deleted || isAnother(known, host))) this.#endHost(name);
    if (deleted) void this.#wakeUnplaced();
    else if (this.#running.has(name)) this.#wakeHost(host);
    else this.#startHost(host);
  }

  /** Our own status writes come back as changes; only what people and tools wrote is worth a look at everything. */
  #wakeHost(host: Host): void {
    const running = this.#running.get(host.metadata.name);
    if (running === undefined || askedOf(running.host) === askedOf(host)) return;
    running.host = host;
    running.loop.wake();
    this.#wakeBehind();
  }

  /** The way to a Host behind others may be another one now. */
  #wakeBehind(): void {
    for (const { host, loop } of this.#running.values()) if (host.spec.ssh?.jumpHostName !== undefined) loop.wake();
  }

  #startHost(host: Host): void {
    const { store, driverFor, secrets, scheduler, options } = this.#deps;
    const { name } = host.metadata;
    const driver = driverFor(host);
    const shared = { store, driver, hostName: name, ...(scheduler === undefined ? {} : { scheduler }) };
    const loop = new HostLoop({
      ...shared,
      ...(secrets === undefined ? {} : { secrets }),
      ...(options === undefined ? {} : { options }),
    });
    const sampler = new HostSampler(shared);
    const subscription = loop.run().subscribe((event) => {
      if (event.type === 'done') sampler.wake();
      this.#emit({ ...event, host: name });
    });
    subscription.add(
      sampler
        .run()
        .subscribe((error) => this.#emit({ type: 'failed', vm: '*', error, message: messageOf(error), host: name })),
    );
    subscription.add(() => this.#emit({ type: 'ended', host: name }));
    this.#running.set(name, { host, loop, sampler, driver, subscription });
    this.#wakeBehind();
    void this.#wakeUnplaced();
  }

  /** VMs that waited for a Host of this name have it now, or have it no more. */
  async #wakeUnplaced(): Promise<void> {
    try {
      const { items } = await this.#deps.store.list('VirtualMachine');
      if (this.#abort.signal.aborted) return;
      for (const vm of items) if (!this.#running.has(vm.spec.hostName ?? '')) this.#unplaced$.next(vm);
    } catch (error) {
      this.#emit({ type: 'failed', vm: '*', error, message: messageOf(error), host: '' });
    }
  }

  #endHost(name: string): void {
    const running = this.#running.get(name);
    this.#running.delete(name);
    running?.subscription.unsubscribe();
    void running?.driver.close();
    this.#wakeBehind();
  }

  #onVm(vm: VirtualMachine, deleted: boolean): void {
    const running = vm.spec.hostName === undefined ? undefined : this.#running.get(vm.spec.hostName);
    // A deleted VM frees names and disks that others may wait for.
    if (running !== undefined) running.loop.wake(deleted ? undefined : keyOf(vm.metadata));
    else if (!deleted) this.#unplaced$.next(vm);
  }

  #onMonitor(monitor: VirtualMachineMonitor): void {
    for (const { sampler } of this.#running.values()) sampler.wakeMonitor(monitor);
  }

  async #answerUnplaced(vm: VirtualMachine): Promise<void> {
    try {
      // Its Host is there, and its loop about to be: that one answers.
      if (await this.#isPlaced(vm)) return;
      const deleting = vm.metadata.deletionTimestamp !== undefined;
      const ran = vm.metadata.annotations?.[ANNOTATIONS.provisioned] !== undefined;
      if (
        deleting &&
        !isPaused(vm.metadata) &&
        vm.metadata.finalizers?.includes(FINALIZERS.hostCleanup) === true &&
        (!ran || isOrphaned(vm.metadata))
      ) {
        await applyStoreAction(this.#deps.store, { type: 'release' }, vm, vm.metadata.name);
        return;
      }
      const { reason, message } = await this.#whyUnplaced(vm, deleting);
      await writeStatus(this.#deps.store, 'VirtualMachine', vm, (newest) =>
        statusOf(newest, { kind: 'unseen', at: this.#scheduler.now(), reason, message, hostKnown: false }),
      );
    } catch (error) {
      this.#emit({ type: 'failed', vm: keyOf(vm.metadata), error, message: messageOf(error), host: '' });
    }
  }

  async #isPlaced({ spec: { hostName } }: VirtualMachine): Promise<boolean> {
    return hostName !== undefined && (await this.#deps.store.get('Host', { name: hostName })) !== undefined;
  }

  async #whyUnplaced(vm: VirtualMachine, deleting: boolean): Promise<{ reason: string; message: string }> {
    const hint = deleting ? `; its files are left where they are if you set the annotation ${ANNOTATIONS.orphan}` : '';
    const { hostName } = vm.spec;
    const { items } = await this.#deps.store.list('Host');
    const names = items.map(({ metadata }) => metadata.name);
    if (hostName === undefined)
      return {
        reason: 'HostNotAssigned',
        message: `spec.hostName names no Host${names.length === 0 ? '' : `; there are ${names.slice(0, 10).join(', ')}`}${hint}`,
      };
    const near = nearNames(hostName, names);
    const known =
      near.length > 0
        ? `; did you mean ${near.join(' or ')}?`
        : names.length > 0
          ? `; there are ${names.slice(0, 10).join(', ')}`
          : '';
    return { reason: 'HostNotFound', message: `Host ${hostName} does not exist${known}${hint}` };
  }
}

/** What reached the one machine does not reach the other. */
function isAnother(known: Host, host: Host): boolean {
  return (
    known.metadata.uid !== host.metadata.uid || (known.spec.local === undefined) !== (host.spec.local === undefined)
  );
}

function askedOf({ metadata }: Host): string {
  const { generation, annotations, finalizers, deletionTimestamp } = metadata;
  return JSON.stringify([generation, annotations, finalizers, deletionTimestamp]);
}

/** A watch that begins again by itself: from where it was, or from a list where the history no longer reaches back. */
export function changes<K extends Kind>(
  store: Store,
  kind: K,
  signal: AbortSignal,
  scheduler: SchedulerLike = asyncScheduler,
): Observable<WatchEvent<K>> {
  return new Observable((subscriber) => {
    let resourceVersion: string | undefined;
    const own = new AbortController();
    const onAbort = () => own.abort();
    signal.addEventListener('abort', onAbort, { once: true });
    const follow = async (): Promise<void> => {
      try {
        for await (const event of store.watch(kind, { resourceVersion, signal: own.signal })) {
          resourceVersion = event.type === 'BOOKMARK' ? event.resourceVersion : event.object.metadata.resourceVersion;
          subscriber.next(event);
        }
      } catch (error) {
        if (error instanceof ExpiredError) resourceVersion = undefined;
      }
      if (own.signal.aborted) return;
      retry.add(timer(WATCH_RETRY_MS, scheduler).subscribe(() => void follow()));
    };
    const retry = from([]).subscribe();
    void follow();
    return () => {
      own.abort();
      signal.removeEventListener('abort', onAbort);
      retry.unsubscribe();
    };
  });
}
