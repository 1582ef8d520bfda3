/**
 * A host that exists only here: its clock, folders, files and QEMU processes, and everything that can happen to them
 * without us. What our effects do to it is in simulated-effects.ts.
 */
import { Subject } from 'rxjs';
import { forwardsOf, type LaunchSpec } from '../../src/api/effective-spec.ts';
import { tapName } from '../../src/api/networks.ts';
import type { Architecture, DiskFormat } from '../../src/api/virtual-machine.ts';
import type { JobFailure, SeenJob } from '../../src/reconcile/job.ts';
import type { GuestStatus, HeardEnd, HostFacts, SeenAgent, SeenPort } from '../../src/reconcile/observed.ts';

export const GI = 1024 ** 3;

export interface SimulatedFile {
  type: 'file' | 'block-device' | 'other';
  format: DiskFormat;
  virtualBytes: number;
  /** Who made it, and which making it was: a file that is made anew has another. */
  content: string;
  readable: boolean;
  refersTo?: string;
  bootArchitectures?: readonly Architecture[];
}

export interface SimulatedFolder {
  record?: string | undefined;
  stop?: string | undefined;
  pidfile?: number | undefined;
  job?: SimulatedJob | undefined;
  log: string;
  /** The user data in the seed, by its digest. */
  seed?: string | undefined;
}

/** A copy of an image: complete some time after it began, unless the host went down meanwhile. */
export interface SimulatedJob {
  readonly disk: string;
  readonly attempt: number;
  readonly bootID: string;
  readonly nonce?: string;
  readonly startedAt: number;
  readonly image: string;
}

export interface SimulatedProcess {
  readonly pid: number;
  readonly startTicks: number;
  readonly startedAt: number;
  readonly folder: string;
  spec: LaunchSpec;
  readonly diskBytes: Map<string, number>;
  /** As the folder had it at the start. */
  readonly seed?: string | undefined;
  guest: GuestStatus;
  silent: boolean;
  agent: SeenAgent;
  /** When the guest will have powered itself off, asked to. */
  endsAt?: number | undefined;
}

export interface SimulatedVmDir {
  mounted: boolean;
  marker?: string | undefined;
  writable: boolean;
}

export type WorldEvent =
  | { readonly type: 'guest'; readonly folder: string; readonly event: string; readonly heard?: HeardEnd }
  /** A take-over ended the session of this driver. */
  | { readonly type: 'session-ended'; readonly session: number };

export const FACTS: HostFacts = {
  os: 'Debian GNU/Linux 13',
  kernel: '6.12',
  architecture: 'x86_64',
  cpus: 8,
  memoryBytes: 32 * GI,
  uid: 0,
  qemu: {
    x86_64: { command: 'qemu-system-x86_64', version: '10.0.2' },
    arm64: {
      command: 'qemu-system-aarch64',
      version: '10.0.2',
      uefi: { code: '/fw/code.fd', variables: '/fw/vars.fd', format: 'raw' },
    },
  },
  qemuImg: true,
  kvm: { works: false, reason: '/dev/kvm does not exist' },
};

/** Capacity of every image. */
export const IMAGE_BYTES = GI;
/** Time that a copy takes. */
const COPY_MS = 3_000;
const TAKEN = { protocol: 'TCP', hostAddress: '127.0.0.1' } as const;

/** Time a guest takes to follow the power button. */
const POWERDOWN_MS = 2_000;

export class SimulatedWorld {
  bootID = 'boot-1';
  machineID = 'machine-1';
  facts: HostFacts = FACTS;
  /** False: nobody can look, nothing can be done. */
  reachable = true;
  /** Whether guests follow the power button. */
  guestsObey = true;
  /** Whether guests follow their agents. */
  agentsObey = true;
  /** Added to the clock of the test. */
  clockSkewMs = 0;
  freeBytes = 100 * GI;
  /** TCP ports of the loopback that a person's programs listen on. */
  takenPorts: number[] = [];
  /** What is joined to each bridge. */
  readonly bridges = new Map<string, Set<string>>([['br0', new Set()]]);
  readonly vmDirs = new Map<string, SimulatedVmDir>();
  readonly folders = new Map<string, SimulatedFolder>();
  readonly files = new Map<string, SimulatedFile>();
  readonly processes = new Map<number, SimulatedProcess>();
  /** Symbolic links: a path to where it leads. */
  readonly links = new Map<string, string>();
  readonly events$ = new Subject<WorldEvent>();
  /** What must never happen, and did. */
  readonly violations: string[] = [];
  /** What becomes of a copy, by URL or path of its image; absent: it succeeds. */
  readonly badImages = new Map<string, JobFailure>();
  /** `uid/disk name` of each image that was made. */
  readonly made: string[] = [];
  /** QEMU processes that came up. */
  starts = 0;
  /** How each process ended: the truth that the operator has to find out. */
  readonly ends: { readonly folder: string; readonly how: string; readonly asked: boolean }[] = [];
  #pid = 1000;
  #content = 0;
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** The host's clock. Guests that were asked to power off do so as it passes. */
  get at(): number {
    return this.#now() + this.clockSkewMs;
  }

