/**
 * Follows people's edits while a store is open. A file watch is only a hint, since editors rename and some file
 * systems tell nothing: it starts a look soon, and a look happens now and then anyway. Keeps no process alive.
 */
import { type FSWatcher, watch } from 'node:fs';
import { join } from 'node:path';
import type { SyncResult } from './manifest-sources.ts';

export interface FollowerOptions {
  readonly dir: string;
  /** One look at the files. */
  readonly sync: () => SyncResult;
  /** How long after a hint, and how often while a file is still being written. */
  readonly settleMs: number;
  readonly rescanMs: number;
}

/** More folders than this are left to the rescan: the kernel's watches are shared by all processes of a user. */
const MAX_WATCHES = 512;

export class ManifestFollower {
  readonly #options: FollowerOptions;
  readonly #watchers = new Map<string, FSWatcher>();
  #timer: NodeJS.Timeout | undefined;
  #hinted = false;
  #closed = false;

  constructor(options: FollowerOptions) {
    this.#options = options;
  }

  /** @param first what the first look found */
  start(first: SyncResult): void {
    this.#followFolders(first.scan.folders);
    this.#again(first.unsettled ? this.#options.settleMs : this.#options.rescanMs);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  /** The first hint counts: a folder in which something always happens is looked at all the same. */
  #hint(): void {
    if (this.#hinted) return;
    this.#hinted = true;
    this.#again(this.#options.settleMs);
  }

  #look(): void {
    this.#hinted = false;
    let afterMs = this.#options.rescanMs;
    try {
      const { scan, unsettled } = this.#options.sync();
      this.#followFolders(scan.folders);
      if (unsettled) afterMs = this.#options.settleMs;
    } catch {
      // The folder or the database is out of reach; every caller of the store is told so. Nothing was changed.
    }
    this.#again(afterMs);
  }

  #again(afterMs: number): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), afterMs).unref();
  }

  #followFolders(folders: readonly string[]): void {
    const wanted = new Set(folders.slice(0, MAX_WATCHES));
    for (const [folder, watcher] of this.#watchers) {
      if (wanted.has(folder)) continue;
      watcher.close();
      this.#watchers.delete(folder);
    }
    for (const folder of wanted) if (!this.#watchers.has(folder)) this.#follow(folder);
  }

  #follow(folder: string): void {
    try {
      const watcher = watch(join(this.#options.dir, folder), { persistent: false }, (_event, name) => {
        if (name?.startsWith('.') !== true) this.#hint();
      });
      this.#watchers.set(folder, watcher);
      watcher.on('error', () => {
        watcher.close();
        this.#watchers.delete(folder);
      });
    } catch {
      // No watch to be had (the kernel's limit): the rescan sees to it.
    }
  }
}
