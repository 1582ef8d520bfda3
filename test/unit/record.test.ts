/** Ownership records and markers that were damaged must not pass for others. */
import { expect, test } from 'vitest';
import { markerText, parseMarker, parseRecord, recordText } from '../../src/reconcile/record.ts';
import { someRecord, subject } from '../fakes/subjects.ts';

const state = subject().seen.folder?.record;
const record = state?.kind === 'readable' ? state.record : someRecord();
const marker = { storeUID: 'store', hostUID: 'host', epoch: 7, session: { pid: 1, startTicks: 2 } };

test('what was written is read', () => {
  expect(parseRecord(recordText(record))).toEqual({ kind: 'readable', record });
  expect(parseMarker(markerText(marker))).toEqual({ kind: 'readable', marker, line: markerText(marker) });
});

test('the figures that the host fills in are its own', () => {
  const filled = recordText(record).replace(/"pid":\d+/, '"pid":4242');
  expect(parseRecord(filled)).toMatchObject({ kind: 'readable', record: { launch: { pid: 4242 } } });
  expect(parseMarker(markerText(marker).replace('"pid":1', '"pid":4242')).kind).toBe('readable');
});

test('anything else that changed is damage', () => {
  expect(parseRecord(recordText(record).replace('root.qcow2', 'rooT.qcow2'))).toEqual({
    kind: 'invalid',
    message: 'its checksum does not match: it was damaged or edited',
  });
  expect(parseMarker(markerText(marker).replace('"epoch":7', '"epoch":8'))).toEqual({ kind: 'invalid' });
});

test('a file of before there were checksums is read as it is', () => {
  expect(parseRecord(JSON.stringify(record)).kind).toBe('readable');
  expect(parseMarker(JSON.stringify(marker)).kind).toBe('readable');
});
