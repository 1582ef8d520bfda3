/**
 * One loop per Host: look at the dirty VMs in one round trip, decide each, start each action and go on. Work is
 * keyed by VM, so a slow action delays no other; its end wakes its VM again.
 *
 * RxJS says who wakes whom; inside a pass there is plain await. Failures are values: this stream never errors.
 */
import { asyncScheduler, defer, Observable, type SchedulerLike } from 'rxjs';
import { placeOf } from '../api/effective-spec.ts';
import { messageOf } from '../api/errors.ts';
import { ANNOTATIONS, DEFAULT_NAMESPACE, keyOf } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { NamespaceReader, ObjectProblem, SecretReader, Store } from '../store/store.ts';
import { type Action, isStoreAction, type VmAction } from './action.ts';
import { type ActionLimits, ActionRunner, servedBy } from './action-runner.ts';
import { coalesceMap } from './coalesce-map.ts';
import { decideSafely, isOrphaned, isPaused } from './decide.ts';
import type { Decision, Subject } from './decision.ts';
import { FencedError, type HostDriver } from './driver.ts';
import { HostView, type View } from './host-view.ts';
import type { LoopEvent } from './loop-event.ts';
import { NAMES_ALONE, seenNamespace } from './namespaces.ts';
import { NO_SECRETS, seedFor, seenSecret } from './secrets.ts';
import type { Pass } from './status.ts';
import { isOutdated } from './status-writer.ts';
import { applyStoreAction } from './store-actions.ts';
import { contextOf, subjectOf } from './subject.ts';
import { type Unseen, whyUnseen } from './unseen.ts';
import { VmNotes } from './vm-notes.ts';
import { WakeQueue } from './wake-queue.ts';

export interface HostLoopOptions extends ActionLimits {
  /** Everything is looked at again after this long, woken or not. */
  readonly resyncMs: number;
}

const DEFAULT_LOOP_OPTIONS: HostLoopOptions = {
  resyncMs: 60_000,
  maxActions: 16,
  maxLaunches: 4,
  failureBackoffMs: { first: 1_000, max: 300_000 },
};

export interface HostLoopDependencies {
  readonly store: Store;
  readonly driver: HostDriver;
  readonly hostName: string;
  /** Absent: there are none. */
  readonly secrets?: SecretReader;
  /** Absent: they are known by name alone. */
  readonly namespaces?: NamespaceReader;
  readonly scheduler?: SchedulerLike;
  readonly options?: Partial<HostLoopOptions>;
}

type Step = Extract<Decision, { kind: 'act' }>;

const EVERYTHING = '*';
const UNSEEN_RETRY_MS = 5_000;
const BLOCKED_RETRY_MS = 10_000;
const VOLATILE_MS = 300_000;
/** A read that lags behind catches up within this. */
const OUTDATED_RETRY_MS = 100;

export class HostLoop {
  readonly #store: Store;
  readonly #driver: HostDriver;
  readonly #hostName: string;
  readonly #beside: { readonly secrets: SecretReader; readonly namespaces: NamespaceReader };
  readonly #scheduler: SchedulerLike;
  readonly #resyncMs: number;
  readonly #queue: WakeQueue;
  readonly #actions: ActionRunner;
  readonly #view: HostView;
  readonly #notes: VmNotes;
  /** Folder to VM, for what the host says by itself. */
  readonly #folders = new Map<string, string>();
  readonly #abort = new AbortController();
  /** By VM, what the store says of it and its manifest at this pass. */
  #problems: ReadonlyMap<string, readonly ObjectProblem[]> = new Map();
  #volatileAt = Number.NEGATIVE_INFINITY;
  #emit: (event: LoopEvent) => void = () => undefined;

