/** The HostDriver over a SimulatedWorld: what the real one sees and does, with faults at will and a journal. */
import { type Observable, Subject } from 'rxjs';
import { type EffectiveSpec, FOLDER_FILES } from '../../src/api/effective-spec.ts';
import type { Sample } from '../../src/api/virtual-machine-monitor.ts';
import type { HostAction, VmAction } from '../../src/reconcile/action.ts';
import {
  EffectError,
  FencedError,
  type HostContext,
  type HostDriver,
  type HostEvent,
  type LookRequest,
  type VmContext,
} from '../../src/reconcile/driver.ts';
import type { HeardEnd, Look, SeenFile, SeenFolder, SeenProcess } from '../../src/reconcile/observed.ts';
import { markerText, parseMarker, parseRecord, parseStopMarker } from '../../src/reconcile/record.ts';
import { type Step, stepsOf } from './simulated-effects.ts';
import type { SimulatedWorld, WorldEvent } from './simulated-world.ts';

/** An effect that took place, at least in part. */
export interface JournalEntry {
  readonly session: number;
  readonly epoch: number;
  readonly folder: string;
  readonly uid: string;
  readonly action: VmAction;
  /** Of how many steps it is. */
  readonly steps: number;
}

/** Where an effect is cut: after this many of its steps the connection is lost. */
export type Fault = (action: VmAction) => { readonly afterSteps: number } | 'done-but-lost' | undefined;

export interface SimulatedHostOptions {
  readonly world: SimulatedWorld;
  readonly journal?: JournalEntry[];
  readonly fault?: Fault;
  /** Waited for before each effect and each look: a test's way to let others go first. */
  readonly pause?: (what: VmAction['type'] | HostAction['type'] | 'look') => Promise<void>;
}

const QMP_ACTIONS: ReadonlySet<VmAction['type']> = new Set<VmAction['type']>(['resume']);
let sessions = 0;

export class SimulatedHost implements HostDriver {
  readonly journal: JournalEntry[];
  readonly sampled: (readonly string[])[] = [];
  readonly session: number;
  fault: Fault | undefined;
  /** Events get lost. */
  deaf = false;
  readonly #world: SimulatedWorld;
  readonly #pause: NonNullable<SimulatedHostOptions['pause']>;
  readonly #epochs = new Map<string, number>();
  /** Folders whose monitor this driver listens to, with the pid behind it. */
  readonly #listening = new Map<string, number>();
  readonly #heard = new Map<string, HeardEnd>();
  readonly #events$ = new Subject<HostEvent>();
  #ended = false;
  readonly events$: Observable<HostEvent> = this.#events$.asObservable();
  readonly #subscription;

  constructor({ world, journal = [], fault, pause = async () => undefined }: SimulatedHostOptions) {
    sessions += 1;
    this.session = sessions;
    this.#world = world;
    this.journal = journal;
    this.fault = fault;
    this.#pause = pause;
    this.#subscription = world.events$.subscribe((event) => this.#onEvent(event));
  }

  #onEvent(event: WorldEvent): void {
    if (event.type === 'session-ended') {
      if (event.session === this.session) this.#ended = true;
      return;
    }
    if (this.deaf || this.#ended || !this.#listening.has(event.folder)) return;
    if (event.heard !== undefined) this.#heard.set(event.folder, event.heard);
    this.#events$.next({ folder: event.folder, event: event.event });
  }

