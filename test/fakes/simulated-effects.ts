/**
 * What each action does to a simulated host, as the steps of the real scripts (qemu/scripts.ts): an interruption may
 * come between any two of them.
 */
import { digestOf } from '../../src/api/cloud-init.ts';
import { type EffectiveDisk, forwardsOf, type LaunchSpec, launchDigest } from '../../src/api/effective-spec.ts';
import type { HostForward } from '../../src/api/networks.ts';
import type { VmAction } from '../../src/reconcile/action.ts';
import { EffectError, type VmContext } from '../../src/reconcile/driver.ts';
import {
  allocatedPorts,
  type DiskRecord,
  type OwnershipRecord,
  RECORD_VERSION,
  reclaimOf,
  recordText,
  type StopMarker,
  withRefusals,
} from '../../src/reconcile/record.ts';
import { noted, withDisk } from './simulated-records.ts';
import { IMAGE_BYTES, type SimulatedFolder, type SimulatedProcess, type SimulatedWorld } from './simulated-world.ts';

export type Step = () => void;
type Of<T extends VmAction['type']> = Extract<VmAction, { type: T }>;

/** @throws EffectError, at once or from a step */
export function stepsOf(action: VmAction, context: VmContext, world: SimulatedWorld): Step[] {
  return new Effects(context, world).steps(action);
}

function withForwards(spec: LaunchSpec, network: string, list: readonly HostForward[]): LaunchSpec {
  const networks = spec.networks.map(({ forwards: before, ...one }) => {
    const now = one.name === network ? list : (before ?? []);
    return now.length === 0 ? one : { ...one, forwards: now };
  });
  return { ...spec, networks };
}

class Effects {
  readonly #context: VmContext;
  readonly #world: SimulatedWorld;

  constructor(context: VmContext, world: SimulatedWorld) {
    this.#context = context;
    this.#world = world;
  }

  steps(action: VmAction): Step[] {
    switch (action.type) {
      case 'claim-folder':
        return this.#claimFolder();
      case 'create-disk':
        return this.#createDisk(action);
      case 'start-copy':
        return this.#startCopy(action);
      case 'finish-copy':
        return this.#finishCopy(action);
      case 'cancel-copy':
        return this.#cancelCopy(action);
      case 'grow-disk':
      case 'grow-disk-live':
        return this.#grow(action);
      case 'launch':
        return this.#launch(action);
      case 'forward':
        return this.#forward(action);
      case 'join-bridge':
        return [() => this.#join(action)];
      case 'resume':
        return [() => this.#resume()];
      case 'stop':
        return this.#stop(action);
      case 'withdraw-stop':
        return [() => this.#withdrawStop()];
      case 'note-end':
        return this.#noteEnd(action);
      case 'remove-files':
        return this.#removeFiles(action);
      default:
        return [() => this.#write(noted(action, this.#record, this.#context))];
    }
  }

  get #path(): string {
    return this.#context.wanted.folder;
  }

  get #folder(): SimulatedFolder {
    const folder = this.#world.folders.get(this.#path);
    if (folder === undefined) throw new EffectError('LaunchFailed', `${this.#path} does not exist`);
    return folder;
  }

  get #record(): OwnershipRecord {
    const { record, spec } = this.#context;
    if (record === undefined) throw new EffectError('InternalError', `${this.#path} has no record`);
    return { ...record, spec };
  }

  #write(record: OwnershipRecord): void {
    this.#folder.record = recordText(record);
  }

  #claimFolder(): Step[] {
    const { uid, storeUID, namespace, name, wanted, spec } = this.#context;
    return [
      () => {
        if (this.#world.isHidden(this.#path)) throw new EffectError('LaunchFailed', 'no such file or directory');
        if (!this.#world.folders.has(this.#path)) this.#world.folders.set(this.#path, { log: '' });
      },
      () => {
        if (this.#folder.record !== undefined) throw new EffectError('LaunchFailed', 'the record appeared meanwhile');
        const { uuid } = wanted.launch;
        this.#write({
          recordVersion: RECORD_VERSION,
          uid,
          storeUID,
          namespace,
          name,
          uuid,
          spec,
          disks: {},
          restarts: 0,
        });
      },
    ];
  }

