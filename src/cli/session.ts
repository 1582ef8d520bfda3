/** What a command gets to work with. main.ts makes it; commands never open stores or loops themselves. */
import type { Shell } from '../host/shell.ts';
import type { ControllerEvent } from '../reconcile/controller.ts';
import type { Store } from '../store/store.ts';

export interface GlobalOptions {
  /** Folder of the file store; absent: QEMU_OPERATOR_STORE, else the user's configuration folder. */
  readonly store?: string | undefined;
  /** vmDir of a `localhost` that is made now; absent: QEMU_OPERATOR_VM_DIR, else the first writable default. */
  readonly vmDir?: string | undefined;
}

export interface Session {
  readonly store: Store;
  /** Folder of the store, for messages. */
  readonly storeDir: string;
  readonly loop: LoopSupervisor;
  /** Reaches the machine of a Host for streams. */
  readonly shellFor: (hostName: string) => Shell;
  close(): Promise<void>;
}

/** Who runs the reconcile loop. At most one process on a store does. */
export interface LoopSupervisor {
  /** Runs the loop in this process unless another one has it. Ends with the session. */
  start(): 'here' | 'elsewhere';
  /** Who runs the loop now. Nothing is started. */
  whoRuns(): 'here' | 'elsewhere' | 'nobody';
  /** Runs the loop in this process as soon as no other one does, until the signal aborts. */
  standBy(signal: AbortSignal, onStarted?: () => void): Promise<void>;
  /** Whether this process runs it now. */
  readonly running: boolean;
  onEvent(listener: (event: ControllerEvent) => void): void;
}

export type OpenSession = (options: GlobalOptions) => Promise<Session>;