  async look(request: LookRequest, signal: AbortSignal): Promise<Look> {
    await this.#pause('look');
    signal.throwIfAborted();
    const world = this.#world;
    if (!world.reachable)
      return { kind: 'cannot-see', reason: 'HostUnreachable', message: 'connect: no route to host' };
    world.settleGuests();
    const asked = new Set(request.vms.map(({ folder }) => folder));
    const paths = new Set([
      ...request.paths,
      ...request.vms.flatMap(({ disks, launch, folder }) => [
        ...disks.flatMap(({ path, image }) => (image?.path === undefined ? path : [path, image.path])),
        ...launch.cdroms.map(({ path }) => path),
        folder,
      ]),
    ]);
    const foldersIn = (vmDirs: readonly string[]) => {
      const there = [...world.folders.keys()].filter(
        (path) => vmDirs.includes(parentOf(path)) && !world.isHidden(path),
      );
      return new Map(there.map((path) => [path, this.#folder(path, asked.has(path))]));
    };
    const folders = foldersIn(request.vmDirs);
    const foreignFolders = foldersIn(request.foreignVmDirs ?? []);
    const owned = new Set(
      [...folders.values(), ...foreignFolders.values()].flatMap(({ process }) =>
        process.kind === 'present' ? process.pid : [],
      ),
    );
    return {
      kind: 'seen',
      host: {
        at: world.at,
        bootID: world.bootID,
        machineID: world.machineID,
        roundTripMs: 5,
        vmDirs: new Map(request.vmDirs.map((path) => [path, this.#vmDir(path)])),
        folders,
        foreignFolders,
        files: new Map([...paths].map((path) => [path, this.#file(path)])),
        ports: world.ports(),
        bridges: new Map([...world.bridges].map(([name, ports]) => [name, { mtu: 1500, ports: new Set(ports) }])),
        strangers: [...world.processes.values()]
          .filter(({ pid }) => !owned.has(pid))
          .map(({ pid }) => ({ name: 'stranger', architecture: 'x86_64', pid })),
        facts: world.facts,
      },
    };
  }

  #vmDir(path: string) {
    const found = this.#world.vmDirs.get(path);
    const state =
      found === undefined ? ('absent' as const) : found.writable ? ('present' as const) : ('not-writable' as const);
    return { path, state, marker: parseMarker(found?.mounted === true ? found.marker : undefined) };
  }

  #folder(path: string, asked: boolean): SeenFolder {
    const folder = this.#world.folders.get(path) ?? { log: '' };
    const { record, stop, log, pidfile, seed } = folder;
    const prefix = `${path}/`;
    return {
      path,
      vmDir: parentOf(path),
      name: path.slice(parentOf(path).length + 1),
      record: parseRecord(record),
      stop: parseStopMarker(stop),
      entries: [
        ...(record === undefined ? [] : ['.qemu-operator.json']),
        ...(seed === undefined ? [] : [FOLDER_FILES.seed]),
        ...[...this.#world.files.keys()]
          .filter((file) => file.startsWith(prefix))
          .map((file) => file.slice(prefix.length)),
      ],
      process: this.#process(path, asked, pidfile),
      job: folder.job === undefined ? undefined : this.#world.jobAt(folder),
      logTail: asked ? log : '',
    };
  }

  #process(folder: string, asked: boolean, pidfile: number | undefined): SeenProcess {
    const process = pidfile === undefined ? undefined : this.#world.processes.get(pidfile);
    if (process === undefined) return { kind: 'absent', pidfileLeft: pidfile !== undefined };
    const { pid, startTicks, startedAt, silent, diskBytes, agent } = process;
    const identity = { kind: 'present', pid, startTicks, startedAt } as const;
    if (silent || this.#ended) return { ...identity, guest: 'silent' };
    if (!asked) return { ...identity, guest: 'not-asked' };
    if (this.#listening.get(folder) !== pid) this.#heard.delete(folder);
    this.#listening.set(folder, pid);
    const addresses = new Map(
      agent.kind === 'connected' ? process.spec.networks.map(({ name }) => [name, ['10.0.2.15']]) : [],
    );
    const { guest } = process;
    return { ...identity, guest, diskBytes: new Map(diskBytes), machine: 'pc-q35-10.0', agent, addresses };
  }

  #file(path: string): SeenFile {
    const world = this.#world;
    const resolved = world.resolve(path);
    if (world.folders.has(resolved) || world.vmDirs.has(resolved))
      return { kind: 'present', resolved, type: 'other', readable: true, actualBytes: 0 };
    const file = world.isHidden(resolved) ? undefined : world.files.get(resolved);
    if (file === undefined)
      return { kind: 'absent', parent: world.folderExists(parentOf(resolved)) ? 'present' : 'absent', resolved };
    const { content: _content, ...fields } = file;
    return { kind: 'present', resolved, ...fields, actualBytes: 4096, freeBytes: world.freeBytes };
  }

  async execute(action: VmAction, context: VmContext, signal: AbortSignal): Promise<void> {
    await this.#pause(action.type);
    signal.throwIfAborted();
    const epoch = this.#mayAct(context.wanted.vmDir, action.type);
    const steps = stepsOf(action, context, this.#world);
    const { folder } = context.wanted;
    this.journal.push({ session: this.session, epoch, folder, uid: context.uid, action, steps: steps.length });
    this.#perform(action, steps);
  }

  /** Of how many steps an effect would be now. */
  stepsOf(action: VmAction, context: VmContext): number {
    return stepsOf(action, context, this.#world).length;
  }

  /** The fence of every script; a monitor has none, but its connection ends with the session. */
  #mayAct(vmDir: string, type: VmAction['type']): number {
    const epoch = this.#epochs.get(vmDir);
    if (epoch === undefined) throw new EffectError('InternalError', `${vmDir} is not claimed by this controller`);
    if (!this.#world.reachable) throw new Error('connect: no route to host');
    if (QMP_ACTIONS.has(type)) {
      if (this.#ended) throw new Error('the monitor was closed');
      return epoch;
    }
    const { marker } = this.#vmDir(vmDir);
    if (marker.kind !== 'readable' || marker.marker.epoch !== epoch)
      throw new FencedError(`the vmDir is at another epoch, this controller at ${epoch}`);
    return epoch;
  }

  #perform(action: VmAction, steps: readonly Step[]): void {
    const fault = this.fault?.(action);
    const cut = fault === undefined || fault === 'done-but-lost' ? steps.length : fault.afterSteps;
    for (const step of steps.slice(0, cut)) step();
    if (fault !== undefined) throw new Error('the connection was lost');
  }

  async executeOnHost(action: HostAction, { storeUID, hostUID }: HostContext, signal: AbortSignal): Promise<void> {
    await this.#pause(action.type);
    signal.throwIfAborted();
    const world = this.#world;
    const { vmDir } = action;
    if (!world.reachable) throw new Error('connect: no route to host');
    const found = world.vmDirs.get(vmDir) ?? { mounted: true, writable: true };
    const line = found.mounted ? found.marker : undefined;
    if (action.type === 'unclaim') {
      const epoch = this.#epochs.get(vmDir);
      this.#epochs.delete(vmDir);
      if (epoch === undefined) return;
      const { marker } = this.#vmDir(vmDir);
      if (marker.kind === 'readable' && marker.marker.epoch !== epoch) throw new FencedError('another epoch');
      found.marker = undefined;
      return;
    }
    if (!found.mounted && found.marker !== undefined) world.violations.push(`${vmDir} was claimed below its mount`);
    if (line !== action.seen?.line) throw new EffectError('LaunchFailed', `the marker of ${vmDir} changed meanwhile`);
    const epoch = (action.seen?.marker.epoch ?? 0) + 1;
    const former = action.seen?.marker.session?.pid;
    if (former !== undefined && former !== this.session) world.events$.next({ type: 'session-ended', session: former });
    found.marker = markerText({ storeUID, hostUID, epoch, session: { pid: this.session, startTicks: 1 } });
    world.vmDirs.set(vmDir, found);
    this.#epochs.set(vmDir, epoch);
  }

  epoch(vmDir: string): number | undefined {
    return this.#epochs.get(vmDir);
  }

  heardEnd(folder: string): HeardEnd | undefined {
    return this.#heard.get(folder);
  }

  async sample(vms: readonly EffectiveSpec[], series: string): Promise<ReadonlyMap<string, Sample>> {
    this.sampled.push([series, ...vms.map(({ vmName }) => vmName)]);
    if (!this.#world.reachable) throw new Error('connect: no route to host');
    const at = new Date(this.#world.at).toISOString();
    const running = vms.filter(({ folder }) => this.#world.processIn(folder) !== undefined);
    return new Map(
      running.map(({ folder }) => [
        folder,
        { at, intervalSeconds: 1, cpu: { percent: 7 }, memory: { residentBytes: 1 }, disks: [], networks: [] },
      ]),
    );
  }

  async close(): Promise<void> {
    this.#subscription.unsubscribe();
    this.#events$.complete();
  }
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}
