/** A store that lives and dies with its process: tests, dry runs, simulations. */
import type { FeedTimes } from './change-feed.ts';
import { Database } from './database.ts';
import { ObjectTable } from './object-table.ts';
import type { Store } from './store.ts';
import { TableStore } from './table-store.ts';

export interface MemoryStoreOptions extends FeedTimes {
  /** How many changes a watch can look back. */
  readonly history?: number;
}

export function createMemoryStore(options: MemoryStoreOptions = {}): Store {
  const db = new Database(':memory:');
  const { history, ...times } = options;
  return new TableStore({ db, table: new ObjectTable(db, history), ...times });
}
