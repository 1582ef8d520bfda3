/** One QMP connection per running VM, kept for its events. Losing one costs nothing but time: the look asks anew. */
import { Subject } from 'rxjs';
import { FOLDER_FILES } from '../api/effective-spec.ts';
import type { Shell } from '../host/shell.ts';
import type { HostEvent } from '../reconcile/driver.ts';
import type { HeardEnd } from '../reconcile/observed.ts';
import { QmpClient, type QmpEvent } from './qmp.ts';
import { within } from './within.ts';

const CONNECT_MS = 3_000;
/** Whoever got a connection asks at once. */
const IN_USE_MS = 50;
/** What a process said at its end is on its way already. */
const LAST_WORDS_MS = 500;

interface Monitor {
  readonly client: Promise<QmpClient>;
  /** The process behind the socket: a new one needs a new connection. */
  readonly pid: number;
  /** By performance.now(). */
  usedAt: number;
  /** When nothing more comes from it. */
  readonly closed: Promise<void>;
}

export class Monitors {
  readonly events$ = new Subject<HostEvent>();
  readonly #shell: Shell;
  readonly #monitors = new Map<string, Monitor>();
  readonly #heard = new Map<string, { readonly pid: number; readonly end: HeardEnd }>();
  readonly #abort = new AbortController();

  constructor(shell: Shell) {
    this.#shell = shell;
  }

  /** @throws DialError or QmpTimeoutError where the monitor does not answer */
  async get(folder: string, pid: number): Promise<QmpClient> {
    const known = this.#monitors.get(folder);
    if (known?.pid === pid) {
      known.usedAt = performance.now();
      const client = await known.client;
      if (!client.ended) return client;
    }
    this.#forget(folder);
    // A look that began before the end still asks for the process; what was heard of it stays.
    if (this.#heard.get(folder)?.pid !== pid) this.#heard.delete(folder);
    const { promise: closed, resolve: close } = Promise.withResolvers<void>();
    const client = this.#connect(folder, pid, close);
    this.#monitors.set(folder, { client, pid, usedAt: performance.now(), closed });
    try {
      return await client;
    } catch (error) {
      close();
      if (this.#monitors.get(folder)?.client === client) this.#monitors.delete(folder);
      throw error;
    }
  }

  /** The process behind the connection of a folder, open or being opened; it may have ended since. */
  pidOf(folder: string): number | undefined {
    return this.#monitors.get(folder)?.pid;
  }

  /** Once all is heard that a process said which is gone now: a look may tell of the end before its monitor does. */
  async heardOut(folder: string, pid: number): Promise<void> {
    const monitor = this.#monitors.get(folder);
    if (monitor?.pid !== pid) return;
    await within(LAST_WORDS_MS, monitor.closed);
  }

  heardEnd(folder: string): HeardEnd | undefined {
    return this.#heard.get(folder)?.end;
  }

  close(): void {
    this.#abort.abort();
    for (const folder of [...this.#monitors.keys()]) this.#forget(folder);
    this.events$.complete();
  }

  #forget(folder: string): void {
    const monitor = this.#monitors.get(folder);
    this.#monitors.delete(folder);
    monitor?.client.then((client) => client.close()).catch(() => undefined);
  }

  async #connect(folder: string, pid: number, close: () => void): Promise<QmpClient> {
    let client: QmpClient | undefined;
    let hasYielded = false;
    const yields = () => {
      const usedAt = this.#monitors.get(folder)?.usedAt ?? 0;
      if (client === undefined || client.busy || performance.now() - usedAt < IN_USE_MS) return false;
      hasYielded = true;
      client.close();
      return true;
    };
    const stream = await this.#shell.dial(`${folder}/${FOLDER_FILES.monitor}`, {
      timeoutMs: CONNECT_MS,
      signal: this.#abort.signal,
      yields,
    });
    const listeners = {
      onEvent: (event: QmpEvent) => this.#onEvent(folder, pid, event),
      onEnd: () => {
        close();
        const current = this.#monitors.get(folder);
        if (current?.pid === pid) this.#monitors.delete(folder);
        if (!hasYielded) this.#emit({ folder, event: 'MONITOR_CLOSED' });
      },
    };
    client = await QmpClient.connect(stream, listeners, CONNECT_MS);
    return client;
  }

  #onEvent(folder: string, pid: number, event: QmpEvent): void {
    if (event.event === 'SHUTDOWN') {
      const end = heardFrom(event);
      if (end !== undefined) this.#heard.set(folder, { pid, end });
    }
    if (WAKING.has(event.event)) this.#emit({ folder, event: event.event });
  }

  #emit(event: HostEvent): void {
    if (!this.#abort.signal.aborted) this.events$.next(event);
  }
}

/** Events after which a VM may be other than it was. */
const WAKING = new Set([
  'SHUTDOWN',
  'STOP',
  'RESUME',
  'BLOCK_IO_ERROR',
  'GUEST_PANICKED',
  'RESET',
  'MEMORY_FAILURE',
  'VSERPORT_CHANGE',
]);

/** QEMU says who asked for a shutdown: SHUTDOWN's `guest` and `reason` (qapi/run-state.json, ShutdownCause). */
function heardFrom({ data }: QmpEvent): HeardEnd | undefined {
  if (data['guest'] === true) return 'GuestPoweredOff';
  return data['reason'] === 'host-qmp-quit' || data['reason'] === 'host-ui' ? 'StoppedExternally' : undefined;
}
