/** What a TableStore asks of the manifests beside it, and its sentences; the Store contract is under conformance. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NotFoundError } from '../../src/api/errors.ts';
import { Database } from '../../src/store/database.ts';
import { ObjectTable } from '../../src/store/object-table.ts';
import { type Sources, TableStore } from '../../src/store/table-store.ts';
import { host, take, vm } from '../conformance/store.ts';
import { storedVm } from '../fakes/manifests.ts';

const at = (name: string) => ({ namespace: 'default', name });
const PROBLEM = { kind: 'VirtualMachine', ref: at('x'), reason: 'ManifestMissing', message: 'gone' } as const;

/** Notes what it is asked; `failure` is thrown by prepare. */
class NotingSources implements Sources {
  readonly calls: string[] = [];
  failure: Error | undefined;
  refresh = (kind: string, { name }: { name: string }) => void this.calls.push(`refresh ${kind} ${name}`);
  declare = (_kind: string, { name }: { name: string }, declaration: { spec: object }, make: boolean) =>
    void this.calls.push(`declare ${name} ${Object.keys(declaration.spec).join(',')} ${make}`);
  undeclare = (_kind: string, { name }: { name: string }) => void this.calls.push(`undeclare ${name}`);
  removed = (_kind: string, { name }: { name: string }) => void this.calls.push(`removed ${name}`);
  prepare = () => {
    this.calls.push('prepare');
    if (this.failure !== undefined) throw this.failure;
  };
  settle = () => void this.calls.push('settle');
  forget = () => void this.calls.push('forget');
  problems = () => [PROBLEM];
  sourceProblems = () => [{ path: '/m/a.yaml', message: 'not YAML' } as never];
}

let db: Database;
let table: ObjectTable;
let sources: NotingSources;
let store: TableStore;

beforeEach(() => {
  db = new Database(':memory:');
  table = new ObjectTable(db);
  sources = new NotingSources();
  store = new TableStore({ db, table, sources, bookmarkMs: 60_000 });
});
afterEach(() => store.close());

/** What the work asked of the sources. */
async function calls(work: () => Promise<unknown>): Promise<string[]> {
  sources.calls.length = 0;
  await work();
  return [...sources.calls];
}

const OK = ['prepare', 'settle'];

describe('the manifests beside a table', () => {
  test('create makes one', async () => {
    expect(await calls(() => store.create(vm('a', { vcpus: 3 })))).toEqual([
      'refresh VirtualMachine a',
      'declare a architecture,vcpus true',
      ...OK,
    ]);
  });

  test('apply makes one, whether the object is new or not', async () => {
    const made = ['refresh VirtualMachine a', 'declare a architecture true', ...OK];
    expect(await calls(() => store.apply(vm('a')))).toEqual(made);
    expect(await calls(() => store.apply(vm('a')))).toEqual(made);
  });

  test('a patch changes one where it speaks of what is declared, and makes none', async () => {
    await store.create(vm('a', { vcpus: 3 }));
    const patch = (spec: Readonly<Record<string, unknown>>) =>
      calls(() => store.patch('VirtualMachine', at('a'), { spec }));
    expect(await patch({ vcpus: 4 })).toEqual([
      'refresh VirtualMachine a',
      'declare a architecture,vcpus false',
      ...OK,
    ]);
    expect(await patch({ powerState: 'PoweredOff' })).toEqual(['refresh VirtualMachine a', ...OK]);
  });

  test('an object without a declaration gets none by a patch', async () => {
    const { kind, metadata, spec } = storedVm({}, { name: 'bare' });
    db.write(() => table.insert({ kind, metadata, spec }));
    expect(await calls(() => store.patch('VirtualMachine', at('bare'), { spec: { vcpus: 4 } }))).toEqual([
      'refresh VirtualMachine bare',
      ...OK,
    ]);
  });

  test('delete takes it away, once; the last finalizer removes the object', async () => {
    await store.create(vm('a', {}, { finalizers: ['x/held'] }));
    const remove = () => calls(() => store.delete('VirtualMachine', at('a')));
    expect(await remove()).toEqual(['refresh VirtualMachine a', 'undeclare a', ...OK]);
    expect(await remove()).toEqual(['refresh VirtualMachine a', ...OK]);
    expect(await calls(() => store.patch('VirtualMachine', at('a'), { metadata: { finalizers: null } }))).toEqual([
      'refresh VirtualMachine a',
      'removed a',
      ...OK,
    ]);
    expect(await store.get('VirtualMachine', at('a'))).toBeUndefined();
  });

  test('a status is none of their business', async () => {
    const { metadata } = await store.create(vm('a'));
    expect(await calls(() => store.updateStatus('VirtualMachine', at('a'), { pid: 1 }, { uid: metadata.uid }))).toEqual(
      OK,
    );
  });

  test('a rehearsal is forgotten, and keeps nothing', async () => {
    expect(await calls(() => store.create(vm('a'), { dryRun: true }))).toEqual([
      'refresh VirtualMachine a',
      'declare a architecture true',
      'forget',
    ]);
    expect(await store.get('VirtualMachine', at('a'))).toBeUndefined();
  });

  test('what cannot be prepared is not committed', async () => {
    sources.failure = new Error('read-only');
    const failed = () => expect(store.create(vm('a'))).rejects.toThrow('read-only');
    expect((await calls(failed)).slice(-2)).toEqual(['prepare', 'forget']);
    sources.failure = undefined;
    expect(await store.get('VirtualMachine', at('a'))).toBeUndefined();
  });
});

