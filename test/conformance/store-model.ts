/** A store against a model that fits on a page: any sequence of operations gives the same answers and the same history. */
import fc from 'fast-check';
import { expect } from 'vitest';
import { ApiError } from '../../src/api/errors.ts';
import type { Store } from '../../src/store/store.ts';
import { type OpenStore, take, vm } from './store.ts';

type Operation =
  | { readonly type: 'create'; readonly name: string; readonly vcpus: number; readonly held: boolean }
  | { readonly type: 'patch'; readonly name: string; readonly vcpus: number; readonly stale: boolean }
  | { readonly type: 'status'; readonly name: string; readonly pid: number }
  | { readonly type: 'release'; readonly name: string }
  | { readonly type: 'delete'; readonly name: string };

interface Modelled {
  readonly uid: string;
  vcpus: number;
  generation: number;
  pid?: number;
  held: boolean;
  ending: boolean;
}

const name = fc.constantFrom('a', 'b', 'c');
const vcpus = fc.integer({ min: 1, max: 4 });
const operation: fc.Arbitrary<Operation> = fc.oneof(
  fc.record({ type: fc.constant('create' as const), name, vcpus, held: fc.boolean() }),
  fc.record({ type: fc.constant('patch' as const), name, vcpus, stale: fc.boolean() }),
  fc.record({ type: fc.constant('status' as const), name, pid: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ type: fc.constant('release' as const), name }),
  fc.record({ type: fc.constant('delete' as const), name }),
);

export function storeModelProperty(open: () => Promise<OpenStore>) {
  return fc.asyncProperty(fc.array(operation, { maxLength: 25 }), async (operations) => {
    const { store, close } = await open();
    try {
      const model = new Map<string, Modelled>();
      for (const one of operations) {
        const answer = await answerOf(store, one, model.get(one.name)?.uid);
        expect(answer.word).toBe(expectedOf(model, one, answer.uid));
        await compare(store, model);
      }
      await replay(store, model);
    } finally {
      await close();
    }
  });
}

const at = (one: string) => ({ namespace: 'default', name: one });

async function answerOf(store: Store, one: Operation, uid = 'nobody'): Promise<{ word: string; uid: string }> {
  try {
    const object = await run(store, one, uid);
    return { word: 'ok', uid: object.metadata.uid };
  } catch (error) {
    if (error instanceof ApiError) return { word: error.reason, uid };
    throw error;
  }
}

function run(store: Store, one: Operation, uid: string) {
  const ref = at(one.name);
  switch (one.type) {
    case 'create':
      return store.create(vm(one.name, { vcpus: one.vcpus }, one.held ? { finalizers: ['x/held'] } : {}));
    case 'patch':
      return store.patch(
        'VirtualMachine',
        ref,
        { spec: { vcpus: one.vcpus } },
        one.stale ? { resourceVersion: '0' } : {},
      );
    case 'status':
      return store.updateStatus('VirtualMachine', ref, { pid: one.pid }, { uid });
    case 'release':
      return store.patch('VirtualMachine', ref, { metadata: { finalizers: null } });
    case 'delete':
      return store.delete('VirtualMachine', ref);
  }
}

/** What Kubernetes would answer; the model follows. */
function expectedOf(model: Map<string, Modelled>, one: Operation, uid: string): string {
  const object = model.get(one.name);
  if (one.type === 'create') {
    if (object !== undefined) return 'AlreadyExists';
    model.set(one.name, { uid, vcpus: one.vcpus, generation: 1, held: one.held, ending: false });
    return 'ok';
  }
  if (object === undefined) return 'NotFound';
  if (one.type === 'patch' && one.stale) return 'Conflict';
  change(object, one);
  if (object.ending && !object.held) model.delete(one.name);
  return 'ok';
}

function change(object: Modelled, one: Exclude<Operation, { type: 'create' }>): void {
  if (one.type === 'status') object.pid = one.pid;
  if (one.type === 'release') object.held = false;
  if (one.type === 'patch' && one.vcpus !== object.vcpus) {
    object.vcpus = one.vcpus;
    object.generation += 1;
  }
  if (one.type === 'delete' && !object.ending) {
    object.ending = true;
    object.generation += 1;
  }
}

async function compare(store: Store, model: Map<string, Modelled>): Promise<void> {
  const { items } = await store.list('VirtualMachine');
  expect(
    items.map(({ metadata, spec, status }) => [
      metadata.name,
      metadata.uid,
      spec.vcpus,
      metadata.generation,
      status?.pid,
      metadata.deletionTimestamp !== undefined,
    ]),
  ).toEqual(
    [...model]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, one]) => [key, one.uid, one.vcpus, one.generation, one.pid, one.ending]),
  );
}

/** The history, played from its start, ends in what a list shows. */
async function replay(store: Store, model: Map<string, Modelled>): Promise<void> {
  const stop = new AbortController();
  const end = await store.create(vm('end'));
  const played = new Set<string>();
  const { signal } = stop;
  for await (const event of store.watch('VirtualMachine', { resourceVersion: '0', signal })) {
    if (event.type === 'BOOKMARK') continue;
    const { metadata } = event.object;
    if (event.type === 'ADDED') expect(played.has(metadata.name)).toBe(false);
    if (event.type === 'DELETED') played.delete(metadata.name);
    else played.add(metadata.name);
    if (metadata.uid === end.metadata.uid) break;
  }
  expect([...played].sort()).toEqual([...model.keys(), 'end'].sort());
  const all = await take(store.watch('VirtualMachine', { signal }), played.size);
  expect(all.every(({ type }) => type === 'ADDED')).toBe(true);
  stop.abort();
}
