/**
 * A process that dies between the commit of an object and the writing of its manifest: the next one finishes the
 * work, whatever a person has done to the file meanwhile.
 */
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Database } from '../../src/store/database.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { ManifestFolder } from '../../src/store/manifest-folder.ts';
import { ManifestIndex } from '../../src/store/manifest-index.ts';
import { ManifestSources } from '../../src/store/manifest-sources.ts';
import { ObjectTable } from '../../src/store/object-table.ts';
import type { Store } from '../../src/store/store.ts';
import { TableStore } from '../../src/store/table-store.ts';
import { manifest, StoreFolder, WEB } from './store-folder.ts';
import { manifestOf } from './store-manifest.ts';

let folder: StoreFolder;

beforeEach(async () => {
  folder = new StoreFolder();
  const store = await folder.open();
  await store.close();
});
afterEach(() => folder.remove());

/** Does `work` up to its commit, and no further. */
async function dieAfterCommit(work: (store: Store) => Promise<unknown>): Promise<void> {
  const db = new Database(join(folder.dir, '.state/store.db'));
  const table = new ObjectTable(db);
  const parts = { db, table, index: new ManifestIndex(db), folder: new ManifestFolder(folder.dir), settleMs: 0 };
  class Dying extends ManifestSources {
    override settle(): void {
      // Dead.
    }
  }
  const sources = new Dying(parts);
  sources.sync();
  await work(new TableStore({ db, table, sources }));
  db.close();
}

async function reopened(): Promise<FileStore> {
  const store = await folder.open({ settleMs: 1 });
  expect(store.sourceProblems()).toEqual([]);
  return store;
}

const web = (store: Store) => store.get('VirtualMachine', WEB);

test('a create is finished', async () => {
  await dieAfterCommit((store) => store.create(manifestOf('web-1', { vcpus: 4 })));
  expect(folder.has('default/web-1.yaml')).toBe(false);
  const store = await reopened();
  expect(folder.read('default/web-1.yaml')).toContain('vcpus: 4');
  expect((await web(store))?.spec.vcpus).toBe(4);
  expect(store.problems()).toEqual([]);
});

test('a change is finished', async () => {
  folder.write('web.yaml', manifest(['vcpus: 4']));
  await dieAfterCommit((store) => store.patch('VirtualMachine', WEB, { spec: { vcpus: 6, restartedAt: 'x' } }));
  expect(folder.read('web.yaml')).toBe(manifest(['vcpus: 4']));
  const store = await reopened();
  expect(folder.read('web.yaml')).toBe(manifest(['vcpus: 6']));
  expect((await web(store))?.spec).toMatchObject({ vcpus: 6, restartedAt: 'x' });
});

test('a change gives way to what a person wrote into the file since', async () => {
  folder.write('web.yaml', manifest(['vcpus: 4']));
  await dieAfterCommit((store) => store.patch('VirtualMachine', WEB, { spec: { vcpus: 6 } }));
  folder.write('web.yaml', manifest(['vcpus: 8']));
  const store = await reopened();
  expect(folder.read('web.yaml')).toBe(manifest(['vcpus: 8']));
  expect((await web(store))?.spec.vcpus).toBe(8);
  expect(store.problems()).toEqual([]);
});

test('a deletion is finished and nothing comes back to life', async () => {
  folder.write('all.yaml', `${manifest()}---\n${manifest([], 'other')}`);
  await dieAfterCommit((store) => store.delete('VirtualMachine', WEB));
  expect(folder.read('all.yaml')).toContain('web-1');
  const store = await reopened();
  expect(folder.read('all.yaml')).toBe(`---\n${manifest([], 'other')}`);
  expect(await web(store)).toBeUndefined();
  expect(await store.get('VirtualMachine', { ...WEB, name: 'other' })).toBeDefined();
});

test('a deletion is finished although a person changed another document of the file', async () => {
  folder.write('all.yaml', `${manifest()}---\n${manifest([], 'other')}`);
  await dieAfterCommit((store) => store.delete('VirtualMachine', WEB));
  folder.write('all.yaml', `${manifest()}---\n${manifest(['vcpus: 8'], 'other')}`);
  const store = await reopened();
  expect(folder.read('all.yaml')).toBe(`---\n${manifest(['vcpus: 8'], 'other')}`);
  expect(await web(store)).toBeUndefined();
  expect((await store.get('VirtualMachine', { ...WEB, name: 'other' }))?.spec.vcpus).toBe(8);
});

test('a person who wrote the document anew meanwhile gets a new object', async () => {
  folder.write('web.yaml', manifest());
  let uid = '';
  await dieAfterCommit(async (store) => {
    uid = (await store.delete('VirtualMachine', WEB)).metadata.uid;
  });
  folder.write('web.yaml', manifest(['vcpus: 8']));
  const anew = await web(await reopened());
  expect(anew?.spec.vcpus).toBe(8);
  expect(anew?.metadata.uid).not.toBe(uid);
});

test('a file that is broken while a deletion waits is left alone until it is mended', async () => {
  folder.write('all.yaml', `${manifest()}---\n${manifest([], 'other')}`);
  await dieAfterCommit((store) => store.delete('VirtualMachine', WEB));
  folder.write('all.yaml', `${manifest()}---\nkind: [`);
  const store = await folder.open({ settleMs: 1 });
  expect(await web(store)).toBeUndefined();
  expect(store.sourceProblems().map(({ source }) => source)).toEqual(['all.yaml']);
  folder.write('all.yaml', `${manifest()}---\n${manifest([], 'other')}`);
  await new Promise((resolve) => setTimeout(resolve, 20));
  store.sync();
  expect(await web(store)).toBeUndefined();
  expect(folder.read('all.yaml')).toBe(`---\n${manifest([], 'other')}`);
  expect(store.sourceProblems()).toEqual([]);
});
