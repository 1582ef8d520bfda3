import { describe, expect, test } from 'vitest';
import { ConflictError, ForbiddenError, InvalidObjectError } from '../../src/api/errors.ts';
import { ANNOTATIONS } from '../../src/api/meta.ts';
import {
  asked,
  checkPreconditions,
  deleted,
  newObject,
  normalRef,
  patched,
  redeclared,
  refOfManifest,
} from '../../src/store/object-rules.ts';
import type { Declaration, StoredObject } from '../../src/store/object-table.ts';
import { vm } from '../conformance/store.ts';

const NOTHING: Declaration = { labels: {}, annotations: {}, spec: {} };

function stored(spec: object = {}, metadata: object = {}, fields: Partial<StoredObject> = {}): StoredObject {
  const whole = { architecture: 'x86_64', ...spec };
  const object = newObject(vm('web-1'), whole, { ...NOTHING, spec: whole as Declaration['spec'] });
  return { ...object, metadata: { ...object.metadata, ...metadata }, ...fields };
}

const OWNER = { apiVersion: 'v1', kind: 'X', name: 'x', uid: 'u' };

test('refs: the default namespace where the kind has one', () => {
  expect(normalRef('VirtualMachine', { name: 'a' })).toEqual({ namespace: 'default', name: 'a' });
  expect(normalRef('VirtualMachine', { namespace: 'b', name: 'a' })).toEqual({ namespace: 'b', name: 'a' });
  expect(normalRef('Host', { namespace: 'b', name: 'a' })).toStrictEqual({ name: 'a' });
  expect(refOfManifest(vm('a'))).toEqual({ namespace: 'default', name: 'a' });
});

test('a new object is of generation 1 and not yet numbered', () => {
  expect(stored().metadata).toMatchObject({ resourceVersion: '0', generation: 1, namespace: 'default' });
  expect(Object.keys(stored().metadata).sort()).toEqual(
    ['creationTimestamp', 'generation', 'name', 'namespace', 'resourceVersion', 'uid'].sort(),
  );
});

test('what is undeclared is asked for and not declared', () => {
  const { spec, declaration } = asked(vm('a', { vcpus: 4, powerState: 'PoweredOff' }), { undeclared: ['powerState'] });
  expect(spec).toEqual({ architecture: 'x86_64', vcpus: 4, powerState: 'PoweredOff' });
  expect(declaration.spec).toEqual({ architecture: 'x86_64', vcpus: 4 });
});

describe('patched', () => {
  test('finalizers and owners are replaced, left alone, or taken away by null', () => {
    const before = stored({}, { finalizers: ['x/a'], ownerReferences: [OWNER] });
    expect(patched(before, {}).metadata).toMatchObject({ finalizers: ['x/a'], ownerReferences: [OWNER] });
    expect(patched(before, { metadata: { finalizers: ['x/b'] } }).metadata).toMatchObject({
      finalizers: ['x/b'],
      ownerReferences: [OWNER],
    });
    const owner = { ...OWNER, name: 'y' };
    expect(patched(before, { metadata: { ownerReferences: [owner] } as never }).metadata).toMatchObject({
      finalizers: ['x/a'],
      ownerReferences: [owner],
    });
    const without = patched(before, { metadata: { finalizers: null, ownerReferences: null } as never }).metadata;
    expect(['finalizers' in without, 'ownerReferences' in without]).toEqual([false, false]);
  });

  test('the generation counts what readers see of the spec', () => {
    expect(patched(stored(), { spec: { vcpus: 7 } }).metadata.generation).toBe(2);
    const same = stored().spec as { vcpus?: number };
    expect(patched(stored(), { spec: { ...same } }).metadata.generation).toBe(1);
    expect(patched(stored(), { metadata: { labels: { a: 'b' } } }).metadata.generation).toBe(1);
  });

  test('what was never declared has no declaration afterwards', () => {
    const before = stored({}, {}, { declaration: undefined });
    expect(patched(before, { spec: { vcpus: 7 } }).declaration).toBeUndefined();
    expect(patched(stored({ vcpus: 2 }), { spec: { vcpus: 7 } }).declaration?.spec).toMatchObject({ vcpus: 7 });
  });

  test('what a write leaves alone is not judged', () => {
    const strange = stored({ architecture: 'vax' }, { labels: { 'not/a/label': 'x' }, finalizers: ['x/a'] });
    expect(patched(strange, { metadata: { finalizers: null } }).metadata.finalizers).toBeUndefined();
    expect(() => patched(strange, { metadata: { labels: { 'also/not/one': 'y' } } })).toThrow(InvalidObjectError);
    expect(() => patched(stored(), { metadata: { annotations: { 'not/a/key': 'y' } } })).toThrow(InvalidObjectError);
    expect(() => patched(stored(), { metadata: { finalizers: ['no finalizer'] } })).toThrow(InvalidObjectError);
  });

  test('fields that a newer version stored are no fault of a patch', () => {
    const newer = stored({ fromTheFuture: 1 });
    expect(patched(newer, { spec: { vcpus: 7 } }).spec).toMatchObject({ fromTheFuture: 1, vcpus: 7 });
    expect(() => patched(newer, { spec: { alsoNew: 1 } })).toThrow(InvalidObjectError);
  });

  test('a spec that cannot be read can be mended, and only as a whole', () => {
    const broken = stored({ architecture: 'vax' });
    expect(patched(broken, { spec: { architecture: 'arm64' } }).spec).toMatchObject({ architecture: 'arm64' });
    expect(() => patched(broken, { spec: { vcpus: 7 } })).toThrow(InvalidObjectError);
  });

  test('what may not change does not', () => {
    expect(() => patched(stored(), { spec: { architecture: 'arm64' } })).toThrow(InvalidObjectError);
  });

  test('an object that is being deleted takes no new finalizers; old ones may go', () => {
    const ending = stored({}, { deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: ['x/a', 'x/b'] });
    expect(patched(ending, { metadata: { finalizers: ['x/b'] } }).metadata.finalizers).toEqual(['x/b']);
    expect(() => patched(ending, { metadata: { finalizers: ['x/b', 'x/c'] } })).toThrow(
      expect.objectContaining({
        message: expect.stringContaining('web-1'),
        issues: [
          {
            field: 'metadata.finalizers',
            value: expect.stringContaining('x/c'),
            message: 'an object that is being deleted takes no more',
          },
        ],
      }),
    );
    const bare = stored({}, { deletionTimestamp: '2026-01-01T00:00:00Z' });
    expect(() => patched(bare, { metadata: { finalizers: ['x/c'] } })).toThrow(InvalidObjectError);
    expect(patched(stored(), { metadata: { finalizers: ['x/c'] } }).metadata.finalizers).toEqual(['x/c']);
  });

  test.each([
    ['Host', { local: {} }],
    ['VirtualMachineMonitor', { virtualMachineName: 'a', until: '2026-01-31T15:04:05Z' }],
  ] as const)('the labels of a %s change without a word on its spec', (kind, spec) => {
    const { namespace: _namespace, ...clusterWide } = stored().metadata;
    const metadata = kind === 'Host' ? clusterWide : stored().metadata;
    const before: StoredObject = { kind, metadata, spec, declaration: NOTHING };
    expect(patched(before, { metadata: { labels: { a: 'b' } } }).metadata.labels).toEqual({ a: 'b' });
  });
});

