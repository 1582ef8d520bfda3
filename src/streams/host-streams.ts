/** The streams of a VM over a Shell of its host. */
import { FOLDER_FILES, placeOf } from '../api/effective-spec.ts';
import type { Host } from '../api/host.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import { DialError, type Shell } from '../host/shell.ts';
import { type ConsoleClient, type OpenConsole, openConsole } from './console.ts';
import { followLog, LogAbsentError, readLog } from './logs.ts';
import { reach } from './reach.ts';
import { NoScreenError, screenshot } from './screenshot.ts';
import { UserMonitorError } from './user-monitor.ts';
import { type GuestPort, type LogRequest, NotReachableError, type OpenScreen, type VmStreams } from './vm-streams.ts';
import { openScreen } from './vnc.ts';

export interface HostStreamsOptions {
  readonly findHost: (name: string) => Promise<Host | undefined>;
  readonly shellFor: (host: Host) => Shell;
  readonly signal: AbortSignal;
  /** Whoever opens them in the name of others; absent: for people of the machine itself. */
  readonly client?: ConsoleClient;
}

const LOGIN_MS = 30_000;
const DIAL_MS = 10_000;
const MAX_RECORD_BYTES = 4 * 1024 * 1024;

/** The owner is what counts of the record. */
const OWNER = 'echo @record; if [ -r "$1" ]; then cat "$1"; fi';

/**
 * Whose folder it is, is asked first: another VM's name or vmDir may lead to the same one.
 * @throws NotReachableError where it has no Host or its folder is another's, and what Shell.run throws
 */
export async function hostStreams(vm: VirtualMachine, options: HostStreamsOptions): Promise<VmStreams> {
  const { name, uid } = vm.metadata;
  const { hostName } = vm.spec;
  const host = hostName === undefined ? undefined : await options.findHost(hostName);
  if (host === undefined) {
    const why = hostName === undefined ? 'spec.hostName names no Host' : `its Host ${hostName} does not exist`;
    throw new NotReachableError(`${name} is nowhere: ${why}`);
  }
  const shell = options.shellFor(host);
  const { folder } = placeOf(vm, host);
  // What follows has little patience: the way there is made by this.
  const owner = await ownerOf(shell, folder, options.signal);
  if (owner !== undefined && owner !== uid)
    throw new NotReachableError(`${name} is nowhere: ${folder} on ${hostName} belongs to another VirtualMachine`);
  // A folder that nobody owns may be looked into by people of the machine, who could do so by themselves.
  const isThere = owner === uid || options.client === undefined;
  return new HostStreams(vm, { shell, folder, isThere, isRemote: host.spec.ssh !== undefined }, options);
}

/** Undefined: nothing is there, or nothing that says whose it is. */
async function ownerOf(shell: Shell, folder: string, signal: AbortSignal): Promise<string | undefined> {
  const limits = { timeoutMs: LOGIN_MS, maxOutputBytes: MAX_RECORD_BYTES, signal };
  const { stdout } = await shell.run(OWNER, [`${folder}/${FOLDER_FILES.record}`], limits);
  // Whatever a login shell prints stands before the word.
  const [, text = ''] = /(?:^|\n)@record\n([\s\S]*)$/.exec(stdout.toString('utf8')) ?? [];
  try {
    const { uid } = JSON.parse(text) as { uid?: unknown };
    return typeof uid === 'string' ? uid : undefined;
  } catch {
    return undefined;
  }
}

interface Place {
  readonly shell: Shell;
  readonly folder: string;
  /** Whether it may be looked into. */
  readonly isThere: boolean;
  /** Whether ports of the host are out of reach for programs of this machine. */
  readonly isRemote: boolean;
}

class HostStreams implements VmStreams {
  readonly #vm: VirtualMachine;
  readonly #place: Place;
  readonly #client: ConsoleClient | undefined;

  constructor(vm: VirtualMachine, place: Place, { client }: HostStreamsOptions) {
    this.#vm = vm;
    this.#place = place;
    this.#client = client;
  }

  console(signal: AbortSignal): Promise<OpenConsole> {
    return this.#reached('console', ({ shell, folder }) => openConsole(shell, folder, { signal, who: this.#client }));
  }

  screen(signal: AbortSignal): Promise<OpenScreen> {
    return this.#reached('screen', async ({ shell, folder }) => {
      const screen = await openScreen(shell, folder, signal).catch((error: unknown) => {
        if (!(error instanceof UserMonitorError) || this.#vm.status?.pid === undefined) throw error;
        const hint = `Has ${this.#name} a screen? spec.graphics: {vnc: {}} gives it one at its next restart.`;
        throw new NotReachableError(`${error.message}. ${hint}`);
      });
      return { ...screen, dial: (until) => this.#reached('screen', () => screen.dial(until)) };
    });
  }

  async *log({ follow, ...request }: LogRequest): AsyncIterable<string> {
    const { shell, folder, isThere } = this.#place;
    if (!isThere) throw new LogAbsentError(`${folder} is not there yet: nothing of ${this.#name} was started`);
    if (follow === true) yield* followLog(shell, folder, request);
    else yield await readLog(shell, folder, request);
  }

  screenshot(signal: AbortSignal): Promise<Buffer> {
    return this.#reached('screen', async ({ shell, folder }) => {
      const picture = screenshot(shell, folder, signal);
      return picture.catch((error: unknown) => {
        if (error instanceof NoScreenError)
          throw new NotReachableError(`${this.#name} has no screen: ${this.#advice()}`);
        if (this.#vm.status?.pid === undefined) throw this.#notReachable('screen');
        throw error;
      });
    });
  }

  guestPort(guestPort: number, signal: AbortSignal): Promise<GuestPort> {
    return this.#reached('network', async ({ shell, folder, isRemote }) => {
      if (this.#vm.status?.pid === undefined) throw this.#notReachable('network');
      const onlyBehindBridge = this.#client !== undefined;
      const { host, port, close } = await reach(shell, folder, this.#vm, { guestPort, signal, onlyBehindBridge });
      return {
        ...(!isRemote && { address: { host, port } }),
        dial: (until) => shell.dialTcp({ host, port }, { timeoutMs: DIAL_MS, signal: until }),
        close,
      };
    });
  }

  get #name(): string {
    return this.#vm.metadata.name;
  }

  /** A socket that nobody answers at: why, in words of the VM. */
  async #reached<T>(what: string, work: (place: Place) => Promise<T>): Promise<T> {
    if (!this.#place.isThere) throw this.#notReachable(what);
    try {
      return await work(this.#place);
    } catch (error) {
      throw error instanceof DialError ? this.#notReachable(what) : error;
    }
  }

  #notReachable(what: string): NotReachableError {
    const { status } = this.#vm;
    const phase = status?.phase ?? 'Pending';
    const why = status?.pid === undefined ? `it is not running (${phase})` : `its last seen state is ${phase}`;
    return new NotReachableError(`${this.#name} has no ${what} now: ${why}`);
  }

  #advice(): string {
    const waits = this.#vm.status?.pendingChanges?.some(({ path }) => path === 'spec.graphics.vnc') === true;
    return waits
      ? 'it gets one at its next restart'
      : 'spec.graphics: {vnc: {}} gives it one at its next restart; its text console is there without: see `console`';
  }
}
