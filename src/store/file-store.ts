/**
 * The store of a machine without a cluster: a folder of manifests that people own and may keep in git, and beside
 * them `.state/` with everything else:
 *
 *     <dir>/<namespace>/<name>.yaml   where `create` writes a VirtualMachine; people may put files anywhere
 *     <dir>/hosts/<name>.yaml         where `create` writes a Host
 *     <dir>/.state/store.db           objects, history, index of the manifests
 *     <dir>/.state/controller.db      the controller's lock
 *     <dir>/.state/controller.json    who holds that lock: a service or a passing command
 *     <dir>/.state/secrets/           values of Secrets (secret-folder.ts)
 *
 * Any process may open it and write. Folders are made with mode 0700, files with 0600.
 */
import { accessSync, closeSync, constants, existsSync, mkdirSync, openSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ApiError, messageOf, StoreUnavailableError } from '../api/errors.ts';
import type { FeedTimes } from './change-feed.ts';
import { controllerLock } from './controller-lock.ts';
import { Database } from './database.ts';
import { fileSystemType, networkFileSystem } from './file-system-type.ts';
import { ManifestFolder } from './manifest-folder.ts';
import { ManifestFollower } from './manifest-follower.ts';
import { ManifestIndex } from './manifest-index.ts';
import { ManifestSources, type SyncResult } from './manifest-sources.ts';
import { ObjectTable } from './object-table.ts';
import type { ControllerLock, SourceProblem, Store } from './store.ts';
import { TableStore } from './table-store.ts';

export interface FileStoreOptions extends FeedTimes {
  readonly dir: string;
  /** How many changes a watch can look back. */
  readonly history?: number | undefined;
  /** How long a manifest must lie unchanged before it is taken in; default 200. */
  readonly settleMs?: number | undefined;
  /** How often all manifests are looked at without a hint; default 30 s. */
  readonly rescanMs?: number | undefined;
  /** The type of a folder's file system, as statfs(2) numbers it. */
  readonly fileSystemType?: ((path: string) => number) | undefined;
}

export interface FileStore extends Store {
  readonly dir: string;
  readonly controllerLock: ControllerLock;
  /** Takes in people's edits now; also done at open, after edits, and every 30 s. */
  sync(): void;
}

const SETTLE_MS = 200;
const RESCAN_MS = 30_000;
/** A file that grows for ever does not hold up the opening. */
const MAX_SETTLING_MS = 2_000;

/** @throws StoreUnavailableError where the folder cannot hold a store; the message says what to do */
export async function openFileStore(options: FileStoreOptions): Promise<FileStore> {
  const dir = resolve(options.dir);
  const state = join(dir, '.state');
  makeFolders(dir, options.fileSystemType ?? fileSystemType);
  const db = openDatabase(dir, join(state, 'store.db'));
  try {
    const table = new ObjectTable(db, options.history);
    const folder = new ManifestFolder(dir);
    const settleMs = options.settleMs ?? SETTLE_MS;
    const sources = new ManifestSources({ db, table, index: new ManifestIndex(db), folder, settleMs });
    const store = new LocalFileStore({ dir, db, table, sources, options, lock: join(state, 'controller.db') });
    const first = await settled(() => firstLook(store), settleMs);
    folder.sweep(first.scan.folders);
    store.follow(first, settleMs);
    return store;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** Objects can be read and VMs run on although manifests cannot be taken in now (a full disk, a damaged entry). */
function firstLook(store: LocalFileStore): SyncResult {
  try {
    return store.look();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return { scan: { files: new Map(), folders: [], unreadable: new Map() }, unsettled: false, changed: false };
  }
}

/** Waits for files that are just being written, within reason: whoever edits and then asks sees the edit. */
async function settled(sync: () => SyncResult, settleMs: number): Promise<SyncResult> {
  const until = performance.now() + MAX_SETTLING_MS;
  let result = sync();
  while (result.unsettled && performance.now() < until) {
    await delay(settleMs / 4);
    result = sync();
  }
  return result;
}

function makeFolders(dir: string, typeOf: (path: string) => number): void {
  const state = join(dir, '.state');
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const network = networkFileSystem(typeOf(dir));
    if (network !== undefined) {
      throw new StoreUnavailableError(
        `the store ${dir} lies on ${network}, where locks are not safe and data would be lost: ` +
          'choose a folder on a local disk with --store or QEMU_OPERATOR_STORE',
      );
    }
    mkdirSync(join(state, 'secrets'), { recursive: true, mode: 0o700 });
    const ignore = join(state, '.gitignore');
    if (!existsSync(ignore)) writeFileSync(ignore, '*\n', { mode: 0o600 });
    accessSync(state, constants.W_OK);
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw new StoreUnavailableError(
      `the store ${dir} cannot be written: ${messageOf(error)}; make the folder and its file system writable, ` +
        'or choose another with --store or QEMU_OPERATOR_STORE',
      { cause: error },
    );
  }
}

/** Every write first makes sure that the file is still the one that lies in the folder. */
function openDatabase(dir: string, path: string): Database {
  const inode = () => statSync(path, { bigint: true, throwIfNoEntry: false })?.ino;
  let opened: bigint | undefined;
  makeFile(path);
  const db = new Database(path, () => {
    if (opened === undefined || inode() === opened) return;
    throw new StoreUnavailableError(
      `the store ${dir} is gone or was replaced since it was opened (unmounted?), nothing was changed: ` +
        'bring it back, or restart qemu-operator',
    );
  });
  opened = inode();
  return db;
}

/** With its mode from the beginning: SQLite gives the same to the files beside it. */
function makeFile(path: string): void {
  try {
    closeSync(openSync(path, 'a', 0o600));
  } catch {
    // SQLite meets the same obstacle next, and says what it is.
  }
}

interface Parts {
  readonly dir: string;
  readonly db: Database;
  readonly table: ObjectTable;
  readonly sources: ManifestSources;
  readonly lock: string;
  readonly options: FileStoreOptions;
}

class LocalFileStore extends TableStore implements FileStore {
  readonly dir: string;
  readonly controllerLock: ControllerLock;
  readonly #sources: ManifestSources;
  readonly #rescanMs: number;
  #follower: ManifestFollower | undefined;
  #failure: string | undefined;

  constructor({ dir, db, table, sources, lock, options: { pollMs, bookmarkMs, rescanMs } }: Parts) {
    super({ db, table, sources, pollMs, bookmarkMs });
    this.dir = dir;
    this.controllerLock = controllerLock(lock);
    this.#sources = sources;
    this.#rescanMs = rescanMs ?? RESCAN_MS;
  }

  /** One look at the manifests; where it fails, sourceProblems() says so until one succeeds. */
  look(): SyncResult {
    try {
      const result = this.#sources.sync();
      this.#failure = undefined;
      if (result.changed) this.wake();
      return result;
    } catch (error) {
      this.#failure = messageOf(error);
      throw error;
    }
  }

  sync(): void {
    this.look();
  }

  override sourceProblems(): readonly SourceProblem[] {
    const failure = this.#failure === undefined ? [] : [{ source: '.', message: this.#failure }];
    return [...failure, ...super.sourceProblems()];
  }

  follow(first: SyncResult, settleMs: number): void {
    const sync = () => this.look();
    this.#follower = new ManifestFollower({ dir: this.dir, sync, settleMs, rescanMs: this.#rescanMs });
    this.#follower.start(first);
  }

  override async close(): Promise<void> {
    this.#follower?.close();
    await super.close();
  }
}
