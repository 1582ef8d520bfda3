/**
 * One loop per Host: look at the dirty VMs in one round trip, decide each, start each action and go on. Work is
 * keyed by VM, so a slow action delays no other; its end wakes its VM again.
 *
 * RxJS says who wakes whom; inside a pass there is plain await. Failures are values: this stream never errors.
 */
import { asyncScheduler, defer, merge, Observable, type SchedulerLike } from 'rxjs';
import { messageOf } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import { ANNOTATIONS, FINALIZERS, keyOf } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Store } from '../store/store.ts';
import { type Action, isStoreAction, type StoreAction } from './action.ts';
import { coalesceMap } from './coalesce-map.ts';
import { decide } from './decide.ts';
import { decideVmDir, type VmDirDecision } from './decide-host.ts';
import { blocked, type Decision, type Subject } from './decision.ts';
import { EffectError, FencedError, type HostDriver } from './driver.ts';
import { hostStatusOf } from './host-status.ts';
import type { Look, SeenHost } from './observed.ts';
import { type Failure, type Pass, statusOf } from './status.ts';
import { writeStatus } from './status-writer.ts';
import { applyStoreAction } from './store-actions.ts';
import { subjectOf, wantedOf } from './subject.ts';
import { WakeQueue } from './wake-queue.ts';

export interface HostLoopOptions {
  /** Everything is looked at again after this long, woken or not. */
  readonly resyncMs: number;
  readonly maxActions: number;
  readonly maxLaunches: number;
  readonly failureBackoffMs: { readonly first: number; readonly max: number };
}

export const DEFAULT_LOOP_OPTIONS: HostLoopOptions = {
  resyncMs: 60_000,
  maxActions: 16,
  maxLaunches: 4,
  failureBackoffMs: { first: 1_000, max: 300_000 },
};

export interface HostLoopDependencies {
  readonly store: Store;
  readonly driver: HostDriver;
  readonly hostName: string;
  readonly scheduler?: SchedulerLike;
  readonly options?: Partial<HostLoopOptions>;
}

/** What the loop did, for logs and tests. */
export type LoopEvent =
  | { readonly type: 'action'; readonly vm: string; readonly action: Action; readonly because: string }
  | { readonly type: 'done'; readonly vm: string; readonly action: Action; readonly ms: number }
  | {
      readonly type: 'failed';
      readonly vm: string;
      readonly action?: Action;
      readonly error: unknown;
      readonly message: string;
    }
  | { readonly type: 'pass'; readonly vms: number; readonly ms: number };

interface Attempt {
  readonly failures: number;
  readonly signature: string;
  readonly failure: Failure;
  /** On the scheduler's clock. */
  readonly notBefore: number;
  readonly generation: number;
}

const EVERYTHING = '*';
const UNSEEN_RETRY_MS = 5_000;
const BLOCKED_RETRY_MS = 10_000;
const VOLATILE_MS = 300_000;
const CLAIM_ATTEMPTS = 3;
/** The same successful step again and again is a hot loop: it is slowed down. */
const REPEATS_FREE = 3;

export class HostLoop {
  readonly #store: Store;
  readonly #driver: HostDriver;
  readonly #hostName: string;
  readonly #scheduler: SchedulerLike;
  readonly #options: HostLoopOptions;
  readonly #queue: WakeQueue;
  readonly #busy = new Map<string, Action['type']>();
  readonly #attempts = new Map<string, Attempt>();
  readonly #repeats = new Map<string, { readonly signature: string; readonly count: number }>();
  readonly #folders = new Map<string, string>();
  readonly #abort = new AbortController();
  #volatileAt = Number.NEGATIVE_INFINITY;
  #emit: (event: LoopEvent) => void = () => undefined;

  constructor(dependencies: HostLoopDependencies) {
    this.#store = dependencies.store;
    this.#driver = dependencies.driver;
    this.#hostName = dependencies.hostName;
    this.#scheduler = dependencies.scheduler ?? asyncScheduler;
    this.#options = { ...DEFAULT_LOOP_OPTIONS, ...dependencies.options };
    this.#queue = new WakeQueue(this.#scheduler);
  }

