/** What a command gets to work with. main.ts makes it; commands never open stores or loops themselves. */
import type { Host } from '../api/host.ts';
import type { Attempt, Welcome } from '../api/host-ssh.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Holder } from '../doctor/service-checks.ts';
import type { Login, Shell } from '../host/shell.ts';
import type { ControllerEvent } from '../reconcile/loop-event.ts';
import type { FrontServer } from '../serve/streams-door.ts';
import type { SecretStore, Store } from '../store/store.ts';
import type { VmStreams } from '../streams/vm-streams.ts';

/** The word of --store for a cluster. */
export const KUBERNETES = 'kubernetes';

export interface GlobalOptions {
  /** Folder of the file store; absent: QEMU_OPERATOR_STORE, else the user's configuration folder. */
  readonly store?: string | undefined;
  /** vmDir of a `localhost` that is made now; absent: QEMU_OPERATOR_VM_DIR, else the first writable default. */
  readonly vmDir?: string | undefined;
  /** Of a cluster: path of a kubeconfig; absent: by kubectl's rules. */
  readonly kubeconfig?: string | undefined;
  /** Of a cluster: which context of the kubeconfig; absent: its current one. */
  readonly context?: string | undefined;
  /** Of a cluster: where the credentials of Hosts are kept; absent: the usual one, to `run` the namespace of its pod. */
  readonly operatorNamespace?: string | undefined;
}

/** Who has the loop: a service that keeps it (`run`, `mcp`), or a command that has it until its work is done. */
export type LoopRole = 'run' | 'mcp' | 'command';

export interface SessionOptions extends GlobalOptions {
  /** What this process is where it runs the loop; absent: a command. */
  readonly role?: LoopRole | undefined;
  /** Of a cluster: whether a Host may be the machine that the operator runs on. */
  readonly allowLocalHost?: boolean | undefined;
}

export interface Session {
  readonly store: Store;
  readonly secrets: SecretStore;
  /** Where this user's files beside the store lie. */
  readonly storeDir: string;
  /** What --store names it by. */
  readonly storeName: string;
  readonly loop: LoopSupervisor;
  /** Of a cluster: what its API server does for this process. */
  readonly apiServer?: ApiServer | undefined;
  /** Reaches the machine of a Host. */
  readonly shellFor: (host: Host) => Shell;
  /** Console, screen, logs and ports of a VM: on its host, or in a cluster through the API server. */
  readonly streamsOf: (vm: VirtualMachine, signal: AbortSignal) => Promise<VmStreams>;
  /** Reaches a machine over SSH that no Host stands for yet, or a Host with other credentials than it has. */
  readonly tryLogin: (attempt: Attempt) => Login;
  /** The same, for what a Host is made from. @param vmDir absent: the first that the user may write there */
  readonly welcome: (
    attempt: Omit<Attempt, 'onNewKey'>,
    options: { readonly vmDir?: string | undefined; readonly signal: AbortSignal },
  ) => Promise<Welcome>;
  close(): Promise<void>;
}

/** A store in a folder, as opposed to a cluster. */
export function isFolder({ apiServer }: Session): boolean {
  return apiServer === undefined;
}

export interface ApiServer {
  /** Rejects where it does not answer. */
  reach(signal: AbortSignal): Promise<unknown>;
  /** What was asked so far, by method and HTTP status. */
  requests(): Iterable<{ readonly method: string; readonly code: string; readonly count: number }>;
  /** Whose a bearer token for the operator is. Rejects where the API server does not say; undefined: nobody's. */
  userOf(token: string): Promise<ClusterUser | undefined>;
  /** What an API of our own needs behind it. */
  readonly front: FrontServer;
}

export interface ClusterUser {
  readonly username: string;
  /** Of one that was deleted and made again another one. */
  readonly uid: string;
  /** The objects, under this user's rights. */
  readonly store: Store;
  /** The same of Secrets. */
  readonly secrets: SecretStore;
  /** @throws ForbiddenError where the user could not register a Host of this name */
  requireHost(name: string): Promise<void>;
}

/** This machine, whether it has a store or not. */
export interface Machine {
  /** Where the store lies or would lie. */
  storeDir(options: GlobalOptions): string;
  /** Where a Host made now would keep its VMs. */
  vmDir(options: GlobalOptions): string;
  /** The store as it is; undefined where there is none. */
  openStore(storeDir: string): Promise<Store | undefined>;
  shell(): Shell;
  /** Who runs the loop on a store; undefined where nobody is known to. */
  loopHolder(storeDir: string): Holder | undefined;
}

/** Who runs the reconcile loop. At most one process on a store does. */
export interface LoopSupervisor {
  /** Runs the loop in this process unless another one has it. Ends with the session. */
  start(): 'here' | 'elsewhere';
  /** Who is known to run the loop now; only a service goes on with it. Nothing is started, and nobody disturbed. */
  whoRuns(): 'here' | 'service' | 'command' | 'nobody';
  /** Runs the loop in this process as soon as no other one does, until the signal aborts. */
  standBy(signal: AbortSignal, onStarted?: () => void): Promise<void>;
  /** Whether this process runs it now. */
  readonly running: boolean;
  onEvent(listener: (event: ControllerEvent) => void): void;
}

export type OpenSession = (options: SessionOptions) => Promise<Session>;
