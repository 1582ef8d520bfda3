/** QEMU on one host: the real HostDriver, over any Shell. */
import { EMPTY, map, merge, type Observable } from 'rxjs';
import { type EffectiveSpec, forwardsOf } from '../api/effective-spec.ts';
import { messageOf } from '../api/errors.ts';
import type { Sample } from '../api/virtual-machine-monitor.ts';
import type { Shell } from '../host/shell.ts';
import type { HostAction, VmAction } from '../reconcile/action.ts';
import {
  EffectError,
  type HostContext,
  type HostDriver,
  type HostEvent,
  type LookRequest,
  type VmContext,
} from '../reconcile/driver.ts';
import type {
  Blindness,
  HeardEnd,
  HostFacts,
  Look,
  SeenConnection,
  SeenFolder,
  SeenHost,
} from '../reconcile/observed.ts';
import { markerText } from '../reconcile/record.ts';
import { Addresses } from './addresses.ts';
import { Agents } from './agents.ts';
import { runUnfenced, standIns } from './effect-script.ts';
import { execute } from './execute.ts';
import { askFacts } from './facts.ts';
import { GuestMonitor } from './guest-monitor.ts';
import { IsoInspector } from './iso-inspector.ts';
import { Monitors } from './monitors.ts';
import { type AskedAhead, type SeenFileBoots, seenHost } from './observe.ts';
import { withHolders } from './ports.ts';
import { type Probe, probe } from './probe.ts';
import { Records } from './records.ts';
import { Sampler, type SampleTarget } from './sample.ts';
import { CLAIM, MAKE_VM_DIR, UNCLAIM } from './scripts.ts';

export interface QemuDriverOptions {
  /** Where the host says which boot and which machine this is; a seam for tests of reboots and exchanged machines. */
  readonly bootIdFile?: string;
  readonly machineIdFile?: string;
  /** Of a host behind SSH: whom the connection speaks to, undefined while there is none. */
  readonly connection?: () => SeenConnection | undefined;
  /** Emits when the connection came or went: everything there may be other than it was. */
  readonly connection$?: Observable<unknown>;
}

/** By the name of an error: what it says of a host that cannot be looked at. */
const BLINDNESS: Readonly<Record<string, Blindness>> = {
  HostUnreachableError: 'HostUnreachable',
  ScriptTimeoutError: 'HostUnreachable',
  CredentialsInvalidError: 'CredentialsInvalid',
  LocalNotAllowedError: 'LocalNotAllowed',
  HostKeyRefusedError: 'HostKeyChanged',
  JumpHostInvalidError: 'JumpHostInvalid',
};

export class QemuDriver implements HostDriver {
  readonly events$;
  readonly #shell: Shell;
  readonly #monitors: Monitors;
  readonly #guests = new GuestMonitor();
  readonly #agents: Agents;
  readonly #addresses = new Addresses();
  readonly #records = new Records();
  readonly #isos: IsoInspector;
  readonly #sampler: Sampler;
  readonly #options: Required<Pick<QemuDriverOptions, 'bootIdFile' | 'machineIdFile'>>;
  readonly #connection: () => SeenConnection | undefined;
  readonly #unwrittenStops = new Map<string, string>();
  readonly #epochs = new Map<string, number>();
  /** By folder, what runs there as the last look showed it. */
  readonly #targets = new Map<string, SampleTarget>();
  #ticksPerSecond: number | undefined;
  #facts: { readonly key: string; readonly facts: HostFacts } | undefined;

