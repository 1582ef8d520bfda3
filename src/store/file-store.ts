/** The store of a machine without a cluster: a folder of manifests that people own, and `.state/` beside them. */
import { chmodSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { StoreUnavailableError } from '../api/errors.ts';
import type { FeedTimes } from './change-feed.ts';
import { controllerLock } from './controller-lock.ts';
import { Database } from './database.ts';
import type { ControllerLock, Store } from './store.ts';
import { TableStore } from './table-store.ts';

export interface FileStoreOptions extends FeedTimes {
  /** The folder; made with mode 0700 where it does not exist. */
  readonly dir: string;
  readonly history?: number | undefined;
}

export interface FileStore extends Store {
  readonly dir: string;
  readonly controllerLock: ControllerLock;
}

/** @throws StoreUnavailableError where the folder cannot hold a store; the message says what to do */
export async function openFileStore(options: FileStoreOptions): Promise<FileStore> {
  const { dir } = options;
  const state = join(dir, '.state');
  mkdirSync(join(state, 'secrets'), { recursive: true, mode: 0o700 });
  writeFileSync(join(state, '.gitignore'), '*\n', { mode: 0o600 });
  const path = join(state, 'store.db');
  let inode: bigint | undefined;
  const db = new Database(path, () => {
    if (inode !== undefined && statSync(path, { bigint: true, throwIfNoEntry: false })?.ino !== inode) {
      throw new StoreUnavailableError(
        `the store's folder ${dir} is gone or was replaced: mount it again, then restart`,
      );
    }
  });
  chmodSync(path, 0o600);
  inode = statSync(path, { bigint: true }).ino;
  const store = new TableStore(db, options);
  return Object.assign(store, { dir, controllerLock: controllerLock(join(state, 'controller.db')) });
}
