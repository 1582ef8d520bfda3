import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openFileStore } from '../../src/store/file-store.ts';
import { describeStore } from './store.ts';

describeStore('file-store', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'qemu-operator-store-'));
  const store = await openFileStore({ dir, history: 50, bookmarkMs: 100 });
  return {
    store,
    async close() {
      await store.close();
      await rm(dir, { recursive: true });
    },
  };
});