  /** A hint that this VM, or everything, may differ. */
  wake(vmKey: string = EVERYTHING): void {
    this.#queue.wake(vmKey);
  }

  /** Runs until unsubscribed; an action under way is then aborted, which the next look by whoever follows sees. */
  run(): Observable<LoopEvent> {
    return new Observable((subscriber) => {
      this.#emit = (event) => subscriber.next(event);
      const events = this.#driver.events$.subscribe(({ folder }) =>
        this.#queue.wake(this.#folders.get(folder) ?? EVERYTHING),
      );
      const passes = merge(this.#queue.ready$)
        .pipe(coalesceMap(() => defer(() => this.#safely())))
        .subscribe();
      this.#queue.wake(EVERYTHING);
      return () => {
        this.#abort.abort(new Error('the loop has ended'));
        events.unsubscribe();
        passes.unsubscribe();
      };
    });
  }

  async #safely(): Promise<void> {
    try {
      await this.#pass();
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      // The store cannot be read or written: VMs run on, and everything is looked at again.
      this.#emit({ type: 'failed', vm: EVERYTHING, error, message: messageOf(error) });
      this.#queue.wake(EVERYTHING, UNSEEN_RETRY_MS);
    }
  }

  async #pass(): Promise<void> {
    const started = this.#scheduler.now();
    const taken = this.#queue.take(new Set(this.#busy.keys()));
    if (taken.size === 0) return;
    const host = await this.#store.get('Host', { name: this.#hostName });
    if (host === undefined) return;
    const all = await this.#vms();
    const whole = taken.has(EVERYTHING);
    if (whole) this.#queue.wake(EVERYTHING, this.#options.resyncMs);
    const dirty = all.filter((vm) => !this.#busy.has(keyOf(vm.metadata)) && (whole || taken.has(keyOf(vm.metadata))));
    if (dirty.length === 0 && !whole) return;
    const readable = dirty.filter((vm) => this.#unreadable(vm) === undefined);
    const { look, verdicts } = await this.#look(host, all, readable);
    if (this.#abort.signal.aborted) return;
    for (const vm of dirty) await this.#handle(vm, { host, all, look, verdicts });
    if (whole) await this.#noteHost(host, { look, verdicts, all });
    this.#emit({ type: 'pass', vms: dirty.length, ms: this.#scheduler.now() - started });
  }

  async #vms(): Promise<readonly VirtualMachine[]> {
    const { items } = await this.#store.list('VirtualMachine');
    return items.filter(({ spec }) => spec.hostName === this.#hostName);
  }

  #unreadable(vm: VirtualMachine): string | undefined {
    return this.#store.problems().find((problem) => problem.reason === 'InvalidSpec' && isAbout(problem, vm))?.message;
  }

  /** Looks, and claims what is to be claimed before anything else is decided. */
  async #look(
    host: Host,
    all: readonly VirtualMachine[],
    dirty: readonly VirtualMachine[],
  ): Promise<{ look: Look; verdicts: Map<string, VmDirDecision> }> {
    const wanted = all.filter((vm) => this.#unreadable(vm) === undefined).map((vm) => wantedOf(vm, host));
    const vmDirs = [...new Set([host.spec.vmDir, ...wanted.map(({ vmDir }) => vmDir)])];
    const request = {
      vmDirs,
      vms: dirty.map((vm) => wantedOf(vm, host)),
      paths: host.spec.allowedPaths ?? [host.spec.vmDir],
    };
    const verdicts = new Map<string, VmDirDecision>();
    for (let attempt = 1; ; attempt += 1) {
      const look = await this.#driver.look(request, this.#abort.signal);
      if (look.kind === 'cannot-see') return { look, verdicts };
      this.#queueFolders(all, host);
      let again = false;
      for (const vmDir of vmDirs) {
        const verdict = await this.#verdict(host, all, look.host, vmDir);
        if (verdict.kind === 'act') {
          const refusal = attempt < CLAIM_ATTEMPTS ? await this.#claim(host, verdict, look.host) : undefined;
          again ||= refusal === undefined;
          verdicts.set(vmDir, refusal ?? verdict);
        } else verdicts.set(vmDir, verdict);
      }
      if (!again || attempt >= CLAIM_ATTEMPTS) return { look, verdicts };
    }
  }

  #queueFolders(all: readonly VirtualMachine[], host: Host): void {
    this.#folders.clear();
    for (const vm of all)
      if (this.#unreadable(vm) === undefined) this.#folders.set(wantedOf(vm, host).folder, keyOf(vm.metadata));
  }

  async #verdict(host: Host, all: readonly VirtualMachine[], seen: SeenHost, path: string): Promise<VmDirDecision> {
    const vmDir = seen.vmDirs.get(path) ?? { path, state: 'absent' as const, marker: { kind: 'absent' as const } };
    const hosts = await this.#store.list('Host');
    const here = (vm: VirtualMachine) => (vm.spec.vmDir ?? host.spec.vmDir) === path;
    return decideVmDir({
      host,
      vmDir,
      machineID: seen.machineID,
      storeUID: this.#store.uid,
      epoch: this.#driver.epoch(path),
      provisioned: all.some((vm) => here(vm) && vm.metadata.annotations?.[ANNOTATIONS.provisioned] !== undefined),
      hostExists: (uid) => hosts.items.some(({ metadata }) => metadata.uid === uid),
    });
  }

  /** undefined: claimed; look again. */
  async #claim(
    host: Host,
    verdict: Extract<VmDirDecision, { kind: 'act' }>,
    seen: SeenHost,
  ): Promise<VmDirDecision | undefined> {
    try {
      await this.#driver.executeOnHost(
        verdict.action,
        { storeUID: this.#store.uid, hostUID: host.metadata.uid },
        this.#abort.signal,
      );
      if (verdict.action.vmDir === host.spec.vmDir && host.metadata.annotations?.[ANNOTATIONS.claimed] === undefined) {
        await this.#store.patch(
          'Host',
          host.metadata,
          { metadata: { annotations: { [ANNOTATIONS.claimed]: seen.machineID } } },
          { uid: host.metadata.uid },
        );
      }
      return undefined;
    } catch (error) {
      if (this.#abort.signal.aborted) throw error;
      this.#emit({ type: 'failed', vm: EVERYTHING, error, message: messageOf(error) });
      const reason =
        error instanceof EffectError && error.reason === 'VMDirMissing' ? 'VMDirMissing' : 'ClaimedByAnother';
      return {
        kind: 'blocked',
        reason,
        condition: reason === 'VMDirMissing' ? 'VMDirReady' : 'Claimed',
        message: messageOf(error),
      };
    }
  }

  async #handle(
    vm: VirtualMachine,
    around: { host: Host; all: readonly VirtualMachine[]; look: Look; verdicts: ReadonlyMap<string, VmDirDecision> },
  ): Promise<void> {
    const { host, all, look, verdicts } = around;
    const invalid = this.#unreadable(vm);
    if (invalid !== undefined)
      return this.#unseen(vm, { reason: 'InvalidSpec', message: `${invalid}; the VM is left alone`, known: false });
    if (look.kind === 'cannot-see') return this.#unseen(vm, { ...look, known: true });
    const verdict = verdicts.get(vm.spec.vmDir ?? host.spec.vmDir);
    if (verdict?.kind !== 'ready') {
      const reason = verdict?.kind === 'blocked' ? verdict.reason : 'HostNotReady';
      return this.#unseen(vm, { reason, message: verdict?.message ?? 'the vmDir is not ready', known: true });
    }
    const uids = new Set(all.map(({ metadata }) => metadata.uid));
    const subject = subjectOf(vm, {
      host,
      seen: look.host,
      siblings: all,
      uidExists: (uid) => uids.has(uid),
      heardEnd: (folder) => this.#driver.heardEnd(folder),
    });
    await this.#follow(subject, this.#decide(subject));
  }

