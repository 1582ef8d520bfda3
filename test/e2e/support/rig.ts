/** One controller with its store, vmDir and VMs: real QEMU on this machine, through the real loop. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Subscription } from 'rxjs';
import { type Manifest, parseManifest } from '../../../src/api/admission.ts';
import { findCondition } from '../../../src/api/conditions.ts';
import type { Host } from '../../../src/api/host.ts';
import { ANNOTATIONS, API_VERSION } from '../../../src/api/meta.ts';
import type { VirtualMachine } from '../../../src/api/virtual-machine.ts';
import type { Shell } from '../../../src/host/shell.ts';
import { QemuDriver, type QemuDriverOptions } from '../../../src/qemu/driver.ts';
import { runController } from '../../../src/reconcile/controller.ts';
import type { HostLoopOptions } from '../../../src/reconcile/host-loop.ts';
import type { ControllerEvent } from '../../../src/reconcile/loop-event.ts';
import { createMemoryStore } from '../../../src/store/memory-store.ts';
import type { SecretReader, Store } from '../../../src/store/store.ts';
import { writeSparseTiny } from './images.ts';
import { kill, processesNaming } from './process.ts';
import { TestShell } from './stand-ins.ts';
import { DEADLINE_MS, until } from './wait.ts';

type Fields = Readonly<Record<string, unknown>>;
export type OnFinished = (work: () => Promise<void>) => void;

export interface RigOptions {
  /** Taken over from another rig; default: a new one. */
  readonly store?: Store;
  readonly root?: string;
  readonly vmDir?: string;
  readonly host?: Fields;
  readonly driver?: QemuDriverOptions;
  readonly shell?: Shell;
  readonly loop?: Partial<HostLoopOptions>;
  readonly secrets?: SecretReader;
  /** Somebody else runs the loop. */
  readonly controller?: 'none';
}

/** Small VMs, no network, everything looked at again soon. */
const SMALL = { hostName: 'localhost', architecture: 'x86_64', vcpus: 1, memory: '32Mi', networks: [] };
const QUICK = { resyncMs: 1_000, failureBackoffMs: { first: 300, max: 2_000 } };

