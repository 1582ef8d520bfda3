/** A whole installation in virtual time: a memory store, a simulated host, and the real loop between them. */
import type { Subscription } from 'rxjs';
import { parseManifest } from '../../src/api/admission.ts';
import type { Host } from '../../src/api/host.ts';
import { hostShutdownValue } from '../../src/api/host-shutdown.ts';
import { ANNOTATIONS } from '../../src/api/meta.ts';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import type { VmAction } from '../../src/reconcile/action.ts';
import { HostLoop, type HostLoopOptions } from '../../src/reconcile/host-loop.ts';
import type { LoopEvent } from '../../src/reconcile/loop-event.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import type { ObjectPatch, SecretReader, Store } from '../../src/store/store.ts';
import { hostDocument, vmDocument } from './manifests.ts';
import { type Fault, type JournalEntry, SimulatedHost } from './simulated-host.ts';
import { SimulatedWorld } from './simulated-world.ts';
import { VirtualClock } from './virtual-clock.ts';

export const VM_DIR = '/vms';
type Fields = Readonly<Record<string, unknown>>;

export interface Controller {
  readonly loop: HostLoop;
  readonly driver: SimulatedHost;
  readonly subscription: Subscription;
}

export interface ControllerOptions extends Partial<HostLoopOptions> {
  readonly fault?: Fault;
  readonly pause?: (what: string) => Promise<void>;
}

export class Simulation {
  readonly clock = new VirtualClock();
  readonly world = new SimulatedWorld(() => this.clock.now());
  readonly store: Store = createMemoryStore();
  /** What the only Secret holds; undefined: there is none. */
  secret: string | undefined;
  readonly secrets: { -readonly [F in keyof SecretReader]: SecretReader[F] } = {
    operatorNamespace: '',
    read: async () => (this.secret === undefined ? undefined : Buffer.from(this.secret)),
    setCommand: ({ name, key }) => `set ${name} ${key}`,
    follow: () => () => undefined,
  };
  readonly journal: JournalEntry[] = [];
  readonly events: LoopEvent[] = [];
  /** Changes of the store reach nobody. */
  dropWakes = false;
  #controllers: Controller[] = [];

  constructor() {
    this.world.vmDirs.set(VM_DIR, { mounted: true, writable: true });
  }

  static async withHost(spec: Fields = {}): Promise<Simulation> {
    const simulation = new Simulation();
    const document = hostDocument({ local: {}, vmDir: VM_DIR, allowedPaths: ['/'], allowedBridges: ['*'], ...spec });
    await simulation.store.create(parseManifest(document));
    return simulation;
  }

  get controller(): Controller {
    const last = this.#controllers.at(-1);
    if (last === undefined) throw new Error('no controller runs');
    return last;
  }

  /** A new controller; those that run already go on. */
  startController({ fault, pause, ...options }: ControllerOptions = {}): Controller {
    const driver = new SimulatedHost({
      world: this.world,
      journal: this.journal,
      ...(fault === undefined ? {} : { fault }),
      ...(pause === undefined ? {} : { pause }),
    });
    const { store, clock: scheduler, secrets } = this;
    const loop = new HostLoop({ store, secrets, driver, hostName: 'localhost', scheduler, options });
    const subscription = loop.run().subscribe((event) => this.events.push(event));
    const controller = { loop, driver, subscription };
    this.#controllers.push(controller);
    return controller;
  }

  /** The process dies: what it held in memory is gone. */
  crash(controller: Controller = this.controller): void {
    this.#controllers = this.#controllers.filter((one) => one !== controller);
    controller.subscription.unsubscribe();
    void controller.driver.close();
  }

  /** What a watch of the store would tell. */
  wake(key?: string): void {
    if (this.dropWakes) return;
    for (const { loop } of this.#controllers) loop.wake(key);
  }

  async createVm(spec: Fields = {}, metadata: Fields = {}): Promise<VirtualMachine> {
    const document = vmDocument({ hostName: 'localhost', ...spec }, metadata);
    const vm = (await this.store.create(parseManifest(document))) as VirtualMachine;
    this.wake(`default/${vm.metadata.name}`);
    return vm;
  }

  async vm(name = 'web-1'): Promise<VirtualMachine | undefined> {
    return this.store.get('VirtualMachine', { namespace: 'default', name });
  }

  async host(): Promise<Host> {
    const host = await this.store.get('Host', { name: 'localhost' });
    if (host === undefined) throw new Error('the Host is gone');
    return host;
  }

  async edit(patch: ObjectPatch, name = 'web-1'): Promise<void> {
    await this.store.patch('VirtualMachine', { namespace: 'default', name }, patch);
    this.wake(`default/${name}`);
  }

  /** @param leftMs until guests that still run are switched off; null: the host does not shut down */
  async shutDownHost(leftMs: number | null): Promise<void> {
    const value = leftMs === null ? null : hostShutdownValue(this.world.bootID, this.world.at + leftMs);
    const patch = { metadata: { annotations: { [ANNOTATIONS.hostShutdown]: value } } };
    await this.store.patch('Host', { name: 'localhost' }, patch);
    this.wake();
  }

  async annotate(annotation: keyof typeof ANNOTATIONS, value: string | null, name = 'web-1'): Promise<void> {
    await this.edit({ metadata: { annotations: { [ANNOTATIONS[annotation]]: value } } }, name);
  }

  async remove(name = 'web-1'): Promise<void> {
    await this.store.delete('VirtualMachine', { namespace: 'default', name });
    this.wake(`default/${name}`);
  }

  /** Virtual time passes. */
  async pass(ms: number): Promise<void> {
    await this.clock.advance(ms);
  }

  /** The revision of the whole store: it moves with every write. */
  async revision(): Promise<string> {
    return (await this.store.list('VirtualMachine')).resourceVersion;
  }

  count(type: VmAction['type']): number {
    return this.journal.filter(({ action }) => action.type === type).length;
  }

  async end(): Promise<void> {
    for (const controller of [...this.#controllers]) this.crash(controller);
    await this.store.close();
  }
}

export function folderOf(name = 'web-1'): string {
  return `${VM_DIR}/${name}`;
}
