/**
 * One SQLite file (or memory) behind a store: transactions, prepared statements, and the errors of SQLite in the
 * store's words. A write is `BEGIN IMMEDIATE`: processes queue for it in the kernel, and a dead one frees it.
 */
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { ApiError, messageOf, StoreUnavailableError } from '../api/errors.ts';

export type Row = Readonly<Record<string, SQLOutputValue>>;

/** How long a write waits for another process's write. Writes last milliseconds; a longer wait means a stopped process. */
const BUSY_TIMEOUT_MS = 5_000;

export class Database {
  readonly #sqlite: DatabaseSync;
  readonly #path: string;
  readonly #statements = new Map<string, StatementSync>();
  readonly #beforeWrite: () => void;

  /**
   * @param path a file, or `:memory:`.
   * @param beforeWrite throws where a write must not begin.
   * @throws StoreUnavailableError where the file cannot be opened.
   */
  constructor(path: string, beforeWrite: () => void = () => undefined) {
    this.#path = path;
    this.#beforeWrite = beforeWrite;
    try {
      this.#sqlite = new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS });
      this.#sqlite.exec('PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;');
    } catch (error) {
      throw storeError(error, path);
    }
  }

  /** Runs `work` in one transaction that is durable when this returns; nothing of it stays where it throws. */
  write<T>(work: () => T): T {
    this.#beforeWrite();
    return this.#transaction('BEGIN IMMEDIATE', 'COMMIT', work);
  }

  /** As `write`, and takes everything back at the end. */
  rehearse<T>(work: () => T): T {
    return this.#transaction('BEGIN IMMEDIATE', 'ROLLBACK', work);
  }

  /** Runs `work` on one state of the store. */
  read<T>(work: () => T): T {
    return this.#transaction('BEGIN', 'COMMIT', work);
  }

  #transaction<T>(begin: string, end: string, work: () => T): T {
    if (!this.#sqlite.isOpen) throw new StoreUnavailableError('the store is closed');
    try {
      this.#sqlite.exec(begin);
      const result = work();
      this.#sqlite.exec(end);
      return result;
    } catch (error) {
      if (this.#sqlite.isOpen && this.#sqlite.isTransaction) this.#rollback();
      throw storeError(error, this.#path);
    }
  }

  #rollback(): void {
    try {
      this.#sqlite.exec('ROLLBACK');
    } catch {
      // SQLite has rolled back by itself (disk full, I/O error); the first error is the one to tell.
    }
  }

  run(sql: string, ...values: SQLInputValue[]): void {
    this.#statement(sql).run(...values);
  }

  get(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.#statement(sql).get(...values);
  }

  all(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#statement(sql).all(...values);
  }

  /** One row at a time: of many, only one is held. */
  each(sql: string, ...values: SQLInputValue[]): Iterable<Row> {
    return this.#statement(sql).iterate(...values);
  }

  exec(sql: string): void {
    this.#sqlite.exec(sql);
  }

  /** Changes when another connection has committed; costs microseconds. */
  dataVersion(): number {
    try {
      return Number(this.get('PRAGMA data_version')?.['data_version'] ?? 0);
    } catch (error) {
      throw storeError(error, this.#path);
    }
  }

  close(): void {
    this.#statements.clear();
    if (this.#sqlite.isOpen) this.#sqlite.close();
  }

  #statement(sql: string): StatementSync {
    if (!this.#sqlite.isOpen) throw new StoreUnavailableError('the store is closed');
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const made = this.#sqlite.prepare(sql);
    this.#statements.set(sql, made);
    return made;
  }
}

/** SQLite's primary result codes and what a person can do. https://sqlite.org/rescode.html */
const SENTENCES: Readonly<Record<number, string>> = {
  5: 'another process holds it for too long: look for a stopped qemu-operator process',
  6: 'another process holds it for too long: look for a stopped qemu-operator process',
  8: 'it is read-only: make the file, its folder and its file system writable',
  10: 'an I/O error: look at the disk and at the kernel log',
  11: 'the file is damaged: stop qemu-operator, keep a copy, and restore it from a backup; VMs run on meanwhile',
  13: 'the disk is full: free some space; nothing was changed',
  14: 'it cannot be opened: look at the owner and the mode of the file and its folder',
  26: 'the file is damaged: stop qemu-operator, keep a copy, and restore it from a backup; VMs run on meanwhile',
};

/** An error of SQLite as StoreUnavailableError with what to do; ApiErrors and bugs as they are. */
export function storeError(error: unknown, path: string): unknown {
  const code = resultCode(error);
  if (error instanceof ApiError || code === undefined) return error;
  const why = SENTENCES[code] ?? messageOf(error);
  return new StoreUnavailableError(`the store ${path} cannot be used: ${why} (SQLite: ${messageOf(error)})`, {
    cause: error,
  });
}

/** The primary result code of an error of node:sqlite. */
export function resultCode(error: unknown): number | undefined {
  const { errcode } = (error ?? {}) as { errcode?: unknown };
  return typeof errcode === 'number' ? errcode & 0xff : undefined;
}
