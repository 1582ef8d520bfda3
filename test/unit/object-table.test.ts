import { afterEach, describe, expect, test, vi } from 'vitest';
import { StoreUnavailableError } from '../../src/api/errors.ts';
import { Database } from '../../src/store/database.ts';
import { ObjectTable, type StoredObject } from '../../src/store/object-table.ts';
import { SOME_UID } from '../fakes/manifests.ts';

const open: Database[] = [];
afterEach(() => {
  for (const db of open.splice(0)) db.close();
});

function made(history?: number): { db: Database; table: ObjectTable } {
  const db = new Database(':memory:');
  open.push(db);
  return { db, table: new ObjectTable(db, history) };
}

function object(name: string, fields: Partial<StoredObject> = {}): StoredObject {
  const metadata = {
    name,
    namespace: 'default',
    uid: SOME_UID,
    resourceVersion: '0',
    generation: 1,
    creationTimestamp: '2026-01-01T00:00:00Z',
  };
  return { kind: 'VirtualMachine', metadata, spec: { architecture: 'x86_64' }, ...fields };
}

const ref = { namespace: 'default', name: 'a' };
const DECLARED = { labels: {}, annotations: {}, spec: { architecture: 'x86_64' } };
const PROBLEM = { reason: 'ManifestMissing', message: 'gone' } as never;

test('a table keeps its uid and its numbers when it is opened again', () => {
  const { db, table } = made();
  table.insert(object('a'));
  const write = vi.spyOn(db, 'write');
  const again = new ObjectTable(db);
  expect(write).not.toHaveBeenCalled();
  expect(again.uid).toBe(table.uid);
  expect(again.uid).toMatch(/^[0-9a-f-]{36}$/);
  expect([again.revision(), again.compacted()]).toEqual([1, 0]);
  expect(made().table.uid).not.toBe(table.uid);
});

test('everything of an object comes back', () => {
  const { table } = made();
  const whole = object('a', { status: { pid: 1 }, declaration: DECLARED, problem: PROBLEM });
  const stored = table.insert(whole);
  expect(stored).toEqual({ ...whole, metadata: { ...whole.metadata, resourceVersion: '1' } });
  expect(table.find('VirtualMachine', ref)).toStrictEqual(stored);
  expect(table.insert(object('b'))).toStrictEqual(table.find('VirtualMachine', { ...ref, name: 'b' }));
});

describe('update', () => {
  test('nothing new: nothing is written or told', () => {
    const { table } = made();
    const before = table.insert(object('a', { spec: { architecture: 'x86_64', vcpus: 2 }, declaration: DECLARED }));
    expect(table.update(before, before)).toBe(before);
    expect(table.update(before, structuredClone(before))).toBe(before);
    const otherOrder = { ...before, spec: Object.fromEntries(Object.entries(before.spec as object).reverse()) };
    expect(table.update(before, otherOrder)).toBe(before);
    expect(table.revision()).toBe(1);
  });

  test('what readers see is numbered and told', () => {
    const { table } = made();
    const before = table.insert(object('a'));
    const after = table.update(before, { ...before, spec: { architecture: 'arm64' } });
    expect(after.metadata.resourceVersion).toBe('2');
    expect(table.changesAfter(1, 'VirtualMachine', 10)).toMatchObject([
      { revision: 2, type: 'MODIFIED', row: { ref, revision: 2 } },
    ]);
    expect(table.changesAfter(1, 'VirtualMachine', 10)[0]?.row.decode().spec).toEqual({ architecture: 'arm64' });
  });

  test('a declaration is kept without a word', () => {
    const { table } = made();
    const before = table.insert(object('a'));
    const after = table.update(before, { ...before, declaration: DECLARED });
    expect(after.metadata.resourceVersion).toBe('1');
    expect(table.find('VirtualMachine', ref)?.declaration).toEqual(DECLARED);
    expect(table.changesAfter(1, 'VirtualMachine', 10)).toEqual([]);
  });

  test('a problem is told, its end too', () => {
    const { table } = made();
    const before = table.insert(object('a'));
    const told = table.update(before, { ...before, problem: PROBLEM });
    expect([told.metadata.resourceVersion, told.problem]).toEqual(['2', PROBLEM]);
    expect(table.find('VirtualMachine', ref)).toStrictEqual(told);
    const { problem: _problem, ...mended } = told;
    expect(table.update(told, mended).metadata.resourceVersion).toBe('3');
    expect(table.find('VirtualMachine', ref)?.problem).toBeUndefined();
  });
});

describe('history', () => {
  const fill = (table: ObjectTable, count: number) => {
    for (let i = 0; i < count; i += 1) table.insert(object(`vm-${i}`));
  };

  test('a short one is cut with every change', () => {
    const { table } = made(5);
    fill(table, 3);
    expect(table.compacted()).toBe(0);
    table.insert(object('four'));
    table.insert(object('five'));
    expect(table.compacted()).toBe(0);
    table.insert(object('one-more'));
    expect(table.compacted()).toBe(1);
    expect(table.changesAfter(0, 'VirtualMachine', 10).map(({ revision }) => revision)).toEqual([2, 3, 4, 5, 6]);
  });

  test('a long one is cut in batches of a hundred', () => {
    const { table } = made(100);
    fill(table, 199);
    expect(table.compacted()).toBe(0);
    table.insert(object('one-more'));
    expect(table.compacted()).toBe(100);
    expect(table.changesAfter(0, 'VirtualMachine', 1000)).toHaveLength(100);
  });

  test('a removed object leaves its last state', () => {
    const { table } = made();
    const stored = table.insert(object('a'));
    table.remove(stored);
    expect(table.find('VirtualMachine', ref)).toBeUndefined();
    expect(table.changesAfter(1, 'VirtualMachine', 10)).toMatchObject([
      { revision: 2, type: 'DELETED', row: { ref, revision: 2 } },
    ]);
    expect(table.changesAfter(1, 'VirtualMachine', 10)[0]?.row.decode().metadata).toMatchObject({
      name: 'a',
      resourceVersion: '2',
    });
  });
});