  #createDisk({ disk }: Of<'create-disk'>): Step[] {
    const world = this.#world;
    const record = this.#record;
    const resumed = record.disks[disk.name]?.state === 'creating';
    const there = world.files.get(disk.path);
    if (there !== undefined) return resumed ? [this.#judge(disk)] : [];
    return [
      () => this.#write(withDisk(record, disk.name, { ...entryOf(disk), state: 'creating' })),
      () => {
        if (world.freeBytes < 1024) throw new EffectError('InsufficientStorage', 'No space left on device');
        this.#make(disk, disk.sizeBytes ?? 0);
      },
      () => this.#write(withDisk(record, disk.name, { ...entryOf(disk), state: 'created' })),
    ];
  }

  /** A file that lies where a creation was interrupted: ours, or somebody's. */
  #judge(disk: EffectiveDisk): Step {
    const ours = this.#world.files.get(disk.path)?.content.startsWith('us') === true;
    return () =>
      this.#write(
        ours
          ? withDisk(this.#record, disk.name, { ...entryOf(disk), state: 'created' })
          : noted({ type: 'forget-disk', disk: disk.name }, this.#record, this.#context),
      );
  }

  #make(disk: EffectiveDisk, virtualBytes: number): void {
    const world = this.#world;
    if (world.files.has(disk.path)) throw new EffectError('LaunchFailed', 'File exists');
    world.made.push(`${this.#context.uid}/${disk.name}`);
    world.files.set(disk.path, {
      type: 'file',
      format: disk.format,
      virtualBytes,
      content: world.newContent('us'),
      readable: true,
    });
  }

  #startCopy({ disk, image, bootID, attempt, nonce }: Of<'start-copy'>): Step[] {
    const world = this.#world;
    return [
      () => this.#write(withDisk(this.#record, disk.name, { ...entryOf(disk), state: 'creating' })),
      () => {
        if (this.#folder.job !== undefined && world.jobAt(this.#folder).running)
          world.violations.push(`two jobs in ${this.#path}`);
        this.#folder.job = {
          disk: disk.name,
          attempt,
          bootID,
          ...(nonce === undefined ? {} : { nonce }),
          startedAt: world.at,
          image: image.url ?? image.path ?? '',
        };
      },
    ];
  }

  #finishCopy({ disk }: Of<'finish-copy'>): Step[] {
    if (this.#world.files.has(disk.path)) return [this.#judge(disk), () => this.#clearJob()];
    return [
      () => this.#make(disk, Math.max(disk.sizeBytes ?? 0, IMAGE_BYTES)),
      () => this.#write(withDisk(this.#record, disk.name, { ...entryOf(disk), state: 'created' })),
      () => this.#clearJob(),
    ];
  }

  #cancelCopy({ job }: Of<'cancel-copy'>): Step[] {
    const unfinished = this.#record.disks[job.disk]?.state === 'creating';
    return [
      () => this.#clearJob(),
      () => {
        if (unfinished) this.#write(noted({ type: 'forget-disk', disk: job.disk }, this.#record, this.#context));
      },
    ];
  }

  #clearJob(): void {
    this.#folder.job = undefined;
  }

  #grow({ disk, toBytes, type }: Of<'grow-disk'> | Of<'grow-disk-live'>): Step[] {
    const noted = this.#record.disks[disk.name];
    return [
      () => {
        const file = this.#world.files.get(disk.path);
        if (file === undefined) throw new EffectError('LaunchFailed', `${disk.path}: No such file`);
        if (type === 'grow-disk-live') this.#answering().diskBytes.set(disk.name, toBytes);
        if (file.virtualBytes < toBytes) file.virtualBytes = toBytes;
      },
      () => {
        if (noted !== undefined) this.#write(withDisk(this.#record, disk.name, { ...noted, sizeBytes: toBytes }));
      },
    ];
  }

  /** The process behind the monitor. */
  #answering(): SimulatedProcess {
    const process = this.#world.processIn(this.#path);
    if (process === undefined || process.silent) throw new EffectError('LaunchFailed', 'the monitor does not answer');
    return process;
  }

  #launch(action: Of<'launch'>): Step[] {
    const world = this.#world;
    const record = this.#record;
    const { off: _off, nonce: _nonce, ports: _ports, ...rest } = record;
    const ports = allocatedPorts(action.spec);
    const asked = action.nonce !== record.nonce || record.off === true;
    const next: OwnershipRecord = {
      ...rest,
      ...(action.nonce === undefined ? {} : { nonce: action.nonce }),
      ...(record.end === undefined ? {} : { end: asked ? { ...record.end, crashes: 0 } : record.end }),
      restarts: record.restarts + (action.restart ? 1 : 0),
      ...(ports.length === 0 ? {} : { ports }),
    };
    const entry = () => ({
      spec: structuredClone(action.spec) as NonNullable<OwnershipRecord['launch']>['spec'],
      bootID: action.bootID,
      at: world.at,
      accelerator: action.accelerator,
      acceleratorReason: action.acceleratorReason,
      qemuVersion: world.facts.qemu[action.spec.architecture]?.version ?? '',
    });
    const { seed } = this.#context;
    let started: SimulatedProcess | undefined;
    return [
      () => {
        this.#folder.seed =
          seed === undefined ? undefined : seed.userData === undefined ? 'generated' : digestOf(seed.userData);
      },
      () => this.#write({ ...next, launch: { ...entry(), state: 'starting' } }),
      () => {
        this.#folder.stop = undefined;
        this.#folder.log = '';
        try {
          started = this.#startQemu(action);
        } catch (error) {
          const taken = error instanceof EffectError && error.reason === 'PortInUse';
          this.#write((taken ? withRefusals(record, action.spec, error.message) : undefined) ?? record);
          throw error;
        }
      },
      () => {
        if (started !== undefined && world.processes.has(started.pid))
          this.#write({
            ...next,
            launch: { ...entry(), state: 'running', pid: started.pid, startTicks: started.startTicks },
          });
      },
    ];
  }

  /** QEMU locks its pidfile and its images, and wants them to be there. */
  #startQemu({ spec }: Of<'launch'>): SimulatedProcess {
    const world = this.#world;
    if (world.processIn(this.#path) !== undefined) world.violations.push(`a second QEMU in ${this.#path}`);
    if (world.processIn(this.#path) !== undefined)
      throw new EffectError('LaunchFailed', 'cannot create PID file: Cannot lock pid file');
    if (this.#folder.seed !== spec.cloudInit?.userData?.replace('secret:', ''))
      world.violations.push(`QEMU in ${this.#path} has another seed than its record says`);
    const used = new Set([...world.processes.values()].flatMap((one) => one.spec.disks.map(({ path }) => path)));
    const diskBytes = new Map<string, number>();
    for (const { name, path } of spec.disks) {
      const file = world.files.get(path);
      if (file === undefined || world.isHidden(path))
        throw new EffectError('LaunchFailed', `Could not open '${path}': No such file or directory`);
      if (used.has(path)) throw new EffectError('DiskInUse', 'Failed to get "write" lock');
      diskBytes.set(name, file.virtualBytes);
    }
    this.#bind(forwardsOf(spec));
    const process: SimulatedProcess = {
      pid: world.nextPid(),
      startTicks: Math.floor(world.at / 10),
      startedAt: world.at,
      folder: this.#path,
      spec,
      diskBytes,
      seed: this.#folder.seed,
      guest: 'running',
      silent: false,
      agent: { kind: 'closed' },
    };
    world.starts += 1;
    world.processes.set(process.pid, process);
    this.#folder.pidfile = process.pid;
    return process;
  }

  /** As a bind does it: the first port that is taken fails the rest. */
  #bind(forwards: readonly HostForward[]): void {
    for (const { hostPort, hostAddress, guestPort } of forwards) {
      if (this.#world.ports().every((port) => port.hostPort !== hostPort)) continue;
      const rule = `tcp:${hostAddress}:${hostPort}-:${guestPort}`;
      throw new EffectError('PortInUse', `Could not set up host forwarding rule '${rule}'`);
    }
  }

  #forward({ network, remove, add, forwards }: Of<'forward'>): Step[] {
    const record = this.#record;
    const kept = forwards.filter((one) => !add.includes(one));
    const changing = [...remove, ...add].map((one) => ({ ...one, changing: true as const }));
    const set = (list: readonly HostForward[]) => {
      const process = this.#answering();
      process.spec = withForwards(process.spec, network, list);
    };
    const write = (list: readonly HostForward[], more: Partial<OwnershipRecord> = {}) => {
      const { launch, ports: _before, ...rest } = record;
      if (launch === undefined) throw new EffectError('InternalError', 'the VM has no process');
      const spec = withForwards(launch.spec, network, list) as typeof launch.spec;
      this.#write({ ...rest, ...more, launch: { ...launch, spec } });
    };
    return [
      () => write([...kept, ...changing], record.ports === undefined ? {} : { ports: record.ports }),
      () => set(kept),
      () => {
        this.#bind(add);
        set(forwards);
      },
      () => {
        const process = this.#answering();
        const ports = allocatedPorts(process.spec);
        write(forwards, ports.length === 0 ? {} : { ports });
      },
    ];
  }

  #join({ bridge, tap }: Of<'join-bridge'>): void {
    const ports = this.#world.bridges.get(bridge);
    if (ports === undefined || this.#world.processIn(this.#path) === undefined)
      throw new EffectError('InternalError', 'Cannot find device');
    ports.add(tap);
  }

  #resume(): void {
    const process = this.#answering();
    if (process.guest === 'io-error' && this.#world.freeBytes < 1024) return;
    process.guest = 'running';
  }

  #withdrawStop(): void {
    const { stop } = this.#context;
    if (stop !== undefined) this.#folder.stop = JSON.stringify({ ...stop, withdrawn: true });
  }

  #stop({ step, reason, afresh, agent }: Of<'stop'>): Step[] {
    const { process, stop: before } = this.#context;
    if (process.kind === 'absent') return [];
    const world = this.#world;
    const same = before?.withdrawn !== true && before?.pid === process.pid && before.startTicks === process.startTicks;
    const { pid, startTicks } = process;
    const marker: StopMarker = {
      ...(same
        ? { ...before, reason, ...(afresh === true ? { at: world.at } : {}) }
        : { reason, pid, startTicks, at: world.at }),
      ...(step === 'powerdown' ? { powerdownAt: world.at } : {}),
      ...(step === 'quit' ? { quitAt: world.at } : {}),
      ...(step === 'terminate' || step === 'kill' ? { terminateAt: world.at } : {}),
    };
    return [
      () => {
        this.#folder.stop = JSON.stringify(marker);
      },
      () => {
        const found = world.processes.get(process.pid);
        if (found === undefined) return;
        if (step === 'terminate') world.end(found, 'signal');
        else if (step === 'kill') world.end(found, 'crash');
        else if (step === 'quit') world.end(this.#answering(), 'quit');
        else if (agent === undefined || !world.askAgent(found) || agent === 'too')
          world.pressPowerButton(this.#answering());
      },
    ];
  }

  #noteEnd({ reason, message, crashes }: Of<'note-end'>): Step[] {
    const { launch: ended, ...record } = this.#record;
    const never = ended?.state === 'starting';
    const digest = ended === undefined ? '' : launchDigest(ended.spec);
    return [
      () =>
        this.#write(
          never
            ? { ...record, off: true }
            : { ...record, end: { reason, message, at: this.#world.at, crashes, digest } },
        ),
      () => {
        this.#folder.pidfile = undefined;
        this.#folder.stop = undefined;
      },
    ];
  }

  #removeFiles({ keep }: Extract<VmAction, { type: 'remove-files' }>): Step[] {
    const world = this.#world;
    const { disks } = this.#context.wanted;
    const doomed = Object.entries(this.#record.disks)
      .map(([name, before]) => {
        const wanted = disks.find((one) => one.name === name && one.path === before.path);
        return { ...before, reclaimPolicy: wanted === undefined ? before.reclaimPolicy : wanted.reclaimPolicy };
      })
      .filter(({ path, state, reclaimPolicy }) => !keep.includes(path) && reclaimOf(state, reclaimPolicy) === 'Delete');
    return [
      ...doomed.map(({ path, reclaimPolicy, state }) => () => {
        const { content = 'us' } = world.files.get(path) ?? {};
        if (state === 'creating' && !content.startsWith('us')) return;
        if (content.startsWith('person') && reclaimPolicy !== 'Delete') world.violations.push(`${path} was deleted`);
        world.files.delete(path);
      }),
      () => {
        this.#folder.seed = undefined;
      },
      () => {
        this.#folder.record = undefined;
        if (![...world.files.keys()].some((path) => path.startsWith(`${this.#path}/`)))
          world.folders.delete(this.#path);
      },
    ];
  }
}

function entryOf(disk: EffectiveDisk): Omit<DiskRecord, 'state'> {
  return {
    path: disk.path,
    format: disk.format,
    ...(disk.sizeBytes === undefined ? {} : { sizeBytes: disk.sizeBytes }),
    ...(disk.reclaimPolicy === undefined ? {} : { reclaimPolicy: disk.reclaimPolicy }),
  };
}
