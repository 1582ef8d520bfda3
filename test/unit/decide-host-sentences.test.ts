/** What is said of a vmDir, in full, and under which condition. */
import { expect, test } from 'vitest';
import { ANNOTATIONS } from '../../src/api/meta.ts';
import { decideVmDir, type VmDirSubject } from '../../src/reconcile/decide-host.ts';
import type { MarkerState } from '../../src/reconcile/record.ts';
import { someHost } from '../fakes/subjects.ts';

function marker(fields: object = {}): MarkerState {
  return {
    kind: 'readable',
    marker: { storeUID: 'store-1', hostUID: 'host-uid', epoch: 3, ...fields },
    line: 'as it stands',
  };
}

interface Given extends Partial<Omit<VmDirSubject, 'vmDir'>> {
  readonly marker?: MarkerState;
  readonly state?: VmDirSubject['vmDir']['state'];
  readonly path?: string;
}

function verdict({ marker: seen = { kind: 'absent' }, state = 'present', path = '/vms', ...given }: Given) {
  return decideVmDir({
    host: someHost(),
    vmDir: { path, state, marker: seen },
    machineID: 'machine-1',
    uid: 1000,
    storeUID: 'store-1',
    epoch: undefined,
    provisioned: false,
    hostExists: () => false,
    allowed: true,
    ...given,
  });
}

const claimedBy = (machine: string) => someHost({}, { annotations: { [ANNOTATIONS.claimed]: machine } });

test.each<[string, Given, ...string[]]>([
  [
    'the host was machine machine-0 and is machine-1 now; if that is meant: host claim localhost --accept-machine',
    { host: claimedBy('machine-0') },
    'DifferentMachine',
    'Claimed',
  ],
  [
    '/vms/.qemu-operator.json is damaged; restore it, or remove it together with the annotation qemu-operator.dev/claimed of Host localhost',
    { marker: { kind: 'invalid' } },
    'VMDirMissing',
    'VMDirReady',
  ],
  [
    '/vms is claimed by another store (uid store-2); nothing is done there. Use another vmDir, or end the other controller and: host claim localhost --take-over',
    { marker: marker({ storeUID: 'store-2' }) },
    'ClaimedByAnother',
    'Claimed',
  ],
  [
    '/vms is claimed by another Host of this store (uid other); give this one another vmDir',
    { marker: marker({ hostUID: 'other' }), hostExists: (uid) => uid === 'other' },
    'ClaimedByAnother',
    'Claimed',
  ],
  [
    '/vms was claimed before and has no marker now: a file system that is not mounted looks like this. Mount it; if it is empty on purpose, remove the annotation qemu-operator.dev/claimed from Host localhost; if only the marker was lost: host claim localhost --take-over',
    { host: claimedBy('machine-1') },
    'VMDirMissing',
    'VMDirReady',
  ],
  [
    '/vms was claimed before and has no marker now: a file system that is not mounted looks like this. Mount it; if it is empty on purpose, remove the annotation qemu-operator.dev/provisioned from its VMs; if only the marker was lost: host claim localhost --take-over',
    { provisioned: true },
    'VMDirMissing',
    'VMDirReady',
  ],
  [
    "/vms was claimed before and is closed to the user that runs QEMU (uid 1000) now. Where it is a mount point, mount it; where it belongs to another user, let that one run QEMU again, or on the host: sudo chown 1000 '/vms'",
    { host: claimedBy('machine-1'), state: 'not-writable' },
    'VMDirMissing',
    'VMDirReady',
  ],
  [
    "vmDir /own lies outside the host's allowedPaths (/vms, /data)",
    { allowed: false, path: '/own' },
    'PathNotAllowed',
    'VMDirReady',
  ],
  [
    "vmDir /own lies outside the host's allowedPaths (/vms)",
    { allowed: false, path: '/own', host: someHost({ allowedPaths: undefined }) },
    'PathNotAllowed',
    'VMDirReady',
  ],
  [
    "/vms is not writable for the user that runs QEMU. On the host: sudo install -d -o 1000 -m 700 '/vms'; or choose another vmDir",
    { state: 'not-writable' },
    'VMDirMissing',
    'VMDirReady',
  ],
  [
    "/vms is not writable for the user that runs QEMU. On the host: sudo install -d -o 1000 -m 700 '/vms'; or choose another vmDir",
    { state: 'not-writable', marker: marker() },
    'VMDirMissing',
    'VMDirReady',
  ],
])('%s', (message, given, reason, condition) => {
  expect(verdict(given)).toEqual({ kind: 'blocked', reason, condition, message });
});

test('sudo may make a vmDir, and never takes one that was claimed', () => {
  const host = someHost({ sudo: true });
  const claim = { kind: 'act', action: { type: 'claim', vmDir: '/vms', seen: undefined, sudo: true } };
  expect(verdict({ host, state: 'absent' })).toMatchObject(claim);
  expect(verdict({ host, state: 'not-writable' })).toMatchObject(claim);
  expect(verdict({ host, state: 'not-writable', marker: marker() })).toMatchObject({ reason: 'VMDirMissing' });
});

test('claiming and taking over', () => {
  expect(verdict({})).toEqual({
    kind: 'act',
    action: { type: 'claim', vmDir: '/vms', seen: undefined },
    message: 'claiming /vms',
  });
  const seen = { marker: { storeUID: 'store-1', hostUID: 'host-uid', epoch: 3 }, line: 'as it stands' };
  expect(verdict({ marker: marker() })).toEqual({
    kind: 'act',
    action: { type: 'claim', vmDir: '/vms', seen },
    message: 'taking /vms over at epoch 4',
  });
  expect(verdict({ marker: marker(), epoch: 5 })).toMatchObject({ kind: 'act' });
});

test('ready, and superseded', () => {
  expect(verdict({ marker: marker(), epoch: 3 })).toEqual({ kind: 'ready' });
  expect(verdict({ marker: marker(), epoch: 2 })).toEqual({
    kind: 'superseded',
    message:
      'a later controller of this store has taken /vms over (epoch 3, this one had 2); this one does nothing more there',
  });
  expect(verdict({ marker: marker({ hostUID: 'gone' }), epoch: 3 })).toMatchObject({ kind: 'act' });
  expect(verdict({ marker: marker({ hostUID: 'gone' }), epoch: 2 })).toMatchObject({ kind: 'act' });
});

test("its own marker's uid need not be looked up", () => {
  expect(verdict({ marker: marker(), epoch: 3, hostExists: () => true })).toEqual({ kind: 'ready' });
});

test('a claimed host goes on where its own marker lies, and claims another vmDir', () => {
  expect(verdict({ host: claimedBy('machine-1'), marker: marker(), epoch: 3 })).toEqual({ kind: 'ready' });
  expect(verdict({ host: claimedBy('machine-1'), path: '/own' })).toMatchObject({ kind: 'act' });
});
