/**
 * An installation in virtual time whose whole controller, watches and all, is under a microscope: every effect (host
 * call, store write), every read of the store and every watch event is counted, and at any one of them the
 * controller may be killed, shown the past, or told nothing.
 */
import type { Subscription } from 'rxjs';
import { type Manifest, parseManifest } from '../../src/api/admission.ts';
import { ANNOTATIONS, KINDS, type Kind, type ObjectRef } from '../../src/api/meta.ts';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import type { HostAction, VmAction } from '../../src/reconcile/action.ts';
import { runController } from '../../src/reconcile/controller.ts';
import type { HostContext, HostDriver, LookRequest, VmContext } from '../../src/reconcile/driver.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import type { ObjectPatch, Store, WatchEvent } from '../../src/store/store.ts';
import { hostDocument, vmDocument } from '../fakes/manifests.ts';
import { type JournalEntry, SimulatedHost } from '../fakes/simulated-host.ts';
import { SimulatedWorld } from '../fakes/simulated-world.ts';
import { VM_DIR } from '../fakes/simulation.ts';
import { VirtualClock } from '../fakes/virtual-clock.ts';
import { ObservedStore } from './observed-store.ts';

/** One thing that a controller did to the world outside of it. */
export interface Effect {
  readonly act: string;
  readonly name: string;
  /** Of a host call: its steps, between any two of which it may be cut; 0 for a store write, which is one. */
  readonly steps: number;
  /** Whether it was more than a question: a status that is as it was is not written. */
  wrote: boolean;
}

export interface Read {
  readonly what: string;
  /** Which of LATE_BY would have been another answer. */
  readonly differs: readonly number[];
}

/** How late a snapshot is served, in writes: just outdated, and from the beginning of the act or before. */
export const LATE_BY: readonly number[] = [1, 6];

/** What goes wrong, once; effects, reads and events are counted from 0 over the whole life. */
export type Trouble =
  | { readonly type: 'kill'; readonly effect: number; readonly afterSteps: number | 'all' }
  | { readonly type: 'late'; readonly read: number; readonly byWrites: number }
  | { readonly type: 'missed'; readonly event: number };

type Fields = Readonly<Record<string, unknown>>;

/** Nothing that a dead controller waits for ever comes. */
const never = <T>(): Promise<T> => new Promise<T>(() => undefined);

interface Controller {
  dead: boolean;
  subscription: Subscription | undefined;
}

export class Lab {
  readonly clock = new VirtualClock();
  readonly world = new SimulatedWorld(() => this.clock.now());
  readonly store: Store = createMemoryStore();
  readonly journal: JournalEntry[] = [];
  readonly effects: Effect[] = [];
  readonly reads: Read[] = [];
  readonly events: string[] = [];
  /** Whether the trouble has come. */
  happened = false;
  act = '';
  readonly #trouble: Trouble | undefined;
  readonly #pasts: Store[] = [];
  #controller: Controller | undefined;

  constructor(trouble?: Trouble) {
    this.#trouble = trouble;
    this.world.vmDirs.set(VM_DIR, { mounted: true, writable: true });
  }

  static async withHost(trouble?: Trouble): Promise<Lab> {
    const lab = new Lab(trouble);
    const spec = { local: {}, vmDir: VM_DIR, allowedPaths: ['/'], metricsIntervalSeconds: 0 };
    await lab.person(() => lab.store.create(parseManifest(hostDocument(spec))));
    return lab;
  }