describe('problems', () => {
  test('of specs, of what was noted with objects, of manifests', async () => {
    const { kind, metadata, spec } = storedVm();
    const noted = { reason: 'ManifestInvalid', message: 'noted' } as const;
    db.write(() => {
      table.insert({ kind, metadata: { ...metadata, name: 'a' }, spec: { architecture: 'vax' } });
      table.insert({ kind, metadata: { ...metadata, name: 'b' }, spec, problem: noted });
      table.insert({ kind, metadata: { ...metadata, name: 'c' }, spec: { architecture: 'vax' }, problem: noted });
      table.insert({ kind, metadata: { ...metadata, name: 'd' }, spec });
    });
    expect(store.problems().map(({ ref, reason }) => `${ref.name} ${reason}`)).toEqual([
      'a InvalidSpec',
      'b ManifestInvalid',
      'c ManifestInvalid',
      'c InvalidSpec',
      'x ManifestMissing',
    ]);
    expect(store.problems()[1]).toEqual({ kind: 'VirtualMachine', ref: at('b'), ...noted });
    expect(store.sourceProblems()).toHaveLength(1);
  });

  test('none where there are no manifests', async () => {
    const bare = new TableStore({ db, table });
    expect([bare.problems(), bare.sourceProblems()]).toEqual([[], []]);
  });
});

describe('watches', () => {
  test.each([
    ['a write', () => store.create(vm('b'))],
    [
      'a wake-up',
      async () => {
        const { kind, metadata, spec } = storedVm({}, { name: 'b' });
        db.write(() => table.insert({ kind, metadata, spec }));
        store.wake();
      },
    ],
  ] as const)('are woken by %s', async (_what, work) => {
    const stop = new AbortController();
    const events = take(store.watch('VirtualMachine', { signal: stop.signal }), 1);
    await new Promise((resolve) => setTimeout(resolve, 5));
    await work();
    expect((await events).map(({ type }) => type)).toEqual(['ADDED']);
  });

  test('end with the store, which then answers nothing', async () => {
    const stop = new AbortController();
    const events = take(store.watch('VirtualMachine', { signal: stop.signal }), 1);
    await new Promise((resolve) => setTimeout(resolve, 5));
    await store.close();
    expect(await events).toEqual([]);
    await expect(store.get('VirtualMachine', at('a'))).rejects.toThrow('the store is closed');
  });
});

test('the sentences', async () => {
  const made = await store.create(vm('a', {}, { finalizers: ['x/held'] }));
  await expect(store.create(vm('a'))).rejects.toThrow(/^VirtualMachine default\/a already exists$/);
  await store.delete('VirtualMachine', at('a'));
  await expect(store.create(vm('a'))).rejects.toThrow(
    /^VirtualMachine default\/a already exists and is being deleted$/,
  );
  await expect(store.apply(vm('a'))).rejects.toThrow(
    'VirtualMachine default/a is being deleted: apply again when it is gone',
  );
  await expect(store.delete('Host', { name: 'h' })).rejects.toThrow(new NotFoundError('Host h not found'));
  await expect(
    store.updateStatus('VirtualMachine', at('a'), { pid: 'x' } as never, { uid: made.metadata.uid }),
  ).rejects.toMatchObject({
    message: expect.stringContaining('The status of VirtualMachine "a"'),
    issues: [{ field: 'status.pid', message: expect.stringContaining('number') }],
  });
});

test('apply sets an undeclared field anew and leaves the others as they are', async () => {
  await store.create(vm('a', { vcpus: 3 }));
  await store.patch('VirtualMachine', at('a'), { spec: { vcpus: 5 } });
  const asWritten = { architecture: 'x86_64', powerState: 'PoweredOff' };
  const { object, outcome } = await store.apply(vm('a', asWritten), { asWritten, undeclared: ['powerState'] });
  expect([outcome, object.spec.powerState, object.spec.vcpus]).toEqual(['configured', 'PoweredOff', 2]);
  const { object: again } = await store.apply(vm('a'));
  expect(again.spec.powerState).toBe('PoweredOff');
});

test('apply keeps what others set beside what it declares', async () => {
  const asWritten = { architecture: 'x86_64', powerOff: { mode: 'Soft' } };
  await store.create(vm('a', asWritten), { asWritten });
  await store.patch('VirtualMachine', at('a'), { spec: { powerOff: { gracePeriodSeconds: 99 } } });
  const { object } = await store.apply(vm('a', asWritten), { asWritten });
  expect(object.spec.powerOff).toEqual({ mode: 'Soft', gracePeriodSeconds: 99 });
});

test('the uid is that of the table; a Host has no namespace to be listed by', async () => {
  expect(store.uid).toBe(table.uid);
  await store.create(host('h'));
  expect((await store.list('Host', { namespace: 'other' })).items).toHaveLength(1);
});
