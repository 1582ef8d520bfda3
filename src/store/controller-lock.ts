/**
 * Who runs the loop on a file store: the process that holds an exclusive transaction on `.state/controller.db` for
 * life. The kernel frees it when the process dies, however it dies, and at once.
 */
import { chmodSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { resultCode, storeError } from './database.ts';
import type { ControllerLock } from './store.ts';

/** Stand-by processes take over well within 2 s of a death. */
const RETRY_MS = 250;
const SQLITE_BUSY = 5;

/** A connection that nothing refers to is closed by the garbage collector, and its lock is lost. */
const held = new Set<DatabaseSync>();

/** @param path of the lock's file, made when first taken. */
export function controllerLock(path: string): ControllerLock {
  const tryAcquire = () => tryLock(path);
  return {
    tryAcquire,
    async acquire(signal) {
      for (;;) {
        signal.throwIfAborted();
        const taken = tryAcquire();
        if (taken !== undefined) return taken;
        await delay(RETRY_MS, undefined, { signal });
      }
    },
  };
}

function tryLock(path: string): { release(): void } | undefined {
  let sqlite: DatabaseSync | undefined;
  try {
    sqlite = new DatabaseSync(path, { timeout: 0 });
    // Never opened with node:fs while it may be locked: closing any descriptor of a file frees the process's POSIX locks.
    chmodSync(path, 0o600);
    sqlite.exec('PRAGMA locking_mode=exclusive; BEGIN EXCLUSIVE;');
  } catch (error) {
    sqlite?.close();
    if (resultCode(error) === SQLITE_BUSY) return undefined;
    throw storeError(error, path);
  }
  const holder = sqlite;
  held.add(holder);
  return {
    release: () => {
      if (held.delete(holder)) holder.close();
    },
  };
}
