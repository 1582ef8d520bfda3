/**
 * The guest agents of a host's running VMs, one connection each, since the port serves a single client. Nothing waits
 * for a guest: each session asks by itself and keeps what it heard; a look takes that, and an event says when it has
 * changed. A guest that does not answer is asked again with back-off.
 */
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { Subject } from 'rxjs';
import { FOLDER_FILES } from '../api/effective-spec.ts';
import type { Shell } from '../host/shell.ts';
import type { HostEvent } from '../reconcile/driver.ts';
import { AgentClient, AgentRefusedError, AgentSilentError } from './agent.ts';
import { type GuestInterface, type GuestSystem, guestTimeIn, interfacesIn, systemIn } from './agent-answers.ts';
import { AgentInvalidError } from './agent-lines.ts';

const CONNECT_MS = 3_000;
const SYNC_MS = 5_000;
const ANSWER_MS = 10_000;
/** A guest that has just come up gets its addresses one after the other. */
const FIRST_AGAIN_MS = 1_000;
/** At rest a guest is asked this often, and one that does not answer no more often. */
const CALM_MS = 60_000;
/** A sample takes what is there by then: others are sampled in the same round. */
const SAMPLE_MS = 250;
/** A request to shut down is not answered where it is followed. */
const SHUTDOWN_MS = 1_000;

export interface GuestFacts extends GuestSystem {
  readonly interfaces: readonly GuestInterface[];
  /** The guest's clock, ms since the epoch, and ours (monotonic) when it was read. */
  readonly clock?: { readonly guestMs: number; readonly atMs: number };
}

export type AgentState =
  /** Not asked yet. */
  | { readonly kind: 'unknown' }
  | { readonly kind: 'connected'; readonly facts: GuestFacts }
  | { readonly kind: 'mute'; readonly reason: 'GuestAgentSilent' | 'GuestAgentInvalid' };

/** Interfaces with their counters, and when they were read on our monotonic clock. */
export interface InterfaceReading {
  readonly atMs: number;
  readonly interfaces: readonly GuestInterface[];
}

export class Agents {
  readonly events$ = new Subject<HostEvent>();
  readonly #shell: Shell;
  readonly #sessions = new Map<string, AgentSession>();

  constructor(shell: Shell) {
    this.#shell = shell;
  }

  /** What is known of the agent of a guest that has opened its port; asked from now on where it was not. */
  of(folder: string, pid: number): AgentState {
    const known = this.#sessions.get(folder);
    if (known?.pid === pid) return known.state;
    this.forget(folder);
    const session = new AgentSession(this.#shell, { folder, pid }, () =>
      this.events$.next({ folder, event: 'AGENT_CHANGED' }),
    );
    this.#sessions.set(folder, session);
    return session.state;
  }

  /** The process has ended, or its guest has closed the port. */
  forget(folder: string): void {
    this.#sessions.get(folder)?.end();
    this.#sessions.delete(folder);
  }

  /** Undefined where no agent is connected; `late` where it does not answer at once. */
  async interfaces(folder: string, pid: number): Promise<InterfaceReading | 'late' | undefined> {
    const session = this.#sessions.get(folder);
    return session?.pid === pid ? session.interfaces() : undefined;
  }

  /** Asks the guest to power off; false where its agent does not take it. Takes 2 s at most. */
  async shutdown(folder: string, pid: number): Promise<boolean> {
    const session = this.#sessions.get(folder);
    return session?.pid === pid && (await session.shutdown());
  }

