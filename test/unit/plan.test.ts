/** What a plan says of user data: that it changes, and never what it is. */
import { expect, test } from 'vitest';
import type { Host } from '../../src/api/host.ts';
import type { VirtualMachineStatus } from '../../src/api/virtual-machine.ts';
import { planObject, planRefusal } from '../../src/reconcile/plan.ts';
import { storedVm } from '../fakes/manifests.ts';

const host = { metadata: { name: 'localhost' }, spec: { local: {}, vmDir: '/vms' } } as Host;
const PASSWORD = 'hunter2';

function plan(before: object, after: object, status: Partial<VirtualMachineStatus> = {}) {
  const old = { ...storedVm({ hostName: 'localhost', cloudInit: before }), status: { pid: 42, ...status } };
  return planObject(
    old as typeof old & { status: VirtualMachineStatus },
    storedVm({ hostName: 'localhost', cloudInit: after }),
    host,
  );
}

test('user data and network data are told to change without a word of them', () => {
  const found = plan(
    { userData: `#cloud-config\npassword: ${PASSWORD}`, networkData: `psk: ${PASSWORD}` },
    { userData: `#cloud-config\npassword: ${PASSWORD}3`, networkData: `psk: ${PASSWORD}3` },
  );
  expect(found).toMatchObject({ process: 'kept', waiting: ['spec.cloudInit.userData', 'spec.cloudInit.networkData'] });
  expect(found.changes).toContainEqual({
    path: 'spec.cloudInit.userData',
    from: '(secret)',
    to: '(secret)',
    effect: 'restart',
    why: 'waits-for-restart',
  });
  expect(JSON.stringify(found)).not.toContain(PASSWORD);
  const issues = [{ field: 'spec.cloudInit.userData', value: `"${PASSWORD}"`, message: 'is too long' }];
  expect(JSON.stringify(planRefusal('VirtualMachine', { name: 'x' }, issues))).not.toContain(PASSWORD);
});

test('user data that changed before and changes again still waits: a secret shows no difference', () => {
  const pendingChanges = [{ path: 'spec.cloudInit.userData', from: '(secret)', to: '(secret)' }];
  expect(plan({ userData: 'a' }, { userData: 'b' }, { pendingChanges }).waiting).toEqual(['spec.cloudInit.userData']);
});

test('another Secret counts as another value', () => {
  const ref = (name: string) => ({ userDataSecretRef: { name, key: 'user-data' } });
  expect(plan(ref('a'), ref('b'))).toMatchObject({
    process: 'kept',
    waiting: ['spec.cloudInit.userData'],
    changes: [
      { path: 'spec.cloudInit.userDataSecretRef.name', from: 'a', to: 'b', effect: 'restart', why: 'secrets-compared' },
    ],
  });
});
