import { expect, test } from 'vitest';
import { readObject, refOf } from '../../src/store/object-reader.ts';
import type { StoredObject } from '../../src/store/object-table.ts';
import { SOME_UID } from '../fakes/manifests.ts';

function stored(spec: unknown = { architecture: 'x86_64' }): StoredObject {
  return {
    kind: 'VirtualMachine',
    metadata: {
      name: 'web-1',
      namespace: 'default',
      uid: SOME_UID,
      resourceVersion: '1',
      generation: 1,
      creationTimestamp: '2026-01-01T00:00:00Z',
    },
    spec,
  };
}

test('a spec that cannot be read is handed out as it is, with what is wrong', () => {
  const { object, problem } = readObject(stored({ architecture: 'vax' }));
  expect(object.spec).toEqual({ architecture: 'vax' });
  expect(problem).toMatchObject({
    kind: 'VirtualMachine',
    ref: { namespace: 'default', name: 'web-1' },
    reason: 'InvalidSpec',
  });
  expect(problem?.message).toContain('spec.architecture');
  expect(readObject(stored(null)).object.spec).toEqual({});
  expect(readObject(stored()).problem).toBeUndefined();
});

test('objects are frozen, and have a status only where there is one', () => {
  const { object } = readObject(stored());
  expect(Object.isFrozen(object.spec)).toBe(true);
  expect('status' in object).toBe(false);
  expect(readObject({ ...stored(), status: { pid: 1 } }).object.status).toEqual({ pid: 1 });
});

test('a ref has a namespace only where there is one', () => {
  expect(refOf({ namespace: 'a', name: 'b' })).toStrictEqual({ namespace: 'a', name: 'b' });
  expect(refOf({ name: 'b' })).toStrictEqual({ name: 'b' });
});
