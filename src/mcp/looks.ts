/**
 * Whether what the store says of a host is what the loop has seen, and a way to ask it to look again. A status that
 * an earlier process wrote may be old; where this process runs the loop, its first pass makes it fresh.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ForbiddenError } from '../api/errors.ts';
import { ANNOTATIONS } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Store } from '../store/store.ts';

/** Who runs the reconcile loop; the part of the CLI's LoopSupervisor that the tools need. */
export interface Loop {
  start(): 'here' | 'elsewhere';
  standBy(signal: AbortSignal, onStarted?: () => void): Promise<void>;
  readonly running: boolean;
  onEvent(listener: (event: { readonly type: string; readonly host: string }) => void): void;
}

const FIRST_LOOK_MS = 15_000;

export class Looks {
  readonly #loop: Loop;
  readonly #seen = new Set<string>();
  readonly #waiting = new Set<() => void>();

  constructor(loop: Loop) {
    this.#loop = loop;
    loop.onEvent(({ type, host }) => {
      if (type !== 'pass') return;
      this.#seen.add(host);
      for (const wake of this.#waiting) wake();
    });
  }

  /** Whether this process runs the loop. */
  get runsHere(): boolean {
    return this.#loop.running;
  }

  /** Resolves once the loop has looked at the host, at once where another process runs the loop, or after a while. */
  async first(hostName: string, signal: AbortSignal): Promise<void> {
    if (!this.#loop.running || this.#seen.has(hostName)) return;
    const ended = new AbortController();
    const wake = () => this.#seen.has(hostName) && ended.abort();
    this.#waiting.add(wake);
    try {
      await sleep(FIRST_LOOK_MS, undefined, { signal: AbortSignal.any([signal, ended.signal]) });
    } catch {
      signal.throwIfAborted();
    } finally {
      this.#waiting.delete(wake);
    }
  }
}

/** Asks for a look at a whole host; who may not waits for the next one. */
export async function askLookAtHost(store: Store, name: string): Promise<void> {
  const annotations = { [ANNOTATIONS.lookRequestedAt]: now() };
  await unlessForbidden(store.patch('Host', { name }, { metadata: { annotations } }));
}

/** What helps where it may be done, and is not needed. */
export async function unlessForbidden(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!(error instanceof ForbiddenError)) throw error;
  });
}

/** Asks for a look at one VM. */
export async function askLookAtVm(store: Store, { metadata }: VirtualMachine): Promise<void> {
  await store.patch(
    'VirtualMachine',
    metadata,
    { metadata: { annotations: { [ANNOTATIONS.lookRequestedAt]: now() } } },
    { uid: metadata.uid },
  );
}

export function now(): string {
  return new Date().toISOString();
}
