/** What every Store promises, whatever lies beneath. `open` makes an empty store with a short history. */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Manifest, parseManifest } from '../../src/api/admission.ts';
import {
  AlreadyExistsError,
  ConflictError,
  ExpiredError,
  ForbiddenError,
  InvalidObjectError,
  NotFoundError,
} from '../../src/api/errors.ts';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import type { Store, WatchEvent } from '../../src/store/store.ts';
import { storeModelProperty } from './store-model.ts';

/** Opened with a history of 50 changes and a bookmark every 100 ms. */
export interface OpenStore {
  readonly store: Store;
  /** Where its history is not of so many changes: forgets all up to now. */
  readonly forget?: () => Promise<void>;
  close(): Promise<void>;
}

const at = (name: string, namespace = 'default') => ({ namespace, name });

export function vm(name: string, spec: object = {}, metadata: object = {}): Manifest<'VirtualMachine'> {
  return parseManifest({
    apiVersion: 'qemu-operator.dev/v1alpha1',
    kind: 'VirtualMachine',
    metadata: { name, ...metadata },
    spec: { architecture: 'x86_64', ...spec },
  }) as Manifest<'VirtualMachine'>;
}

export function host(name: string, spec: object = {}): Manifest<'Host'> {
  return parseManifest({
    apiVersion: 'qemu-operator.dev/v1alpha1',
    kind: 'Host',
    metadata: { name },
    spec: { local: {}, ...spec },
  }) as Manifest<'Host'>;
}

/** Collects events until `count` have come. On a slow machine a bookmark may come first: it counts if it is wanted. */
export async function take<T extends { readonly type: string }>(
  events: AsyncIterable<T>,
  count: number,
  wanted: 'changes' | 'bookmarks too' = 'changes',
): Promise<T[]> {
  const taken: T[] = [];
  for await (const event of events) {
    if (event.type === 'BOOKMARK' && wanted === 'changes') continue;
    taken.push(event);
    if (taken.length === count) break;
  }
  return taken;
}

const words = (events: readonly WatchEvent[]) =>
  events.map((event) => (event.type === 'BOOKMARK' ? event.type : `${event.type} ${event.object.metadata.name}`));

