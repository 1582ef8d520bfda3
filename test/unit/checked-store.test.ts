/** Nothing of the store is read or written for a user without asking whether that user may. */
import { beforeEach, describe, expect, test } from 'vitest';
import { type Manifest, parseManifest } from '../../src/api/admission.ts';
import { ForbiddenError } from '../../src/api/errors.ts';
import type { ResourceAttributes } from '../../src/kube/kube-users.ts';
import { CheckedStore } from '../../src/store/checked-store.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { Rights } from '../../src/store/rights.ts';
import type { Store } from '../../src/store/store.ts';
import { vmDocument } from '../fakes/manifests.ts';

const manifest = (name: string, namespace = 'team-a') =>
  parseManifest(vmDocument({}, { name, namespace })) as Manifest<'VirtualMachine'>;

const REF = { namespace: 'team-a', name: 'web' };

let store: Store;
let asked: string[];

beforeEach(async () => {
  store = createMemoryStore();
  asked = [];
  for (const namespace of ['team-a', 'team-b']) await store.create(manifest('web', namespace));
});

/** @param may by what was asked, as `list virtualmachines in team-a` */
function as(may: (right: string) => boolean): CheckedStore {
  const allows = async ({ verb, group, resource, namespace = '*', name }: ResourceAttributes) => {
    expect(group).toBe('qemu-operator.dev');
    const right = [verb, resource, 'in', namespace, ...(name === undefined ? [] : [name])].join(' ');
    asked.push(right);
    return may(right);
  };
  return new CheckedStore(store, new Rights('ann', allows));
}

const first = async (one: AsyncIterable<unknown>) => {
  for await (const event of one) return event;
  return undefined;
};
const signal = AbortSignal.timeout(5_000);

const STEPS: readonly [step: string, work: (one: Store) => Promise<unknown>, needs: readonly string[]][] = [
  ['get', (one) => one.get('VirtualMachine', REF), ['get virtualmachines in team-a web']],
  ['list', (one) => one.list('VirtualMachine', { namespace: 'team-a' }), ['list virtualmachines in team-a']],
  ['list hosts', (one) => one.list('Host', { namespace: 'team-a' }), ['list hosts in *']],
  ['create', (one) => one.create(manifest('new')), ['create virtualmachines in team-a']],
  [
    'apply',
    (one) => one.apply(manifest('web')),
    ['patch virtualmachines in team-a web', 'create virtualmachines in team-a'],
  ],
  ['patch', (one) => one.patch('VirtualMachine', REF, { spec: { vcpus: 2 } }), ['patch virtualmachines in team-a web']],
  ['delete', (one) => one.delete('VirtualMachine', REF), ['delete virtualmachines in team-a web']],
  [
    'watch',
    (one) => first(one.watch('VirtualMachine', { ...REF, signal })),
    ['watch virtualmachines in team-a web', 'list virtualmachines in team-a web'],
  ],
];

describe.each(STEPS)('%s', (_step, work, needs) => {
  test('is done for whoever may', async () => {
    await work(as((right) => needs.includes(right)));
    expect(new Set(asked)).toEqual(new Set(needs));
  });

  test.each(needs)('is refused without the right to %s, and nothing has changed', async (lacking) => {
    const before = await store.list('VirtualMachine');
    await expect(work(as((right) => right !== lacking))).rejects.toThrow(ForbiddenError);
    expect(await store.list('VirtualMachine')).toEqual(before);
  });
});

test('all that a store can do is among these steps, or done for nobody', async () => {
  const methods = Object.getOwnPropertyNames(CheckedStore.prototype).filter((name) => name !== 'constructor');
  const asking = new Set(STEPS.map(([step]) => step.split(' ')[0]));
  const rest = methods.filter((name) => !asking.has(name)).sort();
  expect(rest).toEqual([
    'close',
    'hasNamespace',
    'hold',
    'problems',
    'requireCreate',
    'sourceProblems',
    'updateStatus',
  ]);
  const all = as(() => true);
  const vm = await store.get('VirtualMachine', REF);
  const uid = vm?.metadata.uid ?? '';
  await expect(all.updateStatus('VirtualMachine', REF, {}, { uid })).rejects.toThrow('"virtualmachines/status"');
  await expect(all.hold('VirtualMachine', REF)).rejects.toThrow('"virtualmachines/finalizers"');
  expect([all.problems(), all.sourceProblems()]).toEqual([[], []]);
  await expect(as(() => false).requireCreate('Host')).rejects.toThrow('cannot create resource "hosts"');
  await all.close();
  expect(await store.get('VirtualMachine', REF)).toEqual(vm);
});

test('of all namespaces those are listed that the user may list', async () => {
  const { items } = await as((right) => right === 'list virtualmachines in team-b').list('VirtualMachine');
  expect(items.map(({ metadata }) => metadata.namespace)).toEqual(['team-b']);
  expect((await as(() => false).list('VirtualMachine')).items).toEqual([]);
  expect((await as((right) => right.endsWith('in *')).list('VirtualMachine')).items).toHaveLength(2);
});

test('with many namespaces one has to be named', async () => {
  for (let i = 0; i < 100; i += 1) await store.create(manifest('web', `other-${i}`));
  await expect(as(() => false).list('VirtualMachine')).rejects.toThrow('at the cluster scope');
  expect(asked).toHaveLength(1);
});

test('a watch ends when its right does', async () => {
  let isAllowed = true;
  const events = as(() => isAllowed).watch('VirtualMachine', { namespace: 'team-a', signal });
  expect((await events.next()).value).toMatchObject({ type: 'ADDED' });
  isAllowed = false;
  await store.create(manifest('next'));
  await expect(events.next().then(() => events.next())).rejects.toThrow(
    'virtualmachines.qemu-operator.dev is forbidden: User "ann" cannot watch resource "virtualmachines" in API group "qemu-operator.dev" in the namespace "team-a"',
  );
});

test('rights that cannot be asked about are none, and the store is named as away', async () => {
  const away = new CheckedStore(store, new Rights('ann', () => Promise.reject(new Error('no answer'))));
  await expect(away.get('VirtualMachine', REF)).rejects.toMatchObject({ reason: 'ServiceUnavailable' });
});
