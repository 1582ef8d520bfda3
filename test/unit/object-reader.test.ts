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

test('what is the same as before is not kept twice, also where a reader fills in defaults', () => {
  const status = { conditions: [{ type: 'Ready', status: 'True' }], pid: 1 };
  const before = readObject({ ...stored({ architecture: 'x86_64', disks: [{ name: 'root', size: '1Gi' }] }), status });
  const changed = { ...structuredClone(status), pid: 2 };
  const spec = { architecture: 'x86_64', disks: [{ name: 'root', size: '1Gi' }] };
  const after = readObject({ ...stored(spec), status: changed }, before);
  expect(after.object.spec).toBe(before.object.spec);
  expect(after.object.status).toEqual(changed);
  expect((after.object.status as typeof status).conditions).toBe((before.object.status as typeof status).conditions);

  const edited = readObject(
    { ...stored({ ...structuredClone(spec), vcpus: 3 }), status: structuredClone(changed) },
    after,
  );
  expect(edited.object.spec).toMatchObject({ vcpus: 3, memory: '2Gi', disks: [{ name: 'root', format: 'qcow2' }] });
  expect(edited.object).toEqual(readObject({ ...stored({ ...spec, vcpus: 3 }), status: changed }).object);
});

test('a spec that cannot be read stays so until it is mended', () => {
  const broken = () => stored({ architecture: 'vax' });
  const first = readObject(broken());
  const again = readObject(broken(), first);
  expect(again.problem).toEqual(first.problem);
  expect(again.object.spec).toEqual({ architecture: 'vax' });
  expect(readObject(stored(), again)).toEqual(readObject(stored()));
});