export function describeStore(name: string, open: () => Promise<OpenStore>): void {
  describe(name, () => {
    let opened: OpenStore;
    let store: Store;
    let stop: AbortController;

    beforeEach(async () => {
      opened = await open();
      store = opened.store;
      stop = new AbortController();
    });
    afterEach(async () => {
      stop.abort();
      await opened.close();
    });

    describe('create and read', () => {
      test('gives uid, generation 1, times, the default namespace and defaults', async () => {
        const made = await store.create(vm('web-1', { memory: '4Gi' }, { labels: { tier: 'web' } }));
        expect(made.metadata).toMatchObject({ namespace: 'default', generation: 1, labels: { tier: 'web' } });
        expect(made.metadata.uid).toMatch(/^[0-9a-f-]{36}$/);
        expect(Date.now() - Date.parse(made.metadata.creationTimestamp)).toBeLessThan(10_000);
        expect(made.spec).toMatchObject({ memory: '4Gi', vcpus: 2, powerOff: { mode: 'TrySoft' } });
        expect(made.status).toBeUndefined();
        expect(await store.get('VirtualMachine', at('web-1'))).toEqual(made);
      });

      test('refuses a second object of one name, and only of one kind and namespace', async () => {
        await store.create(vm('web-1'));
        await expect(store.create(vm('web-1'))).rejects.toThrow(AlreadyExistsError);
        await store.create(vm('web-1', {}, { namespace: 'other' }));
        await store.create(host('web-1'));
        expect(await store.get('Host', { name: 'web-1' })).toBeDefined();
      });

      test('answers undefined for what is not there', async () => {
        expect(await store.get('VirtualMachine', at('nobody'))).toBeUndefined();
      });

      test('knows the namespace that is everywhere', async () => {
        expect(await store.hasNamespace('default')).toBe(true);
      });

      test('a dry run answers as the write would, and keeps nothing', async () => {
        const made = await store.create(vm('web-1'), { dryRun: true });
        expect(made.spec.vcpus).toBe(2);
        expect((await store.list('VirtualMachine')).items).toEqual([]);
        await store.create(vm('web-1'));
        await store.patch('VirtualMachine', at('web-1'), { spec: { vcpus: 8 } }, { dryRun: true });
        const patched = await store.patch('VirtualMachine', at('web-1'), { spec: { vcpus: 4 } });
        expect(patched.spec.vcpus).toBe(4);
        expect((await store.get('VirtualMachine', at('web-1')))?.spec.vcpus).toBe(4);
      });

      test('lists by namespace and labels, sorted, with a resourceVersion to watch from', async () => {
        await store.create(vm('b', {}, { labels: { tier: 'web' } }));
        await store.create(vm('a', {}, { labels: { tier: 'web', zone: 'x' } }));
        const last = await store.create(vm('c', {}, { namespace: 'other' }));
        const all = await store.list('VirtualMachine');
        expect(all.items.map(({ metadata }) => metadata.name)).toEqual(['a', 'b', 'c']);
        expect(all.resourceVersion).toBe(last.metadata.resourceVersion);
        const names = async (options: object) =>
          (await store.list('VirtualMachine', options)).items.map(({ metadata }) => metadata.name);
        expect(await names({ namespace: 'other' })).toEqual(['c']);
        expect(await names({ labels: { tier: 'web', zone: 'x' } })).toEqual(['a']);
      });

      test('lists the VMs that name a Host, also one that was named later, until they are gone', async () => {
        for (const name of ['c', 'a']) await store.create(vm(name, { hostName: 'rack-1' }));
        await store.create(vm('b', { hostName: 'rack-2' }));
        await store.create(vm('d'));
        const names = async (options: object) =>
          (await store.list('VirtualMachine', options)).items.map(({ metadata }) => metadata.name);
        expect(await names({ hostName: 'rack-1' })).toEqual(['a', 'c']);
        await store.patch('VirtualMachine', at('d'), { spec: { hostName: 'rack-1' } });
        await store.delete('VirtualMachine', at('a'));
        expect(await names({ hostName: 'rack-1' })).toEqual(['c', 'd']);
        expect(await names({ hostName: 'rack-2' })).toEqual(['b']);
        expect(await names({ hostName: 'rack-3' })).toEqual([]);
      });

      test('what a reader was given cannot be changed under another reader', async () => {
        await store.create(vm('web-1', { disks: [{ name: 'root', size: '1Gi' }] }));
        const read = await store.get('VirtualMachine', at('web-1'));
        expect(() => read?.spec.disks?.push({ name: 'x', format: 'raw' })).toThrow(TypeError);
        expect((await store.get('VirtualMachine', at('web-1')))?.spec.disks).toHaveLength(1);
      });
    });

    describe('patch', () => {
      test('is a merge patch: null removes, lists are replaced, the rest stays', async () => {
        await store.create(vm('web-1', { disks: [{ name: 'root', size: '1Gi' }] }, { labels: { a: '1', b: '2' } }));
        const patched = await store.patch('VirtualMachine', at('web-1'), {
          metadata: { labels: { a: null, c: '3' }, annotations: { note: 'x' } },
          spec: { memory: '4Gi', disks: [{ name: 'data', size: '2Gi' }] },
        });
        expect(patched.metadata.labels).toEqual({ b: '2', c: '3' });
        expect(patched.metadata.annotations).toEqual({ note: 'x' });
        expect(patched.spec.disks).toEqual([{ name: 'data', size: '2Gi', format: 'qcow2' }]);
        const back = await store.patch('VirtualMachine', at('web-1'), { spec: { memory: null } });
        expect(back.spec.memory).toBe('2Gi');
      });

      test('generation counts changes of the spec alone, resourceVersion every change', async () => {
        const made = await store.create(vm('web-1'));
        const labelled = await store.patch('VirtualMachine', at('web-1'), { metadata: { labels: { a: '1' } } });
        expect(labelled.metadata.generation).toBe(1);
        expect(labelled.metadata.resourceVersion).not.toBe(made.metadata.resourceVersion);
        const sized = await store.patch('VirtualMachine', at('web-1'), { spec: { vcpus: 3 } });
        expect(sized.metadata.generation).toBe(2);
        const same = await store.patch('VirtualMachine', at('web-1'), { spec: { vcpus: 3 } });
        expect(same).toEqual(sized);
      });

      test('naming a default changes nothing that anybody sees', async () => {
        const made = await store.create(vm('web-1'));
        expect(await store.patch('VirtualMachine', at('web-1'), { spec: { vcpus: 2 } })).toMatchObject({
          metadata: { generation: made.metadata.generation },
        });
      });

      test('a stale resourceVersion or another uid is a conflict', async () => {
        const made = await store.create(vm('web-1'));
        await store.patch('VirtualMachine', at('web-1'), { spec: { vcpus: 3 } });
        const patch = (preconditions: object) =>
          store.patch('VirtualMachine', at('web-1'), { spec: { vcpus: 4 } }, preconditions);
        await expect(patch({ resourceVersion: made.metadata.resourceVersion })).rejects.toThrow(ConflictError);
        await expect(patch({ uid: 'another' })).rejects.toThrow(ConflictError);
        const label = (preconditions: object) =>
          store.patch('VirtualMachine', at('web-1'), { metadata: { labels: { a: '1' } } }, preconditions);
        await expect(label({ resourceVersion: made.metadata.resourceVersion })).rejects.toThrow(ConflictError);
        await expect(label({ uid: 'another' })).rejects.toThrow(ConflictError);
        expect((await store.get('VirtualMachine', at('web-1')))?.spec.vcpus).toBe(3);
        await patch({ uid: made.metadata.uid });
      });

      test.each([
        ['a wrong value', { vcpus: 0 }, 'spec.vcpus'],
        ['an unknown field', { vcpu: 2 }, 'did you mean vcpus'],
        ['an immutable field', { architecture: 'arm64' }, 'immutable'],
        ['a shrinking disk', { disks: [{ name: 'root', size: '1Gi' }] }, 'set size: 20Gi'],
        ['a missing field', { architecture: null }, 'spec.architecture'],
      ])('refuses %s and changes nothing', async (_what, spec, sentence) => {
        const made = await store.create(vm('web-1', { disks: [{ name: 'root', size: '20Gi' }] }));
        const patch = store.patch('VirtualMachine', at('web-1'), { spec });
        await expect(patch).rejects.toThrow(InvalidObjectError);
        await expect(patch).rejects.toThrow(sentence);
        expect(await store.get('VirtualMachine', at('web-1'))).toEqual(made);
      });

      test('a list written back with its defaults is the same spec', async () => {
        const made = await store.create(vm('web-1', { disks: [{ name: 'root', size: '20Gi' }] }));
        const { disks } = made.spec;
        const patched = await store.patch('VirtualMachine', at('web-1'), { spec: { disks } });
        expect(patched.metadata.generation).toBe(1);
      });

      test("takes away a word of a person's, and leaves those of the controller that came with the object", async () => {
        const [claimed, own] = ['qemu-operator.dev/claimed', 'qemu-operator.dev/take-over'];
        const annotations = { [claimed]: 'machine', [own]: 'store' };
        await store.create({ ...host('rack1'), metadata: { name: 'rack1', annotations } });
        const { metadata } = await store.patch(
          'Host',
          { name: 'rack1' },
          { metadata: { annotations: { [own]: null } } },
        );
        expect(metadata.annotations).toEqual({ [claimed]: 'machine' });
      });

      test('of nobody is NotFound', async () => {
        await expect(store.patch('VirtualMachine', at('nobody'), {})).rejects.toThrow(NotFoundError);
      });
    });

    describe('status', () => {
      const phase = (made: VirtualMachine, value: 'Running' | 'Stopped') =>
        store.updateStatus('VirtualMachine', at('web-1'), { phase: value }, { uid: made.metadata.uid });

      test('is replaced whole and leaves spec and generation alone', async () => {
        const made = await store.create(vm('web-1'));
        const { uid } = made.metadata;
        await store.updateStatus('VirtualMachine', at('web-1'), { phase: 'Running', pid: 7 }, { uid });
        const stopped = await phase(made, 'Stopped');
        expect(stopped.status).toEqual({ phase: 'Stopped' });
        expect(stopped.metadata.generation).toBe(1);
        expect(stopped.spec).toEqual(made.spec);
        const patched = await store.patch('VirtualMachine', at('web-1'), { spec: { vcpus: 3 } });
        expect(patched.status).toEqual({ phase: 'Stopped' });
      });

      test('an equal one is not written', async () => {
        const made = await store.create(vm('web-1'));
        const first = await phase(made, 'Running');
        const again = await phase(made, 'Running');
        expect(again.metadata.resourceVersion).toBe(first.metadata.resourceVersion);
      });

      test('of another object of that name is a conflict; of nobody NotFound; a wrong one Invalid', async () => {
        const made = await store.create(vm('web-1'));
        const { uid } = made.metadata;
        const set = (ref: object, status: object, who = uid) =>
          store.updateStatus('VirtualMachine', { ...at('web-1'), ...ref }, status, { uid: who });
        await expect(set({}, { phase: 'Running' }, 'another')).rejects.toThrow(ConflictError);
        await store.patch('VirtualMachine', at('web-1'), { spec: { vcpus: 3 } });
        const { resourceVersion } = made.metadata;
        const stale = store.updateStatus('VirtualMachine', at('web-1'), { phase: 'Running' }, { uid, resourceVersion });
        await expect(stale).rejects.toThrow(ConflictError);
        await expect(set({ name: 'nobody' }, { phase: 'Running' })).rejects.toThrow(NotFoundError);
        await expect(set({}, { phase: 'Dancing' })).rejects.toThrow(InvalidObjectError);
        const lenient = await set({}, { phase: 'Running', ofANewerVersion: 1 });
        expect(lenient.status).toEqual({ phase: 'Running' });
      });
    });

    describe('delete', () => {
      test('without finalizers removes at once', async () => {
        await store.create(vm('web-1'));
        await store.delete('VirtualMachine', at('web-1'));
        expect(await store.get('VirtualMachine', at('web-1'))).toBeUndefined();
        await expect(store.delete('VirtualMachine', at('web-1'))).rejects.toThrow(NotFoundError);
      });

      test('with finalizers waits for the last of them', async () => {
        const made = await store.create(vm('web-1', {}, { finalizers: ['x/a', 'x/b'] }));
        const ending = await store.delete('VirtualMachine', at('web-1'));
        expect(ending.metadata.deletionTimestamp).toBeDefined();
        expect(ending.metadata.generation).toBe(made.metadata.generation + 1);
        expect(await store.delete('VirtualMachine', at('web-1'))).toEqual(ending);
        const finalizers = (list: string[] | null) =>
          store.patch('VirtualMachine', at('web-1'), { metadata: { finalizers: list } });
        await expect(finalizers(['x/a', 'x/b', 'x/c'])).rejects.toThrow(InvalidObjectError);
        await expect(store.create(vm('web-1'))).rejects.toThrow('being deleted');
        await finalizers(['x/b']);
        expect(await store.get('VirtualMachine', at('web-1'))).toBeDefined();
        await finalizers(null);
        expect(await store.get('VirtualMachine', at('web-1'))).toBeUndefined();
        const anew = await store.create(vm('web-1'));
        expect(anew.metadata.uid).not.toBe(made.metadata.uid);
      });

      test('a hold keeps it, and what others say of it', async () => {
        const made = await store.create(vm('web-1', {}, { finalizers: ['x/a'], labels: { team: 'a' } }));
        const { uid } = made.metadata;
        const hold = { finalizer: 'x/b', labels: { host: 'box' } };
        const held = await store.hold('VirtualMachine', at('web-1'), hold, { uid });
        expect(new Set(held.metadata.finalizers)).toEqual(new Set(['x/a', 'x/b']));
        expect(held.metadata).toMatchObject({
          labels: { team: 'a', host: 'box' },
          generation: made.metadata.generation,
        });
        const again = await store.hold('VirtualMachine', at('web-1'), hold, { uid });
        expect(again.metadata.resourceVersion).toBe(held.metadata.resourceVersion);
        const refused = store.hold('VirtualMachine', at('web-1'), hold, { uid: 'another' });
        await expect(refused).rejects.toThrow(ConflictError);
        const absent = store.hold('VirtualMachine', at('nobody'), hold, { uid });
        await expect(absent.catch(({ name }) => name)).resolves.toMatch(/^(ConflictError|NotFoundError)$/);
        const released = { metadata: { finalizers: ['x/b'] } };
        expect((await store.patch('VirtualMachine', at('web-1'), released)).metadata.finalizers).toEqual(['x/b']);
        await store.delete('VirtualMachine', at('web-1'));
        const late = { finalizer: 'x/c' };
        await expect(store.hold('VirtualMachine', at('web-1'), late, { uid })).rejects.toThrow(InvalidObjectError);
        await store.patch('VirtualMachine', at('web-1'), { metadata: { finalizers: null } });
        expect(await store.get('VirtualMachine', at('web-1'))).toBeUndefined();
      });

      test('keeps its preconditions', async () => {
        const made = await store.create(vm('web-1'));
        await expect(store.delete('VirtualMachine', at('web-1'), { uid: 'another' })).rejects.toThrow(ConflictError);
        await store.delete('VirtualMachine', at('web-1'), { uid: made.metadata.uid });
      });

      test('is refused while the object is protected, and the message says the way out', async () => {
        await store.create(vm('web-1', {}, { annotations: { 'qemu-operator.dev/protected': 'true' } }));
        const refused = store.delete('VirtualMachine', at('web-1'));
        await expect(refused).rejects.toThrow(ForbiddenError);
        await expect(refused).rejects.toThrow('qemu-operator.dev/protected-');
        expect((await store.get('VirtualMachine', at('web-1')))?.metadata.deletionTimestamp).toBeUndefined();
        await store.patch('VirtualMachine', at('web-1'), {
          metadata: { annotations: { 'qemu-operator.dev/protected': 'false' } },
        });
        await store.delete('VirtualMachine', at('web-1'));
      });
    });

    describe('apply', () => {
      test('creates, then answers unchanged, then configures', async () => {
        expect((await store.apply(vm('web-1'))).outcome).toBe('created');
        expect((await store.apply(vm('web-1'))).outcome).toBe('unchanged');
        const { outcome, object } = await store.apply(vm('web-1', { vcpus: 4 }));
        expect([outcome, object.spec.vcpus, object.metadata.generation]).toEqual(['configured', 4, 2]);
      });

      test('what it no longer says falls back to its default; what no manifest ever said stays', async () => {
        await store.apply(vm('web-1', { vcpus: 4, memory: '8Gi' }, { labels: { a: '1' } }));
        await store.patch('VirtualMachine', at('web-1'), {
          metadata: { labels: { b: '2' } },
          spec: { powerState: 'PoweredOff' },
        });
        const { object } = await store.apply(vm('web-1', { memory: '8Gi' }));
        expect(object.spec).toMatchObject({ vcpus: 2, memory: '8Gi', powerState: 'PoweredOff' });
        expect(object.metadata.labels).toEqual({ b: '2' });
      });

      test('a default that a person wrote down is declared as everything else', async () => {
        const asWritten = { architecture: 'x86_64', vcpus: 2 };
        await store.apply(vm('web-1', asWritten), { asWritten });
        await store.patch('VirtualMachine', at('web-1'), { spec: { vcpus: 6 } });
        const { object } = await store.apply(vm('web-1', asWritten), { asWritten });
        expect(object.spec.vcpus).toBe(2);
      });

      test('undeclared fields are set and never taken back', async () => {
        await store.create(vm('web-1', { powerState: 'PoweredOff' }), { undeclared: ['powerState'] });
        const { object } = await store.apply(vm('web-1', { vcpus: 4 }));
        expect(object.spec.powerState).toBe('PoweredOff');
      });

      test('refuses what may not change, a stale resourceVersion, and an object that is being deleted', async () => {
        const made = await store.create(vm('web-1', {}, { finalizers: ['x/a'] }));
        await expect(store.apply(vm('web-1', { architecture: 'arm64' }))).rejects.toThrow(InvalidObjectError);
        const { resourceVersion } = made.metadata;
        await store.patch('VirtualMachine', at('web-1'), { spec: { vcpus: 3 } });
        await expect(store.apply(vm('web-1', {}, { resourceVersion }))).rejects.toThrow(ConflictError);
        await store.delete('VirtualMachine', at('web-1'));
        await expect(store.apply(vm('web-1'))).rejects.toThrow(ConflictError);
      });
    });

    describe('watch', () => {
      test('from the beginning: what exists, then what happens, in order', async () => {
        await store.create(vm('a'));
        const events = take(store.watch('VirtualMachine', { signal: stop.signal }), 4);
        await store.create(vm('b'));
        await store.patch('VirtualMachine', at('a'), { spec: { vcpus: 3 } });
        await store.delete('VirtualMachine', at('a'));
        expect(words(await events)).toEqual(['ADDED a', 'ADDED b', 'MODIFIED a', 'DELETED a']);
      });

      test('from a list: no gap and no repetition', async () => {
        await store.create(vm('a'));
        const { resourceVersion } = await store.list('VirtualMachine');
        await store.create(vm('b'));
        await store.create(host('h'));
        const events = await take(store.watch('VirtualMachine', { resourceVersion, signal: stop.signal }), 1);
        expect(words(events)).toEqual(['ADDED b']);
      });

      test('can be narrowed to a namespace or a name', async () => {
        const other = take(store.watch('VirtualMachine', { namespace: 'other', signal: stop.signal }), 1);
        const named = take(store.watch('VirtualMachine', { name: 'b', signal: stop.signal }), 1);
        await store.create(vm('a'));
        await store.create(vm('b'));
        await store.create(vm('c', {}, { namespace: 'other' }));
        expect(words(await other)).toEqual(['ADDED c']);
        expect(words(await named)).toEqual(['ADDED b']);
      });

      test('a deletion carries the last state and a resourceVersion of its own', async () => {
        const made = await store.create(vm('a'));
        await store.delete('VirtualMachine', at('a'));
        const { resourceVersion } = made.metadata;
        const [event] = await take(store.watch('VirtualMachine', { resourceVersion, signal: stop.signal }), 1);
        if (event?.type !== 'DELETED') throw new Error(`saw ${event?.type}`);
        expect(event.object.metadata.uid).toBe(made.metadata.uid);
        expect(Number(event.object.metadata.resourceVersion)).toBeGreaterThan(Number(resourceVersion));
      });

      test('a quiet one is told how far it has come, and may go on from there', async () => {
        await store.create(host('h'));
        const [bookmark] = await take(store.watch('VirtualMachine', { signal: stop.signal }), 1, 'bookmarks too');
        if (bookmark?.type !== 'BOOKMARK') throw new Error(`saw ${bookmark?.type}`);
        await store.create(vm('a'));
        const { resourceVersion } = bookmark;
        const events = await take(store.watch('VirtualMachine', { resourceVersion, signal: stop.signal }), 1);
        expect(words(events)).toEqual(['ADDED a']);
      });

      test('older than the history is Expired, so is what this store never said', async () => {
        const made = await store.create(vm('a'));
        for (let vcpus = 1; vcpus <= 60; vcpus += 1) {
          await store.patch('VirtualMachine', at('a'), { spec: { vcpus } });
        }
        await opened.forget?.();
        const from = (resourceVersion: string) =>
          take(store.watch('VirtualMachine', { resourceVersion, signal: stop.signal }), 1);
        await expect(from(made.metadata.resourceVersion)).rejects.toThrow(ExpiredError);
        await expect(from('999999')).rejects.toThrow(ExpiredError);
        await expect(from('tomorrow')).rejects.toThrow(ExpiredError);
      });

      test('ends without error when its signal aborts', async () => {
        const events = take(store.watch('VirtualMachine', { signal: stop.signal }), 100_000, 'bookmarks too');
        setTimeout(() => stop.abort(), 20);
        expect((await events).every(({ type }) => type === 'BOOKMARK')).toBe(true);
      });

      test('a slow reader loses nothing', async () => {
        const seen: string[] = [];
        const reader = (async () => {
          for await (const event of store.watch('VirtualMachine', { signal: stop.signal })) {
            if (event.type !== 'BOOKMARK') seen.push(event.object.metadata.resourceVersion);
            await new Promise((resolve) => setTimeout(resolve, 5));
            if (seen.length === 11) break;
          }
        })();
        const written = [(await store.create(vm('a'))).metadata.resourceVersion];
        for (let vcpus = 3; vcpus < 13; vcpus += 1) {
          const patched = await store.patch('VirtualMachine', at('a'), { spec: { vcpus } });
          written.push(patched.metadata.resourceVersion);
        }
        await reader;
        expect(seen).toEqual(written);
      });
    });

    test('concurrent writers with preconditions lose nothing: one wins, the others are told', async () => {
      await store.create(vm('web-1', { vcpus: 1 }));
      const increment = async (): Promise<void> => {
        for (;;) {
          const { metadata, spec } = (await store.get('VirtualMachine', at('web-1'))) as VirtualMachine;
          const { resourceVersion } = metadata;
          try {
            await store.patch('VirtualMachine', at('web-1'), { spec: { vcpus: spec.vcpus + 1 } }, { resourceVersion });
            return;
          } catch (error) {
            if (!(error instanceof ConflictError)) throw error;
          }
        }
      };
      await Promise.all(Array.from({ length: 20 }, increment));
      expect((await store.get('VirtualMachine', at('web-1')))?.spec.vcpus).toBe(21);
    });

    test('behaves as a plain model under any sequence of operations', async () => {
      await fc.assert(storeModelProperty(open), { numRuns: 25 });
    });
  });
}
