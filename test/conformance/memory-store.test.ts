import { createMemoryStore } from '../../src/store/memory-store.ts';
import { describeStore } from './store.ts';

describeStore('memory-store', async () => {
  const store = createMemoryStore({ history: 50, bookmarkMs: 100 });
  return { store, close: () => store.close() };
});