describe('redeclared', () => {
  test('labels, annotations and spec become what is declared', () => {
    const before = stored(
      { vcpus: 4, memory: '8Gi' },
      { labels: { a: '1', mine: '2' }, annotations: { a: '1' } },
      { declaration: { labels: { a: '1' }, annotations: { a: '1' }, spec: { architecture: 'x86_64', vcpus: 4 } } },
    );
    const after = redeclared(before, { ...NOTHING, spec: { architecture: 'x86_64' } }, { powerState: 'PoweredOff' });
    expect(after.metadata.labels).toEqual({ mine: '2' });
    expect(after.metadata.annotations).toBeUndefined();
    expect(after.spec).toEqual({ architecture: 'x86_64', memory: '8Gi', powerState: 'PoweredOff' });
    expect(after.metadata.generation).toBe(2);
  });

  test('one that mends a spec that could not be read is judged as a whole', () => {
    const broken = stored({ architecture: 'vax' });
    const mended = { ...NOTHING, spec: { architecture: 'x86_64' } };
    expect(redeclared(broken, mended).spec).toEqual({ architecture: 'x86_64' });
    expect(() => redeclared(broken, { ...mended, spec: { ...mended.spec, nonsense: 1 } })).toThrow(InvalidObjectError);
  });

  test('it is judged as a whole', () => {
    expect(() => redeclared(stored(), { ...NOTHING, spec: { architecture: 'x86_64', nonsense: 1 } })).not.toThrow();
    expect(() => redeclared(stored(), { ...NOTHING, spec: { architecture: 'x86_64', vcpus: 0 } })).toThrow(
      InvalidObjectError,
    );
  });
});

describe('deleted', () => {
  test('it counts as a generation', () => {
    const { metadata } = deleted(stored());
    expect([metadata.generation, metadata.deletionTimestamp]).toEqual([2, expect.stringMatching(/Z$/)]);
  });

  test.each(['', 'true', 'yes'])('not while protected: %j', (value) => {
    const shielded = stored({}, { annotations: { [ANNOTATIONS.protected]: value } });
    expect(() => deleted(shielded)).toThrow(ForbiddenError);
    expect(() => deleted(shielded)).toThrow(
      'VirtualMachine default/web-1 is protected by its annotation qemu-operator.dev/protected: remove it first, ' +
        'with `qemu-operator annotate virtualmachine web-1 -n default qemu-operator.dev/protected-`',
    );
  });

  test('a Host is named without a namespace; "false" protects nothing', () => {
    const { namespace: _namespace, ...metadata } = stored().metadata;
    const annotations = { [ANNOTATIONS.protected]: '' };
    expect(() => deleted({ kind: 'Host', metadata: { ...metadata, annotations }, spec: { local: {} } })).toThrow(
      'with `qemu-operator annotate host web-1 qemu-operator.dev/protected-`',
    );
    expect(deleted(stored({}, { annotations: { [ANNOTATIONS.protected]: 'false' } })).metadata.generation).toBe(2);
  });
});

test('preconditions name what is and what was wanted', () => {
  const object = stored({}, { uid: 'u-1', resourceVersion: '7' });
  expect(() => checkPreconditions(object)).not.toThrow();
  expect(() => checkPreconditions(object, { uid: 'u-1', resourceVersion: '7' })).not.toThrow();
  expect(() => checkPreconditions(object, { uid: 'u-2' })).toThrow(ConflictError);
  expect(() => checkPreconditions(object, { uid: 'u-2' })).toThrow(
    'VirtualMachine default/web-1 is another object now: its uid is u-1, not u-2',
  );
  expect(() => checkPreconditions(object, { resourceVersion: '6' })).toThrow(
    'VirtualMachine default/web-1 has changed since it was read (resourceVersion 7, not 6): read it again and decide again',
  );
});
