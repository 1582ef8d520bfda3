/** A store that lives and dies with its process: tests, dry runs, simulations. */
import type { FeedTimes } from './change-feed.ts';
import { Database } from './database.ts';
import type { Store } from './store.ts';
import { TableStore } from './table-store.ts';

export interface MemoryStoreOptions extends FeedTimes {
  /** How many changes a watch can look back. */
  readonly history?: number;
}

export function createMemoryStore(options: MemoryStoreOptions = {}): Store {
  return new TableStore(new Database(':memory:'), options);
}
