import { expect, test } from 'vitest';
import type { Host } from '../../src/api/host.ts';
import { findingsOf } from '../../src/reconcile/host-conditions.ts';
import { storedVm } from '../fakes/manifests.ts';

const look = { kind: 'cannot-see', reason: 'HostUnreachable', message: 'no answer' } as const;
const host = (metadata: object): Host =>
  ({ metadata: { name: 'rack1', ...metadata }, spec: { ssh: { address: '192.0.2.1' } } }) as unknown as Host;

function vms(count: number) {
  const vm = storedVm();
  return Array.from({ length: count }, (_, at) => ({ ...vm, metadata: { ...vm.metadata, name: `web-${at}` } }));
}

const waits = (metadata: object, count: number) =>
  findingsOf(host(metadata), { look, vmDir: undefined, vms: vms(count) }).find(
    ({ type }) => type === 'DeletionBlocked',
  );

test('a Host that is being deleted says for which VMs it waits', () => {
  const deleted = { deletionTimestamp: '2026-01-01T00:00:00Z' };
  expect(waits(deleted, 2)).toMatchObject({
    status: 'True',
    reason: 'HostInUse',
    message: expect.stringMatching(/waits until these are gone: default\/web-0, default\/web-1$/),
  });
  expect(waits(deleted, 7)?.message).toMatch(/web-4 and 2 more$/);
  expect(waits(deleted, 0)).toBeUndefined();
  expect(waits({}, 2)).toBeUndefined();
});