  constructor(dependencies: HostLoopDependencies) {
    const { store, driver, hostName, scheduler = asyncScheduler, options } = dependencies;
    const { resyncMs, ...limits } = { ...DEFAULT_LOOP_OPTIONS, ...options };
    this.#store = store;
    this.#driver = driver;
    this.#hostName = hostName;
    this.#beside = { secrets: NO_SECRETS, namespaces: NAMES_ALONE, ...dependencies };
    this.#scheduler = scheduler;
    this.#resyncMs = resyncMs;
    this.#queue = new WakeQueue(scheduler);
    this.#actions = new ActionRunner(scheduler, limits);
    this.#notes = new VmNotes({
      store,
      scheduler,
      problemOf: (vm) => this.#problem(vm, ['ManifestInvalid', 'ManifestMissing']),
      onFailure: (vm, error) => this.#stumbled(vm, error),
    });
    this.#view = new HostView({
      store,
      driver,
      signal: this.#abort.signal,
      onFailure: (error) => this.#failed(EVERYTHING, error),
    });
  }

  /** A hint that this VM, or everything, may differ. */
  wake(vmKey: string = EVERYTHING): void {
    this.#queue.wake(vmKey);
  }

  /** Runs until unsubscribed; an action under way is then aborted, which the next look by whoever follows sees. */
  run(): Observable<LoopEvent> {
    return new Observable((subscriber) => {
      this.#emit = (event) => subscriber.next(event);
      const events = this.#driver.events$.subscribe(({ folder }) => this.wake(this.#folders.get(folder)));
      const passes = this.#queue.ready$.pipe(coalesceMap(() => defer(() => this.#safely()))).subscribe();
      this.wake();
      return () => {
        this.#abort.abort(new Error('the loop has ended'));
        events.unsubscribe();
        passes.unsubscribe();
      };
    });
  }

  #failed(vm: string, error: unknown, action?: Action): void {
    this.#emit({ type: 'failed', vm, error, message: messageOf(error), ...(action === undefined ? {} : { action }) });
  }

  async #safely(): Promise<void> {
    try {
      await this.#pass();
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      // The store cannot be read or written: VMs run on, and everything is looked at again.
      this.#failed(EVERYTHING, error);
      this.#queue.wake(EVERYTHING, UNSEEN_RETRY_MS);
    }
  }

  async #pass(): Promise<void> {
    const started = this.#scheduler.now();
    const { busy } = this.#actions;
    const taken = this.#queue.take(busy);
    const host = taken.size === 0 ? undefined : await this.#store.get('Host', { name: this.#hostName });
    if (host === undefined) return;
    const whole = taken.has(EVERYTHING);
    if (whole) this.#queue.wake(EVERYTHING, this.#resyncMs);
    const { items: all } = await this.#store.list('VirtualMachine', { hostName: this.#hostName });
    const dirty = all.filter((vm) => !busy.has(keyOf(vm.metadata)) && (whole || taken.has(keyOf(vm.metadata))));
    if (dirty.length === 0 && !whole) return;
    this.#problems = Map.groupBy(
      this.#store.problems().filter(({ kind }) => kind === 'VirtualMachine'),
      ({ ref }) => keyOf({ namespace: DEFAULT_NAMESPACE, ...ref }),
    );
    const readable = (vm: VirtualMachine) => this.#problem(vm, ['InvalidSpec']) === undefined;
    const vms = all.filter(readable);
    for (const vm of vms) this.#folders.set(placeOf(vm, host).folder, keyOf(vm.metadata));
    const view = await this.#view.look(host, {
      vms,
      dirty: dirty.filter(readable),
      unreadable: all.length - vms.length,
    });
    const superseded = [...view.verdicts.values()].find(({ kind }) => kind === 'superseded');
    if (superseded?.kind === 'superseded') return this.#failed(EVERYTHING, new FencedError(superseded.message));
    for (const vm of dirty) await this.#handle(vm, view).catch((error: unknown) => this.#stumbled(vm, error));
    await this.#noteHost(view);
    if (view.look.kind === 'cannot-see') this.#queue.wake(EVERYTHING, UNSEEN_RETRY_MS);
    else if (view.verdicts.get(host.spec.vmDir)?.kind === 'blocked') this.#queue.wake(EVERYTHING, BLOCKED_RETRY_MS);
    const ms = this.#scheduler.now() - started;
    this.#emit({ type: 'pass', vms: dirty.length, ms, woken: taken.size, waiting: this.#queue.due });
  }

  #problem(vm: VirtualMachine, reasons: readonly ObjectProblem['reason'][]): ObjectProblem | undefined {
    return this.#problems.get(keyOf(vm.metadata))?.find(({ reason }) => reasons.includes(reason));
  }

  async #noteHost(view: View): Promise<void> {
    const now = this.#scheduler.now();
    const refresh = now - this.#volatileAt >= VOLATILE_MS;
    if (refresh) this.#volatileAt = now;
    await this.#view.note(view, { refresh, now });
  }

  /** One VM that cannot be noted holds up no other. */
  #stumbled(vm: VirtualMachine, error: unknown): void {
    if (this.#abort.signal.aborted) return;
    this.#failed(keyOf(vm.metadata), error);
    this.#queue.wake(keyOf(vm.metadata), UNSEEN_RETRY_MS);
  }

  async #handle(vm: VirtualMachine, view: View): Promise<void> {
    const { host, look, vms, foreignVms } = view;
    const unseen = whyUnseen(vm, view, this.#problem(vm, ['InvalidSpec'])?.message);
    if (unseen !== undefined || look.kind === 'cannot-see') {
      // A person's word to give up what cannot be seen.
      const given = vm.metadata.deletionTimestamp !== undefined && isOrphaned(vm.metadata) && !isPaused(vm.metadata);
      if (given) return void (await applyStoreAction(this.#store, { type: 'release' }, vm, vm.metadata.name));
      return unseen === undefined ? undefined : this.#unseen(vm, unseen);
    }
    const surroundings = {
      host,
      seen: look.host,
      siblings: vms,
      foreignVms,
      uidExists: (uid: string) => view.uids.has(uid),
      secret: await seenSecret(vm, this.#beside.secrets),
      namespace: await seenNamespace(vm, host, this.#beside.namespaces),
      heardEnd: (folder: string) => this.#driver.heardEnd(folder),
    };
    // A step in the store leaves the host as it was seen: what comes next needs no other look.
    for (let current: VirtualMachine | undefined = vm; current !== undefined; ) {
      const subject = subjectOf(current, surroundings);
      current = await this.#follow(subject, decideSafely(subject));
    }
  }

  async #unseen(vm: VirtualMachine, why: Unseen): Promise<void> {
    const hint =
      vm.metadata.deletionTimestamp === undefined
        ? ''
        : `; annotation ${ANNOTATIONS.orphan} releases the object without the host`;
    await this.#notes.write(vm, {
      kind: 'unseen',
      at: this.#scheduler.now(),
      ...why,
      message: `${why.message}${hint}`,
    });
    this.#queue.wake(keyOf(vm.metadata), UNSEEN_RETRY_MS);
  }

  /**
   * Takes the step, or writes what was found. Of a step that is soon done, what comes of it is what people want to know.
   * @returns the VM as a step in the store left it, which is to be decided on again; undefined: this look is done with
   */
  async #follow(subject: Subject, decision: Decision): Promise<VirtualMachine | undefined> {
    const key = keyOf(subject.vm.metadata);
    if (decision.kind !== 'act') this.#actions.rest(key);
    const asked = decision.kind === 'act' ? ([servedBy(subject.vm), decision.action] as const) : undefined;
    const held = asked && this.#actions.heldBack(...asked);
    if (held?.isTold === false) return void this.#queue.wake(key, held.forMs);
    const failure = asked && this.#actions.failureOf(...asked);
    const pass = { kind: 'seen', subject, decision, failure } as const;
    const rests = asked === undefined || held !== undefined;
    const newest = await (rests ? this.#notes.write(subject.vm, pass) : this.#notes.before(subject.vm, pass));
    if (newest === undefined) return undefined;
    // What was decided on an older object could end a guest that is wanted.
    const waitMs = isOutdated(subject.vm, newest) ? OUTDATED_RETRY_MS : held?.forMs;
    if (decision.kind === 'act' && waitMs === undefined) return this.#take({ ...subject, vm: newest }, decision, pass);
    const againMs = { act: waitMs, blocked: BLOCKED_RETRY_MS, settled: undefined };
    const delayMs = decision.kind === 'wait' ? decision.forMs : againMs[decision.kind];
    if (delayMs !== undefined) this.#queue.wake(key, delayMs);
    return undefined;
  }

  /** @param subject its vm as the store has it now */
  async #take(subject: Subject, step: Step, pass: Pass): Promise<VirtualMachine | undefined> {
    const { action } = step;
    if (!isStoreAction(action)) {
      const effect = () => this.#notes.during(subject.vm, pass, () => this.#execute(action, subject));
      void this.#run(subject, step, effect).then((done) => {
        if (done) this.#queue.wake(keyOf(subject.vm.metadata));
      });
      return undefined;
    }
    let changed: VirtualMachine | undefined;
    await this.#run(subject, step, async () => {
      changed = await applyStoreAction(this.#store, action, subject.vm, subject.wanted.vmName);
    });
    return changed;
  }

  /** Resolves to whether it is done. What failed is told, and looked at again. */
  #run(subject: Subject, { action, message }: Step, effect: () => Promise<void>): Promise<boolean> {
    const served = servedBy(subject.vm);
    const { key } = served;
    this.#emit({ type: 'action', vm: key, action, because: message });
    return new Promise((resolve) => {
      this.#actions.start({ ...served, action, seenAt: subject.seen.at, effect }, (outcome) => {
        resolve(outcome.ok && !this.#abort.signal.aborted);
        if (this.#abort.signal.aborted) return;
        const next = this.#actions.nextWaiting();
        if (next !== undefined) this.#queue.wake(next);
        if (outcome.ok) return this.#emit({ type: 'done', vm: key, action, ms: outcome.ms });
        this.#failed(key, outcome.error, action);
        // Somebody raised the epoch: whose the host is now must be seen before anything else.
        if (outcome.error instanceof FencedError) this.wake();
        this.#queue.wake(key);
      });
    });
  }

  async #execute(action: VmAction, subject: Subject): Promise<void> {
    const seed = action.type === 'launch' ? await seedFor(subject, this.#beside.secrets) : undefined;
    await this.#driver.execute(action, contextOf(subject, this.#store.uid, seed), this.#abort.signal);
  }
}