  startController(): void {
    const controller: Controller = { dead: false, subscription: undefined };
    this.#controller = controller;
    const store = new ObservedStore(this.store, {
      read: (what, now, past) => (controller.dead ? never() : this.#read(what, now, past)),
      write: (what, work) => this.#effect(controller, what, 0, () => this.#noting(work)),
      tells: (event) => !controller.dead && this.#tells(event),
    });
    controller.subscription = runController({
      store,
      driverFor: () => this.#driver(controller),
      scheduler: this.clock,
    }).subscribe();
  }

  /** The process dies: nothing that it was about to do happens any more. */
  kill(): void {
    const controller = this.#controller;
    if (controller === undefined) return;
    controller.dead = true;
    this.#controller = undefined;
    controller.subscription?.unsubscribe();
  }

  #driver(controller: Controller): HostDriver {
    const host = new SimulatedHost({ world: this.world, journal: this.journal });
    const execute = (action: VmAction, context: VmContext, signal: AbortSignal) =>
      this.#effect(
        controller,
        action.type,
        () => host.stepsOf(action, context),
        (afterSteps) => {
          host.fault = afterSteps === undefined ? undefined : () => ({ afterSteps });
          return host.execute(action, context, signal);
        },
      );
    return {
      events$: host.events$,
      look: async (request: LookRequest, signal: AbortSignal) =>
        controller.dead ? never() : host.look(request, signal),
      execute,
      executeOnHost: (action: HostAction, context: HostContext, signal: AbortSignal) =>
        this.#effect(controller, action.type, 0, () => host.executeOnHost(action, context, signal)),
      sample: (vms, series) => host.sample(vms, series),
      epoch: (vmDir) => host.epoch(vmDir),
      heardEnd: (folder) => host.heardEnd(folder),
      close: () => host.close(),
    };
  }

  async #effect<T>(
    controller: Controller,
    name: string,
    steps: number | (() => number),
    work: (afterSteps?: number) => Promise<T>,
  ): Promise<T> {
    if (controller.dead) return never();
    const index = this.effects.length;
    const ofSteps = typeof steps === 'number' ? steps : steps();
    const effect: Effect = { act: this.act, name, steps: ofSteps, wrote: ofSteps > 0 };
    this.effects.push(effect);
    const trouble = this.#trouble;
    if (trouble?.type !== 'kill' || trouble.effect !== index) {
      if (trouble !== undefined) return work();
      const before = await this.#state();
      const result = await work();
      effect.wrote ||= before !== (await this.#state());
      return result;
    }
    this.happened = true;
    const { afterSteps } = trouble;
    if (afterSteps === 'all') await work().catch(() => undefined);
    else if (afterSteps > 0) await work(afterSteps).catch(() => undefined);
    this.kill();
    return never();
  }

  /** Moves with every write of the store, and with every claim of the vmDir. */
  async #state(): Promise<string> {
    const { resourceVersion } = await this.store.list('VirtualMachineMonitor');
    return `${resourceVersion} ${this.world.vmDirs.get(VM_DIR)?.marker}`;
  }

  async #read<T>(what: string, now: () => Promise<T>, past: (store: Store) => Promise<T>): Promise<T> {
    const index = this.reads.length;
    const trouble = this.#trouble;
    const answer = JSON.stringify;
    const before = (writes: number) => this.#pasts.at(-1 - writes);
    const differs: number[] = [];
    if (trouble === undefined) {
      for (const writes of LATE_BY) {
        const then = before(writes);
        if (then !== undefined && answer(await past(then)) !== answer(await now())) differs.push(writes);
      }
    }
    this.reads.push({ what, differs });
    if (trouble?.type !== 'late' || trouble.read !== index) return now();
    this.happened = true;
    const then = before(trouble.byWrites);
    return then === undefined ? now() : past(then);
  }

  #tells(event: WatchEvent): boolean {
    const index = this.events.length;
    this.events.push(event.type === 'BOOKMARK' ? event.type : `${event.type} ${event.object.kind}`);
    const drop = this.#trouble?.type === 'missed' && this.#trouble.event === index;
    this.happened ||= drop;
    return !drop;
  }

  /** Keeps what the store holds after each write, for those who are served it late. */
  async #noting<T>(work: () => Promise<T>): Promise<T> {
    const serves = this.#trouble === undefined || (this.#trouble.type === 'late' && !this.happened);
    if (!serves) return work();
    const before = await this.#state();
    const result = await work();
    if (before !== (await this.#state())) this.#pasts.push(await snapshotOf(this.store));
    return result;
  }

  /** A person's write. */
  person<T>(work: () => Promise<T>): Promise<T> {
    return this.#noting(work);
  }

  createVm(spec: Fields = {}, annotations: Readonly<Record<string, string>> = {}): Promise<unknown> {
    const document = vmDocument({ hostName: 'localhost', ...spec }, { annotations });
    return this.person(() => this.store.create(parseManifest(document) as Manifest<'VirtualMachine'>));
  }

  async vm(name = 'web-1'): Promise<VirtualMachine | undefined> {
    return this.store.get('VirtualMachine', { namespace: 'default', name });
  }

  edit(patch: ObjectPatch, name = 'web-1'): Promise<unknown> {
    return this.person(() => this.store.patch('VirtualMachine', { namespace: 'default', name }, patch));
  }

  remove(name = 'web-1'): Promise<unknown> {
    return this.person(() => this.store.delete('VirtualMachine', { namespace: 'default', name }));
  }

  /** The object goes, its folder and process stay. */
  async orphan(): Promise<unknown> {
    await this.edit({ metadata: { annotations: { [ANNOTATIONS.orphan]: '' } } });
    return this.remove();
  }

  /** Time passes; where the controller was killed, another one is started at once and has as much time. */
  async pass(ms: number): Promise<void> {
    await this.clock.advance(ms, () => this.#controller === undefined);
    if (this.#controller !== undefined) return;
    this.startController();
    await this.clock.advance(ms);
  }

  async end(): Promise<void> {
    this.kill();
    await this.store.close();
  }
}

/** What a cache of the store as it is now would serve later. */
async function snapshotOf(store: Store): Promise<Store> {
  const lists = new Map(await Promise.all(KINDS.map(async (kind) => [kind, await store.list(kind)] as const)));
  const past = {
    list: async (kind: Kind) => lists.get(kind),
    get: async (kind: Kind, { name, namespace }: ObjectRef) =>
      lists.get(kind)?.items.find(({ metadata }) => metadata.name === name && metadata.namespace === namespace),
  };
  return past as unknown as Store;
}
