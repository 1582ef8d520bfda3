/** What a moved object carries along, and what it does not. */
import { expect, test } from 'vitest';
import type { Host } from '../../src/api/host.ts';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import { movedHost, movedVm } from '../../src/takeover/moved.ts';

const meta = (name: string, more: object = {}) => ({
  name,
  uid: `uid-of-${name}`,
  resourceVersion: '7',
  generation: 3,
  creationTimestamp: '2026-01-01T00:00:00Z',
  finalizers: ['qemu-operator.dev/host-cleanup'],
  ...more,
});

const OURS = 'qemu-operator.dev';

test('a machine takes along what people wrote and where its disks lie, and the word for its folder', () => {
  const labels = { app: 'web', [`${OURS}/host`]: 'rack1', [`${OURS}/vm-name`]: 'web', [`${OURS}/sample`]: 'linux' };
  const annotations = {
    note: 'x',
    [`${OURS}/protected`]: 'true',
    [`${OURS}/provisioned`]: 'machine:/vms/web',
    [`${OURS}/orphan`]: 'true',
    [`${OURS}/adopt`]: 'older',
    [`${OURS}/look-requested-at`]: 'now',
  };
  const spec = { hostName: 'rack1', architecture: 'x86_64', restartedAt: 'n' } as unknown as VirtualMachine['spec'];
  const vm = { kind: 'VirtualMachine', metadata: meta('web', { namespace: 'team', labels, annotations }), spec };
  expect(movedVm(vm as unknown as VirtualMachine, 'box1')).toEqual({
    apiVersion: `${OURS}/v1alpha1`,
    kind: 'VirtualMachine',
    metadata: {
      name: 'web',
      namespace: 'team',
      labels: { app: 'web', [`${OURS}/sample`]: 'linux' },
      annotations: {
        note: 'x',
        [`${OURS}/protected`]: 'true',
        [`${OURS}/provisioned`]: 'machine:/vms/web',
        [`${OURS}/adopt`]: 'uid-of-web',
      },
    },
    spec: { ...spec, hostName: 'box1' },
  });
});

test('a Host takes along which machine it is, the word for its vmDir, and the Secret of its own', () => {
  const annotations = {
    [`${OURS}/claimed`]: 'machine',
    [`${OURS}/host-shutdown`]: 'boot',
    [`${OURS}/last-used-at`]: '2026-01-01T00:00:00Z',
  };
  const ssh = { address: '10.0.0.5', user: 'ops', hostKeys: ['key'], credentialsSecretRef: { name: 'old' } };
  const host = { kind: 'Host', metadata: meta('rack1', { annotations }), spec: { ssh, vmDir: '/vms' } };
  const moved = movedHost(host as unknown as Host, { name: 'rack9', fromUID: 'store', secret: 'rack9' });
  expect(moved.metadata).toEqual({
    name: 'rack9',
    annotations: { [`${OURS}/claimed`]: 'machine', [`${OURS}/take-over`]: 'store' },
  });
  expect(moved.spec).toEqual({ ssh: { ...ssh, credentialsSecretRef: { name: 'rack9' } }, vmDir: '/vms' });
});
