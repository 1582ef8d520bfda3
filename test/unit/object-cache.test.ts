/** What is read again, and what is not; that the answers are right is the Store contract's business. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { StoreUnavailableError } from '../../src/api/errors.ts';
import { Database } from '../../src/store/database.ts';
import { ObjectCache } from '../../src/store/object-cache.ts';
import { ObjectTable, type StoredObject } from '../../src/store/object-table.ts';
import { storedVm } from '../fakes/manifests.ts';

/** A short history: every third change is beyond its reach. */
const HISTORY = 3;

let db: Database;
let table: ObjectTable;
let cache: ObjectCache;
let version: number;

beforeEach(() => {
  db = new Database(':memory:');
  table = new ObjectTable(db, HISTORY);
  cache = new ObjectCache(db, table);
  version = 1;
  // SQLite's number changes for writes of other processes alone.
  vi.spyOn(db, 'dataVersion').mockImplementation(() => version);
});
afterEach(() => {
  db.close();
  vi.restoreAllMocks();
});

function add(name: string, namespace = 'default'): StoredObject {
  const { kind, metadata, spec } = storedVm({}, { name, namespace });
  return table.insert({ kind, metadata, spec } as StoredObject);
}

const edit = (before: StoredObject, spec: object) =>
  table.update(before, { ...before, spec: { ...(before.spec as object), ...spec } });
const all = () => cache.objects('VirtualMachine');
const names = () => all().map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
const damage = () => db.run("UPDATE objects SET json = replace(json, 'x86_64', 'x86_65') WHERE name = 'a'");

test('what has not changed is shared, what has is read', () => {
  const [a] = [add('a'), add('b')];
  const [firstA, firstB] = all();
  expect(Object.isFrozen(firstA?.spec)).toBe(true);
  expect(all()[0]).toBe(firstA);
  edit(a, { vcpus: 3 });
  const [nextA, nextB] = all();
  expect([nextA?.spec.vcpus, nextB === firstB]).toEqual([3, true]);
});

test('objects come and go in their order', () => {
  const a = add('a', 'a-b');
  expect(names()).toEqual(['a-b/a']);
  add('z', 'a');
  add('b', 'a');
  expect(names()).toEqual(['a/b', 'a/z', 'a-b/a']);
  table.remove(a);
  expect(names()).toEqual(['a/b', 'a/z']);
  const { uid } = add('z', 'b').metadata;
  expect(all().at(-1)?.metadata.uid).toBe(uid);
});

test('the first objects come in their order', () => {
  expect(names()).toEqual([]);
  add('z');
  add('a');
  expect(names()).toEqual(['default/a', 'default/z']);
});

test('what the history reaches back to is looked up there, and nothing where nothing happened', () => {
  const [a] = [add('a'), add('b')];
  all();
  const [everything, touched] = [vi.spyOn(table, 'rows'), vi.spyOn(table, 'touchedAfter')];
  let last = a;
  for (let vcpus = 11; vcpus <= 10 + HISTORY; vcpus += 1) last = edit(last, { vcpus });
  for (let times = 0; times < 2; times += 1) expect(all()[0]?.spec.vcpus).toBe(10 + HISTORY);
  expect([everything.mock.calls.length, touched.mock.calls.length]).toEqual([0, 1]);
});

test('a successor of the same name is another object', () => {
  const a = add('a');
  const [first] = all();
  table.remove(a);
  table.insert({ ...a, metadata: { ...a.metadata, uid: 'another' } });
  expect(all().map(({ metadata }) => metadata.uid)).toEqual(['another']);
  expect(all()[0]).not.toBe(first);
});

test('where the history does not reach back, every row is compared', () => {
  const [a, b] = [add('a'), add('b')];
  const [, firstB] = all();
  let last = a;
  for (let vcpus = 2; vcpus < 8; vcpus += 1) last = edit(last, { vcpus });
  expect(all()[0]?.spec.vcpus).toBe(7);
  expect(all()[1]).toBe(firstB);
  table.remove(b);
  for (let vcpus = 2; vcpus < 8; vcpus += 1) last = edit(last, { vcpus });
  expect(names()).toEqual(['default/a']);
});

test('what another process wrote without a number is noticed, and so is a damage', () => {
  const [a] = [add('a'), add('b')];
  const [first, second] = all();
  const other = { ...a, spec: { ...(a.spec as object), vcpus: 5 } };
  expect(all()[0]).toBe(first);
  db.run('UPDATE objects SET json = ? WHERE name = ?', JSON.stringify({ ...other, declaration: undefined }), 'a');
  version += 1;
  expect([all()[0]?.spec.vcpus, all()[1] === second]).toEqual([5, true]);
  damage();
  version += 1;
  for (let times = 0; times < 2; times += 1) expect(all()[0]?.spec).toMatchObject({ architecture: 'x86_65' });
});

test('a damaged row fails every reading, until it is mended', () => {
  const [a] = [add('a'), add('b')];
  all();
  damage();
  version += 1;
  for (let times = 0; times < 2; times += 1) expect(all).toThrow(StoreUnavailableError);
  edit(a, { vcpus: 4 });
  expect(all()[0]?.spec.vcpus).toBe(4);
});

test('a damaged row is noticed when a change leads to it', () => {
  const [a] = [add('a'), add('b')];
  all();
  edit(a, { vcpus: 4 });
  damage();
  for (let times = 0; times < 2; times += 1) expect(all).toThrow(StoreUnavailableError);
});

test('one object is the one that all share, where its row is that one', () => {
  const a = add('a');
  const row = () => {
    const found = table.row('VirtualMachine', a.metadata);
    if (found === undefined) throw new Error('no row');
    return found;
  };
  const alone = cache.object('VirtualMachine', row());
  expect(alone).not.toBe(cache.object('VirtualMachine', row()));
  const [shared] = all();
  expect(shared).toEqual(alone);
  expect(cache.object('VirtualMachine', row())).toBe(shared);
  const [change] = table.changesAfter(0, 'VirtualMachine', 10);
  expect(change && cache.object('VirtualMachine', change.row)).toBe(shared);
  db.run("UPDATE objects SET uid = 'x'");
  expect(() => cache.object('VirtualMachine', row())).toThrow(/damaged/);
});

test('problems are of the spec and of what was noted', () => {
  const a = add('a');
  expect(cache.problems('VirtualMachine')).toEqual([]);
  const noted = { reason: 'ManifestInvalid', message: 'noted' } as const;
  table.update(a, { ...a, spec: { architecture: 'vax' }, problem: noted });
  const ref = { namespace: 'default', name: 'a' };
  expect(cache.problems('VirtualMachine')).toEqual([
    { kind: 'VirtualMachine', ref, ...noted },
    { kind: 'VirtualMachine', ref, reason: 'InvalidSpec', message: expect.stringContaining('architecture') },
  ]);
});