  #decide(subject: Subject): Decision {
    try {
      const { host, vm } = subject;
      const taken = vm.metadata.finalizers?.includes(FINALIZERS.hostCleanup) === true;
      if (host.metadata.deletionTimestamp !== undefined && !taken && vm.metadata.deletionTimestamp === undefined) {
        return blocked('HostNotFound', `Host ${host.metadata.name} is being deleted and takes no new VMs`);
      }
      return decide(subject);
    } catch (error) {
      // A bug must not take the other VMs with it.
      return blocked('InternalError', messageOf(error));
    }
  }

  async #unseen(
    vm: VirtualMachine,
    why: { readonly reason: string; readonly message: string; readonly known: boolean },
  ): Promise<void> {
    const hint =
      vm.metadata.deletionTimestamp !== undefined
        ? `; annotation ${ANNOTATIONS.orphan} releases the object without the host`
        : '';
    await this.#note(vm, {
      kind: 'unseen',
      at: Date.now(),
      reason: why.reason,
      message: `${why.message}${hint}`,
      hostKnown: why.known,
    });
    this.#queue.wake(keyOf(vm.metadata), UNSEEN_RETRY_MS);
  }

  /** Writes what was found, then takes the step. */
  async #follow(subject: Subject, decision: Decision): Promise<void> {
    const key = keyOf(subject.vm.metadata);
    const held = decision.kind === 'act' ? this.#heldBack(key, subject, decision.action) : undefined;
    if (decision.kind !== 'act') this.#attempts.delete(key);
    const newest = await this.#note(subject.vm, {
      kind: 'seen',
      subject,
      decision,
      ...(held?.failure === undefined ? {} : { failure: held.failure }),
    });
    switch (decision.kind) {
      case 'act':
        // The write above gave the object a new resourceVersion.
        if (newest === undefined) return;
        if (held === undefined) this.#start(key, { ...subject, vm: newest }, decision);
        else this.#queue.wake(key, held.forMs);
        return;
      case 'wait':
        this.#queue.wake(key, decision.forMs);
        return;
      case 'blocked':
        this.#repeats.delete(key);
        this.#queue.wake(key, BLOCKED_RETRY_MS);
        return;
      case 'settled':
        this.#repeats.delete(key);
    }
  }

  /** Back-off after failures, a brake on repetition, and room for launches; undefined: go. */
  #heldBack(
    key: string,
    subject: Subject,
    action: Action,
  ): { readonly forMs: number; readonly failure?: Failure } | undefined {
    const signature = JSON.stringify(action);
    const attempt = this.#attempts.get(key);
    if (
      attempt !== undefined &&
      attempt.signature === signature &&
      attempt.generation === subject.vm.metadata.generation
    ) {
      const left = attempt.notBefore - this.#scheduler.now();
      if (left > 0) return { forMs: left, failure: attempt.failure };
    }
    const running = [...this.#busy.values()];
    if (running.length >= this.#options.maxActions) return { forMs: 100 };
    if (action.type === 'launch' && running.filter((type) => type === 'launch').length >= this.#options.maxLaunches)
      return { forMs: 100 };
    return undefined;
  }

  #start(key: string, subject: Subject, decision: Extract<Decision, { kind: 'act' }>): void {
    const { action } = decision;
    const started = this.#scheduler.now();
    this.#busy.set(key, action.type);
    this.#emit({ type: 'action', vm: key, action, because: decision.message });
    const ended = (afterMs: number) => {
      this.#busy.delete(key);
      this.#queue.wake(key, afterMs);
    };
    this.#execute(action, subject).then(
      () => {
        this.#attempts.delete(key);
        this.#emit({ type: 'done', vm: key, action, ms: this.#scheduler.now() - started });
        ended(this.#repeatDelay(key, action));
      },
      (error: unknown) => {
        if (this.#abort.signal.aborted) return;
        this.#fail(key, subject, action, error);
        ended(0);
      },
    );
  }

  #repeatDelay(key: string, action: Action): number {
    const signature = JSON.stringify(action);
    const before = this.#repeats.get(key);
    const count = before?.signature === signature ? before.count + 1 : 1;
    this.#repeats.set(key, { signature, count });
    return count <= REPEATS_FREE ? 0 : Math.min(60_000, 500 * 2 ** (count - REPEATS_FREE));
  }

  #fail(key: string, subject: Subject, action: Action, error: unknown): void {
    const message = messageOf(error);
    this.#emit({ type: 'failed', vm: key, action, error, message });
    if (error instanceof FencedError) this.#queue.wake(EVERYTHING);
    const signature = JSON.stringify(action);
    const before = this.#attempts.get(key);
    const failures = before?.signature === signature ? before.failures + 1 : 1;
    const { first, max } = this.#options.failureBackoffMs;
    const delay = Math.min(max, first * 2 ** Math.min(failures - 1, 20));
    const reason = error instanceof EffectError ? error.reason : 'InternalError';
    const failure = { reason, message: `${action.type} failed: ${message}`, nextAttemptAt: subject.seen.at + delay };
    this.#attempts.set(key, {
      failures,
      signature,
      failure,
      notBefore: this.#scheduler.now() + delay,
      generation: subject.vm.metadata.generation,
    });
  }

  #execute(action: Action, subject: Subject): Promise<void> {
    const { vm, wanted, seen } = subject;
    if (isStoreAction(action)) return applyStoreAction(this.#store, action as StoreAction, vm, wanted.vmName);
    const record = seen.folder?.record;
    const { uid, namespace, name } = vm.metadata;
    return this.#driver.execute(
      action,
      {
        storeUID: this.#store.uid,
        uid,
        namespace,
        name,
        wanted,
        record: record?.kind === 'readable' ? record.record : undefined,
        process: seen.folder?.process ?? { kind: 'absent', pidfileLeft: false },
        stop: seen.folder?.stop,
        facts: seen.facts,
      },
      this.#abort.signal,
    );
  }

  async #note(vm: VirtualMachine, pass: Pass): Promise<VirtualMachine | undefined> {
    const source = this.#store.problems().find((problem) => problem.reason !== 'InvalidSpec' && isAbout(problem, vm));
    return writeStatus(this.#store, 'VirtualMachine', vm, (newest) => {
      // A newer spec is not what this pass judged: the wake-up that came with it will.
      const judged =
        newest.metadata.generation === vm.metadata.generation
          ? newest
          : { ...newest, metadata: { ...newest.metadata, generation: vm.metadata.generation } };
      return statusOf(judged, pass, source);
    });
  }

  async #noteHost(
    host: Host,
    around: { look: Look; verdicts: ReadonlyMap<string, VmDirDecision>; all: readonly VirtualMachine[] },
  ): Promise<void> {
    const now = this.#scheduler.now();
    const refresh = now - this.#volatileAt >= VOLATILE_MS;
    if (refresh) this.#volatileAt = now;
    await writeStatus(this.#store, 'Host', host, (newest) =>
      hostStatusOf(newest, {
        look: around.look,
        vmDir: around.verdicts.get(host.spec.vmDir),
        vms: around.all,
        now: Date.now(),
        refresh,
      }),
    );
    await this.#holdHost(host, around.all);
  }

  /** A Host that a VM names is held by a finalizer; one that is deleted and unused gives its vmDir back. */
  async #holdHost(host: Host, all: readonly VirtualMachine[]): Promise<void> {
    const finalizers = host.metadata.finalizers ?? [];
    const held = finalizers.includes(FINALIZERS.inUse);
    const deleting = host.metadata.deletionTimestamp !== undefined;
    if (!deleting && !held) {
      await this.#store.patch(
        'Host',
        host.metadata,
        { metadata: { finalizers: [...finalizers, FINALIZERS.inUse] } },
        { uid: host.metadata.uid },
      );
    }
    if (deleting && held && all.length === 0) {
      await this.#driver.executeOnHost(
        { type: 'unclaim', vmDir: host.spec.vmDir },
        { storeUID: this.#store.uid, hostUID: host.metadata.uid },
        this.#abort.signal,
      );
      await this.#store.patch(
        'Host',
        host.metadata,
        { metadata: { finalizers: finalizers.filter((name) => name !== FINALIZERS.inUse) } },
        { uid: host.metadata.uid },
      );
    }
  }
}

function isAbout(
  problem: { readonly kind: string; readonly ref: { readonly namespace?: string | undefined; readonly name: string } },
  vm: VirtualMachine,
): boolean {
  return (
    problem.kind === 'VirtualMachine' &&
    problem.ref.name === vm.metadata.name &&
    (problem.ref.namespace ?? 'default') === vm.metadata.namespace
  );
}