  /** Ports that are listened on, a person's and the guests'. */
  ports(): SeenPort[] {
    const guests = [...this.processes.values()].flatMap(({ spec }) => forwardsOf(spec));
    return [
      ...this.takenPorts.map((hostPort) => ({ ...TAKEN, hostPort })),
      ...guests.flatMap(({ protocol, hostAddress, hostPort }) =>
        hostPort === undefined ? [] : [{ protocol, hostAddress, hostPort }],
      ),
    ];
  }

  nextPid(): number {
    this.#pid += 1;
    return this.#pid;
  }

  newContent(by: 'us' | 'person'): string {
    this.#content += 1;
    return `${by}-${this.#content}`;
  }

  /** A person makes a file. */
  addFile(path: string, fields: Partial<SimulatedFile> = {}): SimulatedFile {
    const file: SimulatedFile = {
      type: 'file',
      format: 'qcow2',
      virtualBytes: GI,
      readable: true,
      content: this.newContent('person'),
      ...fields,
    };
    this.files.set(path, file);
    return file;
  }

  /** How far a folder's job is now. */
  jobAt({ job }: SimulatedFolder): SeenJob {
    if (job === undefined) throw new Error('there is no job');
    const { disk, attempt, bootID, nonce, startedAt, image } = job;
    const ended = this.at - startedAt >= COPY_MS;
    const died = bootID !== this.bootID;
    const failure = this.badImages.get(image);
    return {
      pid: 1,
      startTicks: startedAt,
      bootID,
      disk,
      attempt,
      ...(nonce === undefined ? {} : { nonce }),
      phase: !ended || died ? 'downloading' : failure === undefined ? 'done' : 'failed',
      doneBytes: ended ? IMAGE_BYTES : IMAGE_BYTES / 2,
      totalBytes: IMAGE_BYTES,
      at: ended ? startedAt + COPY_MS : this.at,
      ...(ended && !died && failure !== undefined ? { reason: failure, message: 'the simulated image is bad' } : {}),
      running: !ended && !died,
    };
  }

  /** A file system that is not mounted hides what is on it. */
  isHidden(path: string): boolean {
    return [...this.vmDirs].some(([dir, { mounted }]) => !mounted && path.startsWith(`${dir}/`));
  }

  folderExists(path: string): boolean {
    return !this.isHidden(path) && (this.folders.has(path) || this.vmDirs.has(path) || !this.isBelowVmDir(path));
  }

  isBelowVmDir(path: string): boolean {
    return [...this.vmDirs.keys()].some((dir) => path.startsWith(`${dir}/`));
  }

  resolve(path: string): string {
    for (const [link, target] of this.links) {
      if (path === link || path.startsWith(`${link}/`)) return target + path.slice(link.length);
    }
    return path;
  }

  processIn(folder: string): SimulatedProcess | undefined {
    this.settleGuests();
    return [...this.processes.values()].find((process) => process.folder === folder);
  }

  /** Guests whose time has come are off. */
  settleGuests(): void {
    for (const process of [...this.processes.values()]) {
      if (process.endsAt !== undefined && process.endsAt <= this.#now()) this.end(process, 'powerdown');
    }
  }

  pressPowerButton(process: SimulatedProcess): void {
    if (!this.guestsObey || process.guest !== 'running') return;
    process.endsAt ??= this.#now() + POWERDOWN_MS;
  }

  /** False where there is no agent to ask. */
  askAgent(process: SimulatedProcess): boolean {
    if (process.agent.kind !== 'connected' || process.guest !== 'running') return false;
    if (this.agentsObey) process.endsAt ??= this.#now() + POWERDOWN_MS;
    return true;
  }

  setAgent(folder: string, agent: SeenAgent): void {
    const process = this.processIn(folder);
    if (process === undefined) return;
    process.agent = agent;
    this.events$.next({ type: 'guest', folder, event: 'AGENT_CHANGED' });
  }

  end(process: SimulatedProcess, how: 'powerdown' | 'quit' | 'signal' | 'crash', heard?: HeardEnd): void {
    this.processes.delete(process.pid);
    for (const { name } of process.spec.networks)
      for (const ports of this.bridges.values()) ports.delete(tapName(process.folder, name));
    this.ends.push({ folder: process.folder, how, asked: process.endsAt !== undefined });
    const folder = this.folders.get(process.folder);
    if (folder !== undefined) {
      if (how === 'signal') folder.log += 'qemu-system-x86_64: terminating on signal 15 from pid 1\n';
      if (how !== 'crash') folder.pidfile = undefined;
    }
    const told = heard ?? (how === 'powerdown' ? 'GuestPoweredOff' : undefined);
    this.events$.next({
      type: 'guest',
      folder: process.folder,
      event: 'SHUTDOWN',
      ...(told === undefined ? {} : { heard: told }),
    });
  }

  setGuest(folder: string, guest: GuestStatus): void {
    const process = this.processIn(folder);
    if (process === undefined) return;
    process.guest = guest;
    this.events$.next({ type: 'guest', folder, event: 'STOP' });
  }

  /** All processes are gone at once; files stay. */
  reboot(): void {
    for (const { folder } of this.processes.values()) this.ends.push({ folder, how: 'reboot', asked: false });
    this.processes.clear();
    for (const ports of this.bridges.values()) ports.clear();
    this.bootID = `${this.bootID}+`;
  }
}
