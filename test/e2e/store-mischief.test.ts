/** Whatever happens to the files, nothing but `delete` takes an object away, and a good file always wins in the end. */
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ApiError } from '../../src/api/errors.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { manifest, StoreFolder } from './store-folder.ts';
import { manifestOf } from './store-manifest.ts';

const FILES = ['a.yaml', 'b.yml', 'sub/c.yaml'] as const;
const NAMES = ['one', 'two'] as const;

const file = fc.constantFrom(...FILES);
const name = fc.constantFrom(...NAMES);
const vcpus = fc.integer({ min: 1, max: 9 });

const act = fc.oneof(
  fc.record({ type: fc.constant('write' as const), file, names: fc.uniqueArray(name, { minLength: 1 }), vcpus }),
  fc.record({ type: fc.constant('spoil' as const), file, share: fc.double({ min: 0, max: 1, noNaN: true }) }),
  fc.record({ type: fc.constant('move' as const), file, to: file }),
  fc.record({ type: fc.constant('remove' as const), file }),
  fc.record({ type: fc.constant('patch' as const), name, vcpus }),
  fc.record({ type: fc.constant('stop' as const), name }),
  fc.record({ type: fc.constant('apply' as const), name, vcpus }),
  fc.record({ type: fc.constant('delete' as const), name }),
  fc.record({ type: fc.constant('reopen' as const) }),
);
type Act = typeof act extends fc.Arbitrary<infer T> ? T : never;

interface Scene {
  readonly folder: StoreFolder;
  store: FileStore;
}

const textOf = (names: readonly string[], n: number) =>
  names.map((one) => manifest([`vcpus: ${n}  # mine`], one)).join('---\n');
const ref = (one: string) => ({ namespace: 'default', name: one });

/** A refusal is an answer; anything else is a bug. */
async function refusable(write: () => Promise<unknown>): Promise<boolean> {
  try {
    await write();
    return true;
  } catch (error) {
    if (error instanceof ApiError) return false;
    throw error;
  }
}

const onFiles = ({ folder }: Scene, one: Act): void => {
  if (one.type === 'write') folder.write(one.file, textOf(one.names, one.vcpus));
  if (one.type === 'remove') rmSync(folder.path(one.file), { force: true });
  if (one.type === 'spoil' && folder.has(one.file)) {
    const text = folder.read(one.file);
    folder.write(one.file, text.slice(0, Math.floor(text.length * one.share)));
  }
  if (one.type === 'move' && folder.has(one.file)) {
    mkdirSync(dirname(folder.path(one.to)), { recursive: true });
    renameSync(folder.path(one.file), folder.path(one.to));
  }
};

/** The name of the object that is gone now, by request. */
async function perform(scene: Scene, one: Act): Promise<string | undefined> {
  onFiles(scene, one);
  const { store } = scene;
  switch (one.type) {
    case 'patch':
      await refusable(() => store.patch('VirtualMachine', ref(one.name), { spec: { vcpus: one.vcpus } }));
      return undefined;
    case 'stop':
      await refusable(() => store.patch('VirtualMachine', ref(one.name), { spec: { powerState: 'PoweredOff' } }));
      return undefined;
    case 'apply':
      await refusable(() => store.apply(manifestOf(one.name, { vcpus: one.vcpus })));
      return undefined;
    case 'delete':
      return (await refusable(() => store.delete('VirtualMachine', ref(one.name)))) ? one.name : undefined;
    case 'reopen':
      await store.close();
      scene.store = await scene.folder.open({ settleMs: 0, rescanMs: 60_000 });
      return undefined;
    default:
      store.sync();
      return undefined;
  }
}

async function uids(store: FileStore): Promise<Map<string, string>> {
  const { items } = await store.list('VirtualMachine');
  return new Map(items.map(({ metadata }) => [metadata.name, metadata.uid]));
}

test('any sequence of edits, half-written files, moves, removals and verbs', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(act, { maxLength: 30 }), async (acts) => {
      const folder = new StoreFolder();
      const scene: Scene = { folder, store: await folder.open({ settleMs: 0, rescanMs: 60_000 }) };
      try {
        let before = new Map<string, string>();
        for (const one of acts) {
          const deleted = await perform(scene, one);
          const now = await uids(scene.store);
          for (const [object, uid] of before) {
            if (object !== deleted) expect([object, now.get(object)]).toEqual([object, uid]);
          }
          if (deleted !== undefined) expect(now.has(deleted)).toBe(false);
          before = now;
        }
        await heal(scene, before);
      } finally {
        await folder.remove();
      }
    }),
    { numRuns: 60 },
  );
});

/** One good file in place of all others: it counts, nothing is wrong any more, and nobody has become another. */
async function heal({ folder, store }: Scene, before: ReadonlyMap<string, string>): Promise<void> {
  for (const path of [...FILES, ...NAMES.map((one) => `default/${one}.yaml`)]) {
    rmSync(folder.path(path), { force: true });
  }
  rmSync(folder.path('default'), { force: true, recursive: true });
  folder.write('good.yaml', textOf(NAMES, 5));
  store.sync();
  expect(store.problems()).toEqual([]);
  expect(store.sourceProblems()).toEqual([]);
  const { items } = await store.list('VirtualMachine');
  expect(items.map(({ metadata, spec }) => [metadata.name, spec.vcpus])).toEqual(NAMES.map((one) => [one, 5]));
  const now = await uids(store);
  for (const [object, uid] of before) expect(now.get(object)).toBe(uid);
  expect(folder.read('good.yaml')).toBe(textOf(NAMES, 5));
}