  constructor(shell: Shell, { connection = () => undefined, connection$ = EMPTY, ...options }: QemuDriverOptions = {}) {
    this.#shell = shell;
    this.#monitors = new Monitors(shell);
    this.#agents = new Agents(shell);
    this.#isos = new IsoInspector(shell);
    this.#sampler = new Sampler(shell, this.#monitors, this.#agents);
    this.#options = { bootIdFile: '/proc/sys/kernel/random/boot_id', machineIdFile: '/etc/machine-id', ...options };
    this.#connection = connection;
    // No folder has this name: everything is looked at.
    const everything$ = connection$.pipe(map((): HostEvent => ({ folder: '', event: 'CONNECTION_CHANGED' })));
    this.events$ = merge(this.#monitors.events$, this.#agents.events$, everything$);
  }

  async look(request: LookRequest, signal: AbortSignal): Promise<Look> {
    try {
      return { kind: 'seen', host: await this.#look(request, signal) };
    } catch (error) {
      signal.throwIfAborted();
      const reason = (error instanceof Error ? BLINDNESS[error.name] : undefined) ?? 'HostNotReady';
      const unasked = reason === 'CredentialsInvalid' && (error as { readonly tried?: unknown[] }).tried?.length === 0;
      return { kind: 'cannot-see', reason, message: messageOf(error), ...(unasked ? { unasked } : {}) };
    }
  }

  async #look(request: LookRequest, signal: AbortSignal): Promise<SeenHost> {
    const started = performance.now();
    const ahead = this.#askAhead(request);
    // Of a host that is new they are asked at once: the tools that the look finds are those that they tell of.
    const first = this.#facts === undefined ? askFacts(this.#shell, signal) : undefined;
    first?.catch(() => undefined);
    const vmDirs = [...request.vmDirs, ...(request.foreignVmDirs ?? [])];
    const paths = new Set([...request.paths, ...request.vms.flatMap(pathsOf)]);
    const answer = await probe(
      this.#shell,
      {
        vmDirs,
        logs: request.vms.map(({ folder }) => folder),
        paths: [...paths],
        ports: request.vms.some(({ launch }) => forwardsOf(launch).length > 0),
        bridges: request.vms.some(({ launch }) => launch.networks.some(({ bridge }) => bridge !== undefined)),
        ticksPerSecond: this.#ticksPerSecond,
        ...this.#options,
      },
      signal,
    );
    this.#ticksPerSecond = answer.ticksPerSecond;
    const roundTripMs = Math.round(performance.now() - started);
    const facts = await this.#factsFor(answer.toolsKey, first, signal);
    const boots = await this.#bootsOf(request, answer, signal);
    const seen = await seenHost(answer, request, {
      facts,
      roundTripMs,
      boots,
      records: this.#records,
      monitors: this.#monitors,
      guests: this.#guests,
      ahead,
      unwrittenStops: this.#unwrittenStops,
      agents: this.#agents,
      addresses: this.#addresses,
    });
    const isGone = (path: string) =>
      !seen.folders.has(path) && !seen.foreignFolders.has(path) && vmDirs.some((vmDir) => path.startsWith(`${vmDir}/`));
    for (const path of this.#targets.keys()) if (isGone(path)) this.#forget(path);
    for (const path of this.#unwrittenStops.keys()) if (isGone(path)) this.#unwrittenStops.delete(path);
    for (const path of this.#records.folders()) if (isGone(path)) this.#records.forget(path);
    for (const folder of seen.folders.values()) this.#noteTarget(folder);
    const idle = request.vms.filter(({ folder }) => seen.folders.get(folder)?.process.kind !== 'present');
    const ports = await withHolders(this.#shell, answer.ports, idle, signal);
    return { ...seen, ports, connection: this.#connection() };
  }

  /** The guests that are known already answer while the script runs. */
  #askAhead({ vms, expected }: LookRequest): Map<string, AskedAhead> {
    const asked = new Map<string, AskedAhead>();
    for (const { folder } of vms) {
      const known = this.#monitors.pidOf(folder);
      const pid = known ?? expected?.get(folder);
      if (pid === undefined) continue;
      const ask = async () => this.#guests.ask(await this.#monitors.get(folder, pid));
      const early = ask();
      // Nobody waits for it where the process turns out to be another one.
      early.catch(() => undefined);
      // A connection to the host that was still being made may have taken the time that a monitor has.
      asked.set(folder, { pid, answers: () => (known === undefined ? early.catch(ask) : early) });
    }
    return asked;
  }

  #noteTarget({ path, process, record }: SeenFolder): void {
    const launch = record.kind === 'readable' ? record.record.launch : undefined;
    if (process.kind === 'absent' || launch === undefined) this.#forget(path);
    else {
      const { pid, startTicks } = process;
      this.#targets.set(path, { key: path, folder: path, pid, startTicks, spec: launch.spec });
    }
  }

  #forget(folder: string): void {
    this.#targets.delete(folder);
    this.#agents.forget(folder);
    this.#addresses.forget(folder);
  }

  async #factsFor(key: string, asked: Promise<HostFacts> | undefined, signal: AbortSignal): Promise<HostFacts> {
    if (this.#facts?.key === key) return this.#facts.facts;
    const facts = await (asked ?? askFacts(this.#shell, signal));
    this.#facts = { key, facts };
    return facts;
  }

  async #bootsOf(request: LookRequest, answer: Probe, signal: AbortSignal): Promise<Map<string, SeenFileBoots>> {
    const boots = new Map<string, SeenFileBoots>();
    for (const path of new Set(request.vms.flatMap(({ launch }) => launch.cdroms.map((cdrom) => cdrom.path)))) {
      const file = answer.paths.get(path);
      if (file?.stat === undefined || !file.readable || !/^regular/.test(file.stat.type)) continue;
      boots.set(path, await this.#isos.architectures(path, Number(file.stat.mtime) * 1000, file.stat.bytes, signal));
    }
    return boots;
  }

  async execute(action: VmAction, context: VmContext, signal: AbortSignal): Promise<void> {
    const { vmDir, folder } = context.wanted;
    const epoch = this.#epochs.get(vmDir);
    if (epoch === undefined) throw new EffectError('InternalError', `${vmDir} is not claimed by this controller`);
    await execute(action, {
      shell: this.#shell,
      monitors: this.#monitors,
      agents: this.#agents,
      unwrittenStops: this.#unwrittenStops,
      place: { vmDir, epoch, folder },
      context,
      signal,
    });
  }

  async executeOnHost(action: HostAction, context: HostContext, signal: AbortSignal): Promise<void> {
    const { vmDir } = action;
    if (action.type === 'unclaim') {
      const epoch = this.#epochs.get(vmDir);
      if (epoch !== undefined)
        await runUnfenced(
          this.#shell,
          { vmDir, epoch, folder: vmDir },
          { body: UNCLAIM, args: [], stand: standIns() },
          signal,
        );
      this.#epochs.delete(vmDir);
      return;
    }
    await this.#claim(action, context, signal);
  }

  async #claim(
    { vmDir, seen, sudo }: Extract<HostAction, { type: 'claim' }>,
    { storeUID, hostUID }: HostContext,
    signal: AbortSignal,
  ): Promise<void> {
    const stand = standIns();
    const epoch = (seen?.marker.epoch ?? 0) + 1;
    const next = { storeUID, hostUID, epoch, session: { pid: stand.pid, startTicks: stand.ticks } };
    const former = seen?.marker.session;
    const args = [
      seen?.line ?? '',
      markerText(next),
      former === undefined ? '' : String(former.pid),
      former === undefined ? '' : String(former.startTicks),
      sudo === true ? 'sudo' : '',
    ];
    const effect = { body: CLAIM, args, stand, ...(seen === undefined ? { before: MAKE_VM_DIR } : {}) };
    await runUnfenced(this.#shell, { vmDir, epoch, folder: vmDir }, effect, signal);
    this.#epochs.set(vmDir, epoch);
  }

  epoch(vmDir: string): number | undefined {
    return this.#epochs.get(vmDir);
  }

  async sample(
    vms: readonly EffectiveSpec[],
    series: string,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, Sample>> {
    // A look of the loop has mostly told already; that the processes are still the same ones, the sample sees itself.
    const unknown = vms.filter(({ folder }) => !this.#targets.has(folder));
    if (unknown.length > 0)
      await this.#look({ vmDirs: [...new Set(unknown.map(({ vmDir }) => vmDir))], vms: [], paths: [] }, signal);
    const targets = vms.flatMap(({ folder }) => this.#targets.get(folder) ?? []);
    return targets.length === 0 ? new Map() : this.#sampler.sample(targets, series, signal);
  }

  heardEnd(folder: string): HeardEnd | undefined {
    return this.#monitors.heardEnd(folder);
  }

  async close(): Promise<void> {
    this.#agents.close();
    this.#monitors.close();
    await this.#shell.close();
  }
}

function pathsOf({ disks, launch, folder }: EffectiveSpec): string[] {
  const images = disks.flatMap(({ image }) => image?.path ?? []);
  return [...disks.map(({ path }) => path), ...images, ...launch.cdroms.map(({ path }) => path), folder];
}
