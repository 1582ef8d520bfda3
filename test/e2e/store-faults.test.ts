/** Disks that run full or turn read-only, files that may not be read, a damaged database: said clearly, nothing lost. */
import { spawnSync } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { StoreUnavailableError } from '../../src/api/errors.ts';
import { openFileStore } from '../../src/store/file-store.ts';
import { StoreFolder, WEB } from './store-folder.ts';
import { manifestOf } from './store-manifest.ts';

const PROCESS = fileURLToPath(new URL('store-process.ts', import.meta.url));
const isRoot = process.getuid?.() === 0;

let folder: StoreFolder;

beforeEach(() => {
  folder = new StoreFolder();
});
afterEach(() => folder.remove());

/** What the process of `work` reports. */
function report(command: string[], work: string): Record<string, unknown> {
  const [program = '', ...words] = [...command, process.execPath, PROCESS, work, folder.dir];
  const ended = spawnSync(program, words, { encoding: 'utf8' });
  expect(ended.stderr).toBe('');
  return JSON.parse(ended.stdout) as Record<string, unknown>;
}

test('a full disk refuses the write whole, a read-only one the store; both say what to do', () => {
  // In a mount namespace of its own, so that nothing stays; an ordinary user is root in a user namespace.
  const apart = ['unshare', '--mount', ...(isRoot ? [] : ['--map-root-user'])];
  const [program = '', ...words] = [...apart, 'mount', '-t', 'tmpfs', 'tmpfs', folder.dir];
  const may = spawnSync(program, words).status === 0;
  expect(may, 'this user may not mount a small disk: run the tests as root, or allow user namespaces').toBe(true);
  const told = report(apart, 'small-disk');
  expect(told).toEqual({
    full: {
      patch: expect.stringMatching(/^ServiceUnavailable: .*the disk is full: free some space/),
      create: expect.stringMatching(/^ServiceUnavailable: .*the disk is full: free some space/),
      unchanged: true,
    },
    space: 'ok',
    readOnly: {
      opened: expect.stringMatching(/^ServiceUnavailable: .*make the folder and its file system writable/),
      same: true,
      vcpus: 6,
    },
  });
});

test('what may not be read or written deletes nothing and says so', () => {
  const told = report([], 'unreadable');
  expect(told).toEqual({
    closed: {
      problems: [
        expect.stringMatching(/^web-1 ManifestInvalid .*cannot be read: EACCES/),
        expect.stringMatching(/^web-2 ManifestInvalid .*cannot be read: EACCES/),
      ],
      names: ['web-1', 'web-2'],
    },
    patch: expect.stringMatching(/^ServiceUnavailable: .*cannot be read/),
    mended: { problems: [], names: ['web-1', 'web-2'] },
    folder: expect.stringMatching(/^ServiceUnavailable: .*permission denied: look at the owner/),
    remove: expect.stringMatching(/^ServiceUnavailable: .*permission denied: look at the owner/),
    vcpus: 4,
    opened: expect.stringMatching(/^ServiceUnavailable: .*writable/),
  });
});

test('a damaged entry is told by every answer that would need it, and is nobody who may be deleted', async () => {
  const store = await folder.open();
  await store.create(manifestOf('web-1'));
  await store.create(manifestOf('web-2'));
  const before = folder.read('default/web-1.yaml');
  await store.close();
  sql("UPDATE objects SET json = substr(json, 1, 40) WHERE name = 'web-1'");
  const again = await folder.open();
  for (const ask of [
    () => again.get('VirtualMachine', WEB),
    () => again.list('VirtualMachine'),
    () => again.delete('VirtualMachine', WEB),
    () => again.create(manifestOf('web-1')),
  ]) {
    await expect(ask()).rejects.toThrow(StoreUnavailableError);
    await expect(ask()).rejects.toThrow(/VirtualMachine default\/web-1 is damaged.*nothing is deleted.*backup/);
  }
  expect(folder.read('default/web-1.yaml')).toBe(before);
  // Manifests cannot be taken in while it is so: that is told, and what can be read is read.
  folder.write('default/web-1.yaml', before.replace('x86_64', 'x86_64\n  vcpus: 9'));
  await new Promise((resolve) => setTimeout(resolve, 60));
  expect(() => again.sync()).toThrow(StoreUnavailableError);
  expect(again.sourceProblems()).toEqual([{ source: '.', message: expect.stringContaining('is damaged') }]);
  await (await folder.open()).close();
  expect(await again.get('VirtualMachine', { ...WEB, name: 'web-2' })).toBeDefined();
});

test('a damaged database is refused with what to do, and stays as it is', async () => {
  const store = await folder.open();
  await store.create(manifestOf('web-1'));
  await store.close();
  const fd = openSync(folder.path('.state/store.db'), 'r+');
  writeSync(fd, 'this is no database', 0);
  ftruncateSync(fd, 30_000);
  closeSync(fd);
  await expect(folder.open()).rejects.toThrow(/store\.db cannot be used: the file is damaged.*backup/);
  expect(folder.has('default/web-1.yaml')).toBe(true);
  expect(folder.has('.state/store.db')).toBe(true);
});

test('a spec of another version is returned, told, and can be mended by a patch', async () => {
  const store = await folder.open();
  const made = await store.create(manifestOf('web-1'));
  const { uid } = made.metadata;
  sql("UPDATE objects SET json = replace(json_remove(json, '$.sum'), 'x86_64', 'riscv64')");
  const again = await folder.open();
  expect((await again.get('VirtualMachine', WEB))?.metadata.uid).toBe(uid);
  expect((await again.list('VirtualMachine')).items[0]?.spec).toMatchObject({ architecture: 'riscv64' });
  expect(again.problems()).toEqual([
    { kind: 'VirtualMachine', ref: WEB, reason: 'InvalidSpec', message: expect.stringContaining('architecture') },
  ]);
  const stalled = { phase: 'Failed' as const };
  expect((await again.updateStatus('VirtualMachine', WEB, stalled, { uid })).status).toEqual(stalled);
  await again.patch('VirtualMachine', WEB, { metadata: { finalizers: ['x/held'] } });
  await expect(again.patch('VirtualMachine', WEB, { spec: { vcpus: 4 } })).rejects.toThrow('architecture');
  await again.patch('VirtualMachine', WEB, { spec: { architecture: 'x86_64' } });
  expect(again.problems()).toEqual([]);
});

test('a field of a newer version survives the writes of this one', async () => {
  const store = await folder.open();
  await store.create(manifestOf('web-1'));
  sql(`UPDATE objects SET json = replace(json_remove(json, '$.sum'), '"spec":{', '"spec":{"teleport":true,')`);
  const again = await folder.open();
  expect((await again.patch('VirtualMachine', WEB, { spec: { vcpus: 4 } })).spec.vcpus).toBe(4);
  expect(sql("SELECT json->'spec' AS spec FROM objects")).toContain('"teleport":true');
});

test('a store on a network file system is refused before anything is written there', async () => {
  const open = openFileStore({ dir: folder.dir, fileSystemType: () => 0x6969 });
  await expect(open).rejects.toThrow(StoreUnavailableError);
  await expect(open).rejects.toThrow(/lies on NFS.*local disk/);
  expect(folder.has('.state')).toBe(false);
});

function sql(statement: string): string {
  const database = new DatabaseSync(folder.path('.state/store.db'), { timeout: 5_000 });
  try {
    return JSON.stringify(database.prepare(statement).all()).replaceAll('\\"', '"');
  } finally {
    database.close();
  }
}
