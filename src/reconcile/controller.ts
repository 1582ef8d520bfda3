/**
 * Who wakes whom: the store's changes to the loop of the Host they concern. One loop per Host, for as long as the
 * Host exists and is this replica's. VMs that name no Host, or one that does not exist, are answered here.
 */
import { asyncScheduler, defer, mergeMap, Observable, type SchedulerLike, Subject, Subscription, timer } from 'rxjs';
import { messageOf } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import { KINDS, keyOf } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { VirtualMachineMonitor } from '../api/virtual-machine-monitor.ts';
import type { NamespaceReader, SecretReader, Store, WatchEvent } from '../store/store.ts';
import { changes } from './changes.ts';
import { FencedError, type HostDriver } from './driver.ts';
import { HostLoop, type HostLoopOptions } from './host-loop.ts';
import type { ControllerEvent } from './loop-event.ts';
import type { Owns } from './rendezvous.ts';
import { HostSampler } from './sampler.ts';
import { answerUnplaced } from './unplaced.ts';

export interface ControllerDependencies {
  readonly store: Store;
  readonly driverFor: (host: Host) => HostDriver;
  /** Absent: there are none. */
  readonly secrets?: SecretReader;
  /** Absent: they are known by name alone. */
  readonly namespaces?: NamespaceReader;
  /** Where replicas share the Hosts: which are this one's, told at first and whenever it may differ. Absent: all are. */
  readonly owned$?: Observable<Owns>;
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
  /** Another replica has it. */
  isFenced: boolean;
}

/**
 * A replica that another one has shut out of a Host, and that still has it by its own account, tries again: soon where
 * it was just told who lives, as one that was frozen and is back; then rarely, for two that disagree end each other's work.
 */
