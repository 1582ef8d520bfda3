/** The real things behind a session: the file store, the hosts, the loop. */
import { accessSync, constants, existsSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { Subscription } from 'rxjs';
import { type Manifest, parseManifest } from './api/admission.ts';
import { AlreadyExistsError, InvalidObjectError } from './api/errors.ts';
import { DEFAULT_VM_DIR } from './api/host.ts';
import { API_VERSION } from './api/meta.ts';
import { CliError, EXIT } from './cli/exit-codes.ts';
import type { GlobalOptions, LoopRole, LoopSupervisor, Machine, Session, SessionOptions } from './cli/session.ts';
import { KUBERNETES } from './cli/session.ts';
import { driveHosts } from './drive-hosts.ts';
import { LocalShell } from './host/local-shell.ts';
import { absoluteOr, configFolder } from './installation.ts';
import { LoopHolder } from './loop-holder.ts';
import type { ControllerEvent } from './reconcile/loop-event.ts';
import { HostShells } from './remote/host-shells.ts';
import { welcome } from './remote/welcome.ts';
import { type FileStore, openFileStore } from './store/file-store.ts';
import { SecretFolder } from './store/secret-folder.ts';
import type { SecretStore } from './store/store.ts';
import { hostStreams } from './streams/host-streams.ts';

export async function openSession(options: SessionOptions): Promise<Session> {
  if (isInCluster(options)) return (await import('./cluster-session.ts')).openClusterSession(options);
  const storeDir = storeFolder(options);
  const store = await openFileStore({ dir: storeDir });
  try {
    await ensureLocalhost(store, options);
  } catch (error) {
    await store.close();
    throw error;
  }
  const secrets = new SecretFolder(join(storeDir, '.state', 'secrets'));
  const shells = new HostShells(store, secrets);
  const loop = new FileStoreLoop({ store, secrets, shells }, options.role ?? 'command');
  return {
    store,
    secrets,
    storeDir,
    storeName: storeDir,
    loop,
    shellFor: (host) => shells.of(host),
    streamsOf: (vm, signal) => {
      const findHost = (name: string) => store.get('Host', { name });
      return hostStreams(vm, { findHost, shellFor: (host) => shells.of(host), signal });
    },
    tryLogin: (attempt) => shells.attempt(attempt),
    welcome: (attempt, how) => welcome((one) => shells.attempt(one), attempt, how),
    close: async () => {
      loop.stop();
      await shells.close();
      await store.close();
    },
  };
}

/** That of the kubeconfig's context. */
export async function defaultNamespace(options: GlobalOptions): Promise<string | undefined> {
  if (!isInCluster(options)) return undefined;
  const { loadKubeConfig, namespaceOf } = await import('./kube/kube-config.ts');
  return namespaceOf(loadKubeConfig(options));
}

function isInCluster({ store = process.env['QEMU_OPERATOR_STORE'] }: GlobalOptions): boolean {
  return store === KUBERNETES;
}

/** This machine without its store: what a command may look at that must not make one. */
export const machine: Machine = {
  storeDir: storeFolder,
  vmDir: (options) => vmFolder(options, couldMake),
  openStore: async (dir) => (existsSync(join(dir, '.state', 'store.db')) ? openFileStore({ dir }) : undefined),
  shell: () => new LocalShell(),
  loopHolder: (storeDir) => new LoopHolder(storeDir).read(),
};

/** Never the current folder: a command started elsewhere must find the same VMs. */
function storeFolder({ store }: GlobalOptions): string {
  if (isInCluster({ store }))
    throw new CliError(
      EXIT.usage,
      'this is about this machine and a store in a folder: --store DIR. How the machines of a cluster are, tell get qhost and describe qhost NAME',
    );
  const named = store ?? process.env['QEMU_OPERATOR_STORE'];
  if (named !== undefined && named !== '') return resolve(named);
  if (process.getuid?.() === 0) return '/etc/qemu-operator';
  return configFolder();
}

/** @param isUsable whether the default folder will do */
function vmFolder({ vmDir }: GlobalOptions, isUsable: (path: string) => boolean): string {
  const named = vmDir ?? process.env['QEMU_OPERATOR_VM_DIR'];
  if (named !== undefined && named !== '') return resolve(named);
  if (isUsable(DEFAULT_VM_DIR)) return DEFAULT_VM_DIR;
  return join(absoluteOr(process.env['XDG_DATA_HOME'], join(homedir(), '.local', 'share')), 'qemu-operator');
}

function canMake(path: string): boolean {
  try {
    mkdirSync(path, { recursive: true });
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** The same without making it. */
function couldMake(path: string): boolean {
  try {
    accessSync(existsSync(path) ? path : dirname(path), constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** The Host of this machine is made at the first start, with its defaults written out for people to see and change. */
async function ensureLocalhost(store: FileStore, options: GlobalOptions): Promise<void> {
  const known = await store.get('Host', { name: 'localhost' });
  if (known !== undefined) {
    if (options.vmDir === undefined || resolve(options.vmDir) === known.spec.vmDir) return;
    throw new InvalidObjectError('--vm-dir', [
      {
        field: 'vmDir',
        value: JSON.stringify(options.vmDir),
        message: `Host localhost exists and has vmDir ${known.spec.vmDir}; the option only serves its first start`,
      },
    ]);
  }
  const spec = { local: {}, vmDir: vmFolder(options, canMake), allowedPaths: ['/'], allowedBridges: ['*'] };
  const manifest = parseManifest({
    apiVersion: API_VERSION,
    kind: 'Host',
    metadata: { name: 'localhost' },
    spec,
  }) as Manifest<'Host'>;
  try {
    // As written: also a vmDir that is the default stands in the manifest.
    await store.create(manifest, { asWritten: spec });
  } catch (error) {
    // Another process was faster.
    if (!(error instanceof AlreadyExistsError)) throw error;
  }
}

interface LoopPlace {
  readonly store: FileStore;
  readonly secrets: SecretStore;
  readonly shells: HostShells;
}

class FileStoreLoop implements LoopSupervisor {
  readonly #store: FileStore;
  readonly #secrets: SecretStore;
  readonly #shells: HostShells;
  readonly #role: LoopRole;
  readonly #holder: LoopHolder;
  readonly #listeners: ((event: ControllerEvent) => void)[] = [];
  #lock: { release(): void } | undefined;
  #subscription: Subscription | undefined;

  constructor({ store, secrets, shells }: LoopPlace, role: LoopRole) {
    this.#store = store;
    this.#secrets = secrets;
    this.#shells = shells;
    this.#role = role;
    this.#holder = new LoopHolder(store.dir);
  }

  get running(): boolean {
    return this.#lock !== undefined;
  }

  onEvent(listener: (event: ControllerEvent) => void): void {
    this.#listeners.push(listener);
  }

  start(): 'here' | 'elsewhere' {
    if (this.running) return 'here';
    const lock = this.#store.controllerLock.tryAcquire();
    if (lock === undefined) return 'elsewhere';
    this.#run(lock);
    return 'here';
  }

  whoRuns(): 'here' | 'service' | 'command' | 'nobody' {
    if (this.running) return 'here';
    const holder = this.#holder.read();
    if (holder === undefined) return 'nobody';
    return holder.kind === 'command' ? 'command' : 'service';
  }

  async standBy(signal: AbortSignal, onStarted?: () => void): Promise<void> {
    if (!this.running) {
      const lock = await this.#store.controllerLock.acquire(signal);
      if (signal.aborted) lock.release();
      else this.#run(lock);
    }
    if (!this.running) return;
    onStarted?.();
    signal.addEventListener('abort', () => this.stop(), { once: true });
  }

  #run(lock: { release(): void }): void {
    this.#lock = lock;
    this.#holder.write(this.#role);
    void this.#drive(lock);
  }

  async #drive(lock: { release(): void }): Promise<void> {
    const tell = (event: ControllerEvent) => {
      for (const listener of this.#listeners) listener(event);
    };
    const place = { store: this.#store, secrets: this.#secrets, shells: this.#shells };
    const subscription = await driveHosts(place, tell);
    if (this.#lock === lock) this.#subscription = subscription;
    else subscription.unsubscribe();
  }

  stop(): void {
    this.#subscription?.unsubscribe();
    this.#subscription = undefined;
    if (this.#lock === undefined) return;
    this.#holder.remove();
    this.#lock.release();
    this.#lock = undefined;
  }
}