/** A folder for one test, removed when it has ended, with every process that names it. */
export function testFolder(onFinished: OnFinished): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'qo-')));
  onFinished(async () => {
    await until(
      'processes end',
      () => processesNaming(folder),
      (pids) => {
        for (const pid of pids) kill(pid, 'SIGKILL');
        return pids.length === 0;
      },
    );
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}

export class Rig {
  readonly root: string;
  readonly vmDir: string;
  readonly store: Store;
  readonly events: ControllerEvent[] = [];
  readonly #options: RigOptions;
  #subscription: Subscription | undefined;

  private constructor(root: string, options: RigOptions) {
    this.root = root;
    this.vmDir = options.vmDir ?? join(root, 'vms');
    this.store = options.store ?? createMemoryStore();
    this.#options = options;
  }

  /** A store with this machine as Host, and a controller that runs. */
  static async start(onFinished: OnFinished, options: RigOptions = {}): Promise<Rig> {
    const rig = new Rig(options.root ?? testFolder(onFinished), options);
    onFinished(async () => {
      await rig.stopController();
      if (options.store === undefined) await rig.store.close();
    });
    mkdirSync(join(rig.root, 'images'), { recursive: true });
    if (options.store === undefined) await rig.addHost('localhost', rig.vmDir, options.host);
    if (options.controller !== 'none') rig.startController();
    return rig;
  }

  startController(): void {
    const { driver = {}, shell, loop, secrets } = this.#options;
    this.#subscription = runController({
      store: this.store,
      driverFor: () => new QemuDriver(shell ?? new TestShell(), driver),
      options: { ...QUICK, ...loop },
      ...(secrets === undefined ? {} : { secrets }),
    }).subscribe((event) => this.events.push(event));
  }

  async stopController(): Promise<void> {
    this.#subscription?.unsubscribe();
    this.#subscription = undefined;
    // A script that was under way is killed with its process group.
    await until(
      'scripts end',
      () => processesNaming(this.root).filter((pid) => isScript(pid)),
      (pids) => pids.length === 0,
    );
  }

  /** A further Host of its store: this machine, with another vmDir. */
  async addHost(name: string, vmDir: string, more: Fields = {}): Promise<void> {
    const spec = { local: {}, vmDir, allowedPaths: ['/'], metricsIntervalSeconds: 0, ...more };
    await this.store.create(manifest('Host', { name }, spec) as Manifest<'Host'>);
  }

  path(...parts: string[]): string {
    return join(this.root, ...parts);
  }

  folder(name: string): string {
    return join(this.vmDir, name);
  }

  /** Without disks of its own: an existing one that boots the tiny guest. */
  async create(
    name: string,
    spec: Fields = {},
    annotations: Readonly<Record<string, string>> = {},
  ): Promise<VirtualMachine> {
    const own = 'disks' in spec ? {} : { disks: [this.tiny(name)] };
    const metadata = { name, namespace: 'default', annotations };
    return this.store.create(
      manifest('VirtualMachine', metadata, { ...SMALL, ...own, ...spec }) as Manifest<'VirtualMachine'>,
    );
  }

  /** Entry of spec.disks: an existing raw disk with the tiny guest. */
  tiny(name: string): { name: string; path: string; format: 'raw' } {
    return { name: 'root', path: writeSparseTiny(this.path('images', `${name}.raw`)), format: 'raw' };
  }

  async edit(name: string, spec: Fields): Promise<void> {
    await this.store.patch('VirtualMachine', { namespace: 'default', name }, { spec });
  }

  async annotate(name: string, key: keyof typeof ANNOTATIONS, value: string | null): Promise<void> {
    const annotations = { [ANNOTATIONS[key]]: value };
    await this.store.patch('VirtualMachine', { namespace: 'default', name }, { metadata: { annotations } });
  }

  async delete(name: string): Promise<void> {
    await this.store.delete('VirtualMachine', { namespace: 'default', name });
  }

  async vm(name: string): Promise<VirtualMachine> {
    const vm = await this.store.get('VirtualMachine', { namespace: 'default', name });
    if (vm === undefined) throw new Error(`${name} is gone`);
    return vm;
  }

  async host(): Promise<Host> {
    const host = await this.store.get('Host', { name: 'localhost' });
    if (host === undefined) throw new Error('localhost is gone');
    return host;
  }

  /** Waits for a status of the newest spec that satisfies. */
  until(
    name: string,
    what: string,
    satisfies: (vm: VirtualMachine) => boolean,
    deadlineMs = DEADLINE_MS,
  ): Promise<VirtualMachine> {
    const fresh = (vm: VirtualMachine) => vm.status?.observedGeneration === vm.metadata.generation;
    return until(
      `${name}: ${what}`,
      () => this.vm(name),
      (vm) => fresh(vm) && satisfies(vm),
      deadlineMs,
    );
  }

  untilReason(name: string, reason: string, deadlineMs?: number): Promise<VirtualMachine> {
    return this.until(name, `Ready has reason ${reason}`, (vm) => readyOf(vm)?.reason === reason, deadlineMs);
  }

  /** Ready is True for this reason. */
  untilSettled(name: string, reason: 'Stopped' | 'GuestPoweredOff', deadlineMs?: number): Promise<VirtualMachine> {
    const settled = (vm: VirtualMachine) => readyOf(vm)?.status === 'True' && readyOf(vm)?.reason === reason;
    return this.until(name, reason, settled, deadlineMs);
  }

  /** Ready and Running; resolves to the pid. */
  async untilRunning(name: string, deadlineMs?: number): Promise<number> {
    const running = (vm: VirtualMachine) => readyOf(vm)?.status === 'True' && readyOf(vm)?.reason === 'Running';
    const vm = await this.until(name, 'Running', running, deadlineMs);
    return Number(vm.status?.pid);
  }

  /** Running under another process than before. */
  async untilRestarted(name: string, former: number, deadlineMs?: number): Promise<number> {
    const again = (vm: VirtualMachine) => readyOf(vm)?.reason === 'Running' && vm.status?.pid !== former;
    return Number((await this.until(name, `another process than ${former}`, again, deadlineMs)).status?.pid);
  }

  async untilGone(name: string, deadlineMs?: number): Promise<void> {
    await until(
      `${name} is gone`,
      () => this.store.get('VirtualMachine', { namespace: 'default', name }),
      (vm) => vm === undefined,
      deadlineMs,
    );
  }

  /** What the guest printed on its serial port so far. */
  console(name: string): string {
    const file = join(this.folder(name), 'console.log');
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  }

  async untilPrinted(name: string, text: string | RegExp, deadlineMs?: number): Promise<string> {
    const printed = (heard: string) => (typeof text === 'string' ? heard.includes(text) : text.test(heard));
    return until(`${name} prints ${text}`, () => this.console(name), printed, deadlineMs);
  }

  /** Actions on a VM so far, in order. */
  actions(name: string): string[] {
    return this.events.flatMap((event) =>
      event.type === 'action' && event.vm === `default/${name}` ? [event.action.type] : [],
    );
  }

  /** Resolves when the loop has looked at everything once more than now. */
  async anotherLook(): Promise<void> {
    const passes = () => this.events.filter(({ type }) => type === 'pass').length;
    const before = passes();
    await until('another look', passes, (count) => count >= before + 2);
  }
}

function isScript(pid: number): boolean {
  try {
    return /^(sh|qemu-img)$/.test(readFileSync(`/proc/${pid}/comm`, 'utf8').trim());
  } catch {
    return false;
  }
}

export function manifest(kind: string, metadata: Fields, spec: Fields): Manifest {
  return parseManifest({ apiVersion: API_VERSION, kind, metadata, spec });
}

export function readyOf(vm: VirtualMachine) {
  return findCondition(vm.status?.conditions, 'Ready');
}

export function conditionOf(vm: VirtualMachine | Host, type: string) {
  return findCondition(vm.status?.conditions, type);
}