const FENCED_RETRY_MS = { soon: 1_000, later: 15_000 };
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
  /** Hosts that others have shut us out of since we were told who lives. */
  readonly #shutOut = new Set<string>();
  /** By VM, as last told. */
  readonly #known = new Map<string, VirtualMachine>();
  readonly #abort = new AbortController();
  readonly #unplaced$ = new Subject<VirtualMachine>();
  #owns: Owns;
  #subscriptions: Subscription[] = [];

  constructor(dependencies: ControllerDependencies, emit: (event: ControllerEvent) => void) {
    this.#deps = dependencies;
    this.#scheduler = dependencies.scheduler ?? asyncScheduler;
    this.#emit = emit;
    this.#owns = () => dependencies.owned$ === undefined;
  }

  start(): void {
    const unplaced = this.#unplaced$.pipe(mergeMap((vm) => defer(() => this.#answer(vm)), 4)).subscribe();
    // Hosts come first, so that a VM's first event finds its loop.
    const watches = KINDS.toSorted((a) => (a === 'Host' ? -1 : 0)).map((kind) =>
      changes(this.#deps.store, kind, this.#abort.signal, this.#scheduler).subscribe((event) => this.#onChange(event)),
    );
    const wakeAll = () => {
      for (const { loop } of this.#running.values()) loop.wake();
    };
    const followed = [this.#deps.secrets, this.#deps.namespaces].map((one) => new Subscription(one?.follow(wakeAll)));
    const relists = timer(RELIST_MS, RELIST_MS, this.#scheduler).subscribe(() => void this.#relist());
    const owned = this.#deps.owned$?.subscribe((owns) => void this.#share(owns));
    this.#subscriptions = [unplaced, ...followed, ...watches, relists, ...(owned === undefined ? [] : [owned])];
  }

  /** Others have what is not ours any more, and what has become ours they have let go. */
  async #share(owns: Owns): Promise<void> {
    this.#owns = owns;
    this.#shutOut.clear();
    for (const [name, { isFenced }] of [...this.#running]) if (isFenced || !owns(name)) this.#endHost(name);
    await this.#relist();
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
    else if (this.#owns(name)) this.#startHost(host);
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
    const { store, driverFor, secrets, namespaces, scheduler, options } = this.#deps;
    const { name } = host.metadata;
    const driver = driverFor(host);
    const shared = { store, driver, hostName: name, ...(scheduler === undefined ? {} : { scheduler }) };
    const loop = new HostLoop({
      ...shared,
      ...(secrets === undefined ? {} : { secrets }),
      ...(namespaces === undefined ? {} : { namespaces }),
      ...(options === undefined ? {} : { options }),
    });
    const sampler = new HostSampler(shared);
    const subscription = loop.run().subscribe((event) => {
      if (event.type === 'done') sampler.wake();
      this.#emit({ ...event, host: name });
      if (event.type === 'failed' && event.error instanceof FencedError) this.#retryFenced(name, loop);
    });
    subscription.add(
      sampler
        .run()
        .subscribe((error) => this.#emit({ type: 'failed', vm: '*', error, message: messageOf(error), host: name })),
    );
    subscription.add(() => this.#emit({ type: 'ended', host: name }));
    this.#running.set(name, { host, loop, sampler, driver, subscription, isFenced: false });
    this.#wakeBehind();
    void this.#wakeUnplaced();
  }

  #retryFenced(name: string, loop: HostLoop): void {
    const running = this.#running.get(name);
    if (this.#deps.owned$ === undefined || running?.loop !== loop || running.isFenced) return;
    running.isFenced = true;
    const waitMs = this.#shutOut.has(name) ? FENCED_RETRY_MS.later : FENCED_RETRY_MS.soon;
    this.#shutOut.add(name);
    const again = timer(waitMs, this.#scheduler).subscribe(() => {
      this.#endHost(name);
      void this.#relist();
    });
    running.subscription.add(again);
  }

  /** VMs that waited for a Host of this name have it now, or have it no more. */
  async #wakeUnplaced(): Promise<void> {
    try {
      const { items } = await this.#deps.store.list('VirtualMachine');
      if (this.#abort.signal.aborted) return;
      for (const vm of items) if (!this.#running.has(vm.spec.hostName ?? '')) this.#unplaced(vm);
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
    if (this.#isOwnWord(vm, deleted)) return;
    const running = vm.spec.hostName === undefined ? undefined : this.#running.get(vm.spec.hostName);
    // A deleted VM frees names and disks that others may wait for.
    if (running !== undefined) running.loop.wake(deleted ? undefined : keyOf(vm.metadata));
    else if (!deleted) this.#unplaced(vm);
  }

  /** Our own status writes come back as changes. What a store finds wrong with a source comes without a change of the object. */
  #isOwnWord(vm: VirtualMachine, deleted: boolean): boolean {
    const key = keyOf(vm.metadata);
    const known = this.#known.get(key);
    if (deleted) this.#known.delete(key);
    else this.#known.set(key, vm);
    if (deleted || known === undefined) return false;
    return known.metadata.resourceVersion !== vm.metadata.resourceVersion && askedOf(known) === askedOf(vm);
  }

  async #answer(vm: VirtualMachine): Promise<void> {
    try {
      await answerUnplaced(this.#deps.store, vm, this.#scheduler.now());
    } catch (error) {
      this.#emit({ type: 'failed', vm: keyOf(vm.metadata), error, message: messageOf(error), host: '' });
    }
  }

  /** Whoever would have the Host that it names answers for it. */
  #unplaced(vm: VirtualMachine): void {
    if (this.#owns(vm.spec.hostName ?? '')) this.#unplaced$.next(vm);
  }

  #onMonitor(monitor: VirtualMachineMonitor): void {
    for (const { sampler } of this.#running.values()) sampler.wakeMonitor(monitor);
  }
}

/** What reached the one machine does not reach the other. */
function isAnother(known: Host, host: Host): boolean {
  return (
    known.metadata.uid !== host.metadata.uid || (known.spec.local === undefined) !== (host.spec.local === undefined)
  );
}

/** What people and tools say of an object: all but its status. */
function askedOf({ metadata }: Host | VirtualMachine): string {
  const { uid, generation, annotations, finalizers, deletionTimestamp } = metadata;
  return JSON.stringify([uid, generation, annotations, finalizers, deletionTimestamp]);
}
