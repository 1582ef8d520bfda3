import { expect, test } from 'vitest';
import { Records } from '../../src/qemu/records.ts';
import { recordText } from '../../src/reconcile/record.ts';

const TEXT = recordText({
  ...{ recordVersion: 1, uid: 'u', storeUID: 's', namespace: 'default', name: 'a', uuid: 'x' },
  disks: {},
  restarts: 0,
});

test('a record is judged once, until its text is another one', () => {
  const records = new Records();
  const first = records.of('/vms/a', TEXT);
  expect(first.kind).toBe('readable');
  expect(records.of('/vms/a', TEXT)).toBe(first);
  expect(records.of('/vms/a', TEXT.replace('"restarts":0', '"restarts":1')).kind).toBe('invalid');
  expect(records.of('/vms/a', undefined)).toEqual({ kind: 'absent' });
  expect(records.of('/vms/b', TEXT)).toEqual(first);
});

test('a folder that is gone is forgotten', () => {
  const records = new Records();
  const first = records.of('/vms/a', TEXT);
  records.forget('/vms/a');
  expect([...records.folders()]).toEqual([]);
  expect(records.of('/vms/a', TEXT)).not.toBe(first);
});
