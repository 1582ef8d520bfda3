import { describe, expect, test } from 'vitest';
import { ANNOTATIONS } from '../../src/api/meta.ts';
import { decideVmDir, type VmDirSubject } from '../../src/reconcile/decide-host.ts';
import { type MarkerState, parseMarker } from '../../src/reconcile/record.ts';
import { someHost } from '../fakes/subjects.ts';

const marker = (fields: object = {}): MarkerState =>
  parseMarker(JSON.stringify({ storeUID: 'store-1', hostUID: 'host-uid', epoch: 3, ...fields }));
const claimedBy = (machine: string) => someHost({}, { annotations: { [ANNOTATIONS.claimed]: machine } });

interface Given extends Partial<Omit<VmDirSubject, 'vmDir'>> {
  readonly marker?: MarkerState;
  readonly state?: VmDirSubject['vmDir']['state'];
  readonly path?: string;
}

function verdict({ marker: seen = { kind: 'absent' }, state = 'present', path = '/vms', ...given }: Given): unknown {
  const decision = decideVmDir({
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
  return decision.kind === 'act' ? decision.action : decision.kind === 'blocked' ? decision.reason : decision.kind;
}

const takenOver = (from: string, machine?: string) =>
  someHost(
    {},
    {
      annotations: {
        [ANNOTATIONS.takeOver]: from,
        ...(machine === undefined ? {} : { [ANNOTATIONS.claimed]: machine }),
      },
    },
  );

const CLAIM = { type: 'claim', vmDir: '/vms', seen: undefined };
const takeOver = (state: MarkerState) =>
  state.kind === 'readable'
    ? { type: 'claim', vmDir: '/vms', seen: { marker: state.marker, line: state.line } }
    : state;

describe('a vmDir', () => {
  const rows: readonly (readonly [string, Given, unknown])[] = [
    ['without a marker, never claimed: claimed', {}, CLAIM],
    ['that does not exist, never claimed: made and claimed', { state: 'absent' }, CLAIM],
    ['without a marker, claimed before: not mounted', { host: claimedBy('machine-1') }, 'VMDirMissing'],
    ['without a marker, VMs provisioned there: not mounted', { provisioned: true }, 'VMDirMissing'],
    [
      "of a VM's own, new, on a claimed host: claimed",
      { host: claimedBy('machine-1'), path: '/own' },
      { ...CLAIM, vmDir: '/own' },
    ],
    ["of a VM's own, outside allowedPaths: not made", { allowed: false, path: '/own' }, 'PathNotAllowed'],
    [
      "of a VM's own, claimed before allowedPaths was narrowed: goes on",
      { allowed: false, path: '/own', marker: marker(), epoch: 3 },
      'ready',
    ],
    ['that is not writable', { state: 'not-writable' }, 'VMDirMissing'],
    ['with a marker, not writable', { marker: marker(), state: 'not-writable' }, 'VMDirMissing'],
    ['with a damaged marker', { marker: { kind: 'invalid' } }, 'VMDirMissing'],
    ['of another store', { marker: marker({ storeUID: 'store-2' }) }, 'ClaimedByAnother'],
    [
      'of another store, to be taken over',
      { marker: marker({ storeUID: 'store-2' }), host: takenOver('store-2') },
      takeOver(marker({ storeUID: 'store-2' })),
    ],
    [
      'of a third store, where another was to be taken over',
      { marker: marker({ storeUID: 'store-3' }), host: takenOver('store-2') },
      'ClaimedByAnother',
    ],
    ['whose marker was lost, to be taken over', { provisioned: true, host: takenOver('none', 'machine-1') }, CLAIM],
    [
      'whose marker was lost, another was to be taken over',
      { provisioned: true, host: takenOver('store-2') },
      'VMDirMissing',
    ],
    [
      'of another machine, to be taken over: first the machine is accepted',
      { host: takenOver('none', 'machine-0') },
      'DifferentMachine',
    ],
    ['of another Host that exists', { marker: marker({ hostUID: 'x' }), hostExists: () => true }, 'ClaimedByAnother'],
    ['of a Host that is gone: taken over', { marker: marker({ hostUID: 'x' }) }, takeOver(marker({ hostUID: 'x' }))],
    ['of this Host, by a former controller: taken over', { marker: marker() }, takeOver(marker())],
    ['of this Host, by this controller: ready', { marker: marker(), epoch: 3 }, 'ready'],
    ['put back from a copy with an older epoch: taken over', { marker: marker(), epoch: 5 }, takeOver(marker())],
    ['taken over by a later controller: left to it', { marker: marker(), epoch: 2 }, 'superseded'],
    ['on another machine', { marker: marker(), epoch: 3, host: claimedBy('machine-0') }, 'DifferentMachine'],
    ['on another machine without a marker', { host: claimedBy('machine-0') }, 'DifferentMachine'],
  ];
  test.each(rows)('%s', (_sentence, given, expected) => {
    expect(verdict(given)).toEqual(expected);
  });
});