test('objects come by namespace and name', () => {
  const { table } = made();
  for (const [namespace, name] of [
    ['b', 'x'],
    ['a', 'z'],
    ['a', 'y'],
  ] as const) {
    const one = object(name);
    table.insert({ ...one, metadata: { ...one.metadata, namespace } });
  }
  const rows = [...table.rows('VirtualMachine')];
  expect(rows.map((row) => `${row.ref.namespace}/${row.ref.name}`)).toEqual(['a/y', 'a/z', 'b/x']);
  expect([...table.rows('Host')]).toEqual([]);
});

test('a row tells whether it is another one without being decoded', () => {
  const { table, db } = made();
  const before = table.insert(object('a'));
  const row = () => table.row('VirtualMachine', ref);
  const [first, again] = [row(), row()];
  expect(again).toMatchObject({ ref, uid: before.metadata.uid, revision: 1, checksum: first?.checksum });
  table.update(before, { ...before, problem: PROBLEM });
  const noted = row();
  expect([noted?.revision, noted?.checksum === first?.checksum]).toEqual([2, false]);
  db.run("UPDATE objects SET json = replace(json, 'x86_64', 'x86_65')");
  const damaged = row();
  expect(damaged?.checksum).not.toBe(noted?.checksum);
  db.run("UPDATE objects SET problem = replace(problem, 'gone', 'went')");
  expect(row()?.checksum).not.toBe(damaged?.checksum);
});

test('who was touched is told once each', () => {
  const { table } = made();
  const [a] = [table.insert(object('a')), table.insert(object('b'))];
  const next = table.update(a, { ...a, spec: { architecture: 'arm64' } });
  table.update(next, { ...next, spec: { architecture: 'x86_64' } });
  expect(
    table
      .touchedAfter(0, 'VirtualMachine')
      .map(({ name }) => name)
      .toSorted(),
  ).toEqual(['a', 'b']);
  expect(table.touchedAfter(2, 'VirtualMachine')).toEqual([ref]);
  expect(table.touchedAfter(2, 'Host')).toEqual([]);
  const { namespace: _namespace, ...metadata } = object('h').metadata;
  table.insert({ ...object('h'), kind: 'Host', metadata, spec: { local: {} } });
  expect(table.touchedAfter(2, 'Host')).toEqual([{ name: 'h' }]);
});

describe('a damaged row never passes for an absent object', () => {
  const metadata = object('a').metadata;
  test.each([
    ['no JSON', '{'],
    ['no metadata', JSON.stringify({ spec: {} })],
    ['no record', JSON.stringify({ metadata: null })],
    ['another name', JSON.stringify({ metadata: { ...metadata, name: 'b' }, spec: {} })],
    ['another uid', JSON.stringify({ metadata: { ...metadata, uid: 'x' }, spec: {} })],
  ])('%s', (_what, json) => {
    const { db, table } = made();
    table.insert(object('a'));
    db.run('UPDATE objects SET json = ?', json);
    expect(() => table.find('VirtualMachine', ref)).toThrow(StoreUnavailableError);
    expect(() => table.find('VirtualMachine', ref)).toThrow(
      "the store's entry of VirtualMachine default/a is damaged; its VM is left alone and nothing is deleted: stop " +
        'qemu-operator and restore .state/store.db from a backup',
    );
  });

  test.each(['json', 'declaration'])('%s that says something else by now', (column) => {
    const { db, table } = made();
    table.insert({ ...object('a'), declaration: { labels: {}, annotations: {}, spec: { architecture: 'x86_64' } } });
    db.run(`UPDATE objects SET ${column} = replace(${column}, 'x86_64', 'x86_65')`);
    const cause = expect.objectContaining({ message: 'the checksum does not match' });
    expect(() => table.find('VirtualMachine', ref)).toThrow(/is damaged/);
    expect(() => table.find('VirtualMachine', ref)).toThrow(expect.objectContaining({ cause }));
  });

  test('a row of before there were checksums is read as it is', () => {
    const { db, table } = made();
    table.insert(object('a', { spec: { sum: 1, architecture: 'x86_64' } }));
    const before = table.find('VirtualMachine', ref);
    db.run("UPDATE objects SET json = json_remove(json, '$.sum')");
    expect(table.find('VirtualMachine', ref)).toEqual(before);
  });

  test('an object without a namespace is named without one; the cause is kept', () => {
    const { db, table } = made();
    const { namespace: _namespace, ...rest } = metadata;
    table.insert({ ...object('a'), kind: 'Host', metadata: rest, spec: { local: {} } });
    db.run("UPDATE objects SET uid = 'x'");
    const find = () => table.find('Host', { name: 'a' });
    expect(find).toThrow(/^the store's entry of Host a is damaged/);
    expect(find).toThrow(expect.objectContaining({ cause: expect.objectContaining({ message: 'another uid' }) }));
  });
});