  close(): void {
    for (const folder of [...this.#sessions.keys()]) this.forget(folder);
    this.events$.complete();
  }
}

class AgentSession {
  readonly pid: number;
  state: AgentState = { kind: 'unknown' };
  readonly #shell: Shell;
  readonly #path: string;
  readonly #changed: () => void;
  readonly #abort = new AbortController();
  #client: AgentClient | undefined;
  #hurry: () => void = () => undefined;

  constructor(shell: Shell, { folder, pid }: { readonly folder: string; readonly pid: number }, changed: () => void) {
    this.pid = pid;
    this.#shell = shell;
    this.#path = `${folder}/${FOLDER_FILES.agent}`;
    this.#changed = changed;
    this.#run().catch(() => undefined);
  }

  end(): void {
    this.#abort.abort();
  }

  async interfaces(): Promise<InterfaceReading | 'late' | undefined> {
    const client = this.#client;
    if (client === undefined || client.ended || this.state.kind !== 'connected') return undefined;
    // An earlier question is under way: a sample waits for none.
    if (client.busy) return 'late';
    const answer = client.ask('guest-network-get-interfaces', undefined, ANSWER_MS).then(
      (value): InterfaceReading => ({ atMs: performance.now(), interfaces: interfacesIn(value) }),
      (): 'late' => 'late',
    );
    return Promise.race([answer, pause(SAMPLE_MS).then((): 'late' => 'late')]);
  }

  async shutdown(): Promise<boolean> {
    const client = this.#client;
    if (client === undefined || client.ended || this.state.kind !== 'connected') return false;
    await Promise.race([client.idle(), pause(SHUTDOWN_MS)]);
    if (client.busy) return false;
    try {
      await client.ask('guest-shutdown', { mode: 'powerdown' }, SHUTDOWN_MS);
      return true;
    } catch (error) {
      // The next request may be the one that is followed: the connection is made anew at once.
      this.#hurry();
      return error instanceof AgentSilentError;
    }
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    let failures = 0;
    let waitMs = FIRST_AGAIN_MS;
    while (!signal.aborted) {
      try {
        const facts = await this.#ask();
        failures = 0;
        this.#become({ kind: 'connected', facts });
        waitMs = Math.min(CALM_MS, waitMs * 2);
      } catch (error) {
        this.#client?.close();
        failures += 1;
        waitMs = Math.min(CALM_MS, FIRST_AGAIN_MS * 2 ** (failures - 1));
        // One lost answer is no silence: the agent is asked once more on a new connection.
        if (failures > 1 || this.state.kind !== 'connected') this.#become(muteBy(error));
      }
      const hurried = new Promise<void>((resolve) => {
        this.#hurry = resolve;
      });
      await Promise.race([pause(waitMs, signal), hurried]);
    }
  }

  /** @throws DialError, AgentSilentError, AgentInvalidError */
  async #ask(): Promise<GuestFacts> {
    const client = await this.#connected();
    const ask = async (command: string) => {
      try {
        return await client.ask(command, undefined, ANSWER_MS);
      } catch (error) {
        if (error instanceof AgentRefusedError) return undefined;
        throw error;
      }
    };
    const interfaces = interfacesIn(await ask('guest-network-get-interfaces'));
    const system = systemIn(await ask('guest-get-osinfo'), await ask('guest-get-host-name'));
    const guestMs = guestTimeIn(await ask('guest-get-time'));
    const clock = guestMs === undefined ? {} : { clock: { guestMs, atMs: performance.now() } };
    return { ...system, interfaces, ...clock };
  }

  async #connected(): Promise<AgentClient> {
    if (this.#client !== undefined && !this.#client.ended) return this.#client;
    const { signal } = this.#abort;
    const yields = () => {
      const client = this.#client;
      if (client === undefined || client.ended || client.busy) return false;
      client.close();
      return true;
    };
    const stream = await this.#shell.dial(this.#path, { timeoutMs: CONNECT_MS, signal, yields });
    const stop = () => stream.destroy();
    signal.addEventListener('abort', stop, { once: true });
    stream.once('close', () => signal.removeEventListener('abort', stop));
    this.#client = await AgentClient.connect(stream, SYNC_MS);
    return this.#client;
  }

  #become(state: AgentState): void {
    const before = shownOf(this.state);
    this.state = state;
    if (!this.#abort.signal.aborted && shownOf(state) !== before) this.#changed();
  }
}

function muteBy(error: unknown): AgentState {
  return { kind: 'mute', reason: error instanceof AgentInvalidError ? 'GuestAgentInvalid' : 'GuestAgentSilent' };
}

/** What of a state is worth a look: neither counters nor clocks, which change at every answer. */
function shownOf(state: AgentState): string {
  if (state.kind !== 'connected') return JSON.stringify(state);
  const { os, kernel, hostname, interfaces } = state.facts;
  return JSON.stringify([os, kernel, hostname, interfaces.map(({ mac, ips }) => [mac, ips])]);
}

/** Keeps no process alive; ends early, without a word, when the signal says so. */
async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { ref: false, ...(signal === undefined ? {} : { signal }) }).catch(() => undefined);
}
