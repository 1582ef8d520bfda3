import { describe, expect, test } from 'vitest';
import { ANNOTATIONS } from '../../src/api/meta.ts';
import { decide } from '../../src/reconcile/decide.ts';
import type { Decision } from '../../src/reconcile/decision.ts';
import { FACTS } from '../fakes/simulated-world.ts';
import {
  FOLDER,
  file,
  type Given,
  GONE,
  HERE,
  NOON,
  noFile,
  ROOT,
  someEnd,
  someHost,
  someRecord,
  subject,
} from '../fakes/subjects.ts';

const OTHER = '99999999-2222-4333-8444-555555555555';
const { disks } = someRecord();

/** The decision without its sentence: what is done, or why not. */
function brief(decision: Decision): unknown {
  switch (decision.kind) {
    case 'act':
      return { act: decision.action.type, reason: decision.reason };
    case 'wait':
      return { wait: decision.forMs, reason: decision.reason };
    default:
      return { [decision.kind]: decision.reason };
  }
}

const act = (type: string, reason: string) => ({ act: type, reason });
const blocked = (reason: string) => ({ blocked: reason });
const settled = (reason: string) => ({ settled: reason });
const RUNNING = settled('Running');
const NEW: Given = { record: null, metadata: { annotations: {} }, files: { [ROOT]: noFile() } };
const STOPPED: Given = { spec: { powerState: 'PoweredOff' }, launch: null, process: GONE };
const deleted = (given: Given = {}): Given => ({
  ...given,
  metadata: { deletionTimestamp: '2026-01-05T11:00:00Z', ...given.metadata },
});
const old = (fields: object): Given => ({ launch: null, process: GONE, record: { disks, ...fields } });

type Rows = readonly (readonly [sentence: string, given: Given, expected: unknown])[];

function table(name: string, rows: Rows): void {
  describe(name, () => {
    test.each(rows)('%s', (_sentence, given, expected) => {
      expect(brief(decide(subject(given)))).toEqual(expected);
    });
  });
}

table('provisioning, in an order that leaves no gap', [
  [
    'first the finalizer',
    { ...NEW, metadata: { finalizers: [], annotations: {} } },
    act('add-finalizer', 'Provisioning'),
  ],
  ['then the folder with the record', NEW, act('claim-folder', 'Provisioning')],
  [
    'then the annotation',
    { ...old({ disks: {} }), metadata: { annotations: {} }, files: { [ROOT]: noFile() } },
    act('note-provisioned', 'Provisioning'),
  ],
  ['then the disks', { ...old({ disks: {} }), files: { [ROOT]: noFile() } }, act('create-disk', 'Provisioning')],
  ['a file that is there is attached', old({ disks: {} }), act('attach-disk', 'Provisioning')],
  [
    'a creation that was cut off is done again',
    { ...old({ disks: { root: { ...disks['root'], state: 'creating' } } }), files: { [ROOT]: noFile() } },
    act('create-disk', 'Provisioning'),
  ],
  ['then it is launched', old({}), act('launch', 'Starting')],
  [
    'a VM that is off is provisioned too',
    { ...STOPPED, record: { disks: {} }, files: { [ROOT]: noFile() } },
    act('create-disk', 'Provisioning'),
  ],
  ['at rest it runs', {}, RUNNING],
  ['at rest it is off', STOPPED, settled('Stopped')],
]);

table('a disk is created once', [
  ['provisioned, and the folder is gone', { record: null }, blocked('StorageMissing')],
  ['provisioned, and the record is gone', { record: { kind: 'absent' }, process: GONE }, blocked('StorageMissing')],
  [
    'provisioned on another machine, and nothing is here',
    { record: null, annotations: { [ANNOTATIONS.provisioned]: `machine-0:${FOLDER}` } },
    blocked('StorageMissing'),
  ],
  ['a created disk is gone', { ...old({}), files: { [ROOT]: noFile() } }, blocked('StorageMissing')],
  ['also of a VM that is off', { ...STOPPED, files: { [ROOT]: noFile() } }, blocked('StorageMissing')],
  ['a VM that runs on an unlinked file is left running', { files: { [ROOT]: noFile() } }, blocked('StorageMissing')],
  [
    'without the annotation its owner has given the disk up',
    { ...old({}), metadata: { annotations: {} }, files: { [ROOT]: noFile() } },
    act('forget-disk', 'Provisioning'),
  ],
  [
    'an object that has just adopted the folder has given nothing up',
    { ...old({}), metadata: { annotations: { [ANNOTATIONS.adopt]: OTHER } }, files: { [ROOT]: noFile() } },
    act('note-provisioned', 'Provisioning'),
  ],
  [
    'the record is on another machine now: the object follows it',
    { annotations: { [ANNOTATIONS.provisioned]: `machine-0:${FOLDER}` } },
    act('note-provisioned', 'Provisioning'),
  ],
]);

table('identity', [
  ['a folder of another uid', { record: { uid: OTHER } }, blocked('NameConflict')],
  [
    'a folder of another uid, adopted',
    { record: { uid: OTHER }, annotations: { [ANNOTATIONS.adopt]: OTHER } },
    act('adopt', 'Provisioning'),
  ],
  [
    'adopt names another uid than the record',
    { record: { uid: OTHER }, annotations: { [ANNOTATIONS.adopt]: 'x' } },
    blocked('NameConflict'),
  ],
  [
    'adopt while an object of that uid exists',
    { record: { uid: OTHER }, annotations: { [ANNOTATIONS.adopt]: OTHER }, seen: { uidExists: () => true } },
    blocked('NameConflict'),
  ],
  ['adopt is removed when done', { annotations: { [ANNOTATIONS.adopt]: OTHER } }, act('remove-adopt', 'Provisioning')],
  ['without a record the older object wins', { ...NEW, seen: { olderRival: 'default/a' } }, blocked('NameConflict')],
  ['with a record its owner wins', { seen: { olderRival: 'default/a' } }, RUNNING],
  ['the name is taken in another vmDir', { ...NEW, seen: { namesake: 'default/a' } }, blocked('NameConflict')],
  ['a process that no record explains', { ...NEW, record: { kind: 'absent' } }, blocked('NameConflict')],
  ['a record of a later version is read-only', { record: { kind: 'too-new', version: 9 } }, blocked('RecordTooNew')],
  ['a record that cannot be read', { record: { kind: 'invalid', message: 'x' } }, blocked('RecordInvalid')],
]);

table('annotations', [
  [
    'paused: nothing is touched',
    { annotations: { [ANNOTATIONS.paused]: '' }, process: 'guest-panicked' },
    blocked('PausedByOperator'),
  ],
  ['paused: "false" is not', { annotations: { [ANNOTATIONS.paused]: 'false' } }, RUNNING],
  ['paused: deletion included', deleted({ annotations: { [ANNOTATIONS.paused]: '' } }), blocked('PausedByOperator')],
  [
    'paused wins over orphan',
    deleted({ annotations: { [ANNOTATIONS.paused]: '', [ANNOTATIONS.orphan]: '' } }),
    blocked('PausedByOperator'),
  ],
  [
    'a paused Host stops everything on it',
    { host: someHost({}, { annotations: { [ANNOTATIONS.paused]: '' } }) },
    blocked('PausedByOperator'),
  ],
]);

table('deletion', [
  ['a running VM is stopped first', deleted(), act('stop', 'Stopping')],
  ['then its files are removed', deleted({ process: GONE }), act('remove-files', 'Terminating')],
  ['then the object is released', deleted({ record: null }), act('release', 'Terminating')],
  [
    'a folder that lost its record while QEMU runs there is not left behind unsaid',
    deleted({ record: { kind: 'absent' } }),
    blocked('RecordInvalid'),
  ],
  [
    'nor one with files of ours in it',
    deleted({ record: { kind: 'absent' }, process: GONE, folder: { entries: ['console.log'] } }),
    blocked('RecordInvalid'),
  ],
  [
    'what others left in the folder holds nothing up',
    deleted({ record: { kind: 'absent' }, process: GONE, folder: { entries: ['notes.txt'] } }),
    act('release', 'Terminating'),
  ],
  ["another's folder is not touched", deleted({ record: { uid: OTHER } }), act('release', 'Terminating')],
  [
    'orphan leaves the host alone',
    deleted({ annotations: { [ANNOTATIONS.orphan]: '' } }),
    act('release', 'Terminating'),
  ],
  [
    'a record of a later version holds it',
    deleted({ record: { kind: 'too-new', version: 9 } }),
    blocked('RecordTooNew'),
  ],
  [
    'while creating: what was made so far goes',
    deleted({ ...old({ disks: { root: { ...disks['root'], state: 'creating' } } }) }),
    act('remove-files', 'Terminating'),
  ],
]);

test('a disk that another VM has as well stays, and the sentence says so', () => {
  const sharedDisks = new Map([
    [ROOT, 'default/b'],
    ['/data/c.raw', 'default/c'],
  ]);
  expect(decide(subject(deleted({ process: GONE, seen: { sharedDisks } })))).toMatchObject({
    action: { type: 'remove-files', keep: [ROOT, '/data/c.raw'] },
    message: `removing the files of the VM, but not ${ROOT}, which is a disk of VM default/b as well, nor /data/c.raw, which is a disk of VM default/c as well`,
  });
});

table('the nonce', [
  [
    'another nonce restarts a running VM',
    { spec: { restartedAt: 'b' }, record: { nonce: 'a' } },
    act('stop', 'Stopping'),
  ],
  ['the same nonce does not', { spec: { restartedAt: 'a' }, record: { nonce: 'a' } }, RUNNING],
  [
    'another nonce starts a VM out of its back-off',
    { ...old({ end: someEnd('Crashed', { crashes: 5 }), nonce: 'a' }), spec: { restartedAt: 'b' } },
    act('launch', 'Starting'),
  ],
  [
    'another nonce starts a VM that had powered itself off',
    { ...old({ end: someEnd('GuestPoweredOff', { crashes: 0 }) }), spec: { restartedAt: 'b' } },
    act('launch', 'Starting'),
  ],
  [
    'under Never too',
    { ...old({ end: someEnd('Crashed') }), spec: { restartedAt: 'b', restartPolicy: 'Never' } },
    act('launch', 'Starting'),
  ],
  [
    'a nonce that comes while the VM is off is noted, so that it is no restart later',
    { ...STOPPED, spec: { powerState: 'PoweredOff', restartedAt: 'b' } },
    act('note-off', 'Stopped'),
  ],
]);

table('off', [
  ['a process is ended', { spec: { powerState: 'PoweredOff' } }, act('stop', 'Stopping')],
  [
    'an end that nobody asked for is noted as off',
    { ...STOPPED, record: { end: someEnd('GuestPoweredOff') } },
    act('note-off', 'Stopped'),
  ],
  [
    'also when something else is in the way',
    { ...STOPPED, record: { end: someEnd('GuestPoweredOff') }, files: { [ROOT]: noFile() } },
    act('note-off', 'Stopped'),
  ],
  ['once is enough', { ...STOPPED, record: { end: someEnd('GuestPoweredOff'), off: true } }, settled('Stopped')],
  [
    'an end that was asked for needs no note',
    { ...STOPPED, record: { end: someEnd('StoppedByRequest') } },
    settled('Stopped'),
  ],
  [
    'off and on again starts it under every policy',
    { ...old({ end: someEnd('GuestPoweredOff'), off: true }), spec: { restartPolicy: 'Never' } },
    act('launch', 'Starting'),
  ],
  [
    'an impossible edit does not keep it on',
    { spec: { powerState: 'PoweredOff', accelerator: 'KVM' } },
    act('stop', 'Stopping'),
  ],
  [
    'a stop while starting ends what came up',
    { spec: { powerState: 'PoweredOff' }, launch: { state: 'starting' }, process: 'starting' },
    act('stop', 'Stopping'),
  ],
  [
    'a launch that never came up is cleared',
    { spec: { powerState: 'PoweredOff' }, launch: { state: 'starting' }, process: GONE },
    act('note-end', 'Starting'),
  ],
]);

const policy = (restartPolicy: string, reason: Parameters<typeof someEnd>[0]): Given => ({
  ...old({ end: someEnd(reason) }),
  spec: { restartPolicy },
});
const STARTS = act('launch', 'Starting');

table('what the policy answers', [
  ['never launched: started under every policy', { ...old({}), spec: { restartPolicy: 'Never' } }, STARTS],
  ...(['Always', 'OnFailure', 'Never'] as const).flatMap(
    (name): Rows => [
      [`StoppedByRequest, ${name}: as powerState says`, policy(name, 'StoppedByRequest'), STARTS],
      [`HostShutdown, ${name}: as powerState says`, policy(name, 'HostShutdown'), STARTS],
    ],
  ),
  ...(['Crashed', 'Signaled', 'StoppedExternally', 'GuestPanicked', 'InternalError', 'HostRebooted'] as const).flatMap(
    (reason): Rows => [
      [`${reason}, Always: started`, policy('Always', reason), STARTS],
      [`${reason}, OnFailure: started`, policy('OnFailure', reason), STARTS],
      [`${reason}, Never: stays, stalled with that reason`, policy('Never', reason), blocked(reason)],
    ],
  ),
  ['GuestPoweredOff, Always: started', policy('Always', 'GuestPoweredOff'), STARTS],
  ['GuestPoweredOff, OnFailure: stays off, ready', policy('OnFailure', 'GuestPoweredOff'), settled('GuestPoweredOff')],
  ['GuestPoweredOff, Never: stays off, ready', policy('Never', 'GuestPoweredOff'), settled('GuestPoweredOff')],
]);

table('a guest that does not run', [
  ['panicked: ended, to be started again', { process: 'guest-panicked' }, act('stop', 'Stopping')],
  [
    'panicked under Never: kept for inspection',
    { process: 'guest-panicked', spec: { restartPolicy: 'Never' } },
    blocked('GuestPanicked'),
  ],
  ['an internal error: the same', { process: 'internal-error' }, act('stop', 'Stopping')],
  [
    'an internal error under Never',
    { process: 'internal-error', spec: { restartPolicy: 'Never' } },
    blocked('InternalError'),
  ],
  ['paused: resumed', { process: 'paused' }, act('resume', 'GuestPaused')],
  ['paused by a disk error: resumed', { process: 'io-error' }, act('resume', 'IOError')],
  [
    'paused by a full disk: waits for space',
    { process: 'io-error', files: { [ROOT]: file({ freeBytes: 0 }) } },
    { wait: 5_000, reason: 'IOError' },
  ],
  ['about to run', { process: 'starting' }, { wait: 1_000, reason: 'Starting' }],
  ['shutting down by itself: left to it', { process: 'shutdown' }, { wait: 1_000, reason: 'Stopping' }],
  ['a silent monitor: left alone', { process: 'silent' }, { wait: 5_000, reason: 'MonitorUnresponsive' }],
]);

const launchedWith = (vcpus: number): Given => {
  const { wanted } = subject();
  return { launch: { spec: { ...structuredClone(wanted.launch), vcpus } as never } };
};

table('a change while running', [
  ['waits for a restart', launchedWith(1), RUNNING],
  [
    'or does not wait, with updateStrategy Restart',
    { ...launchedWith(1), spec: { updateStrategy: { type: 'Restart' } } },
    act('stop', 'Stopping'),
  ],
  [
    'an impossible one stops nothing',
    { ...launchedWith(1), spec: { updateStrategy: { type: 'Restart' }, accelerator: 'KVM' } },
    blocked('KVMUnavailable'),
  ],
  ['qcow2 grows live', { spec: { disks: [{ name: 'root', size: '2Gi' }] } }, act('grow-disk-live', 'Running')],
  [
    'what the spec says of a disk is noted',
    { spec: { disks: [{ name: 'root', size: '1Gi', reclaimPolicy: 'Retain' }] } },
    act('note-disk', 'Provisioning'),
  ],
  ['a process that nobody noted is noted', { launch: { state: 'starting' } }, act('note-launch', 'Starting')],
  ['without qemu-img a VM that needs none runs on', { seen: { facts: { ...FACTS, qemuImg: false } } }, RUNNING],
]);

table('what a launch needs', [
  ['QEMU', { ...old({}), seen: { facts: { ...FACTS, qemu: {} } } }, blocked('QEMUNotInstalled')],
  [
    'QEMU of version 6 or later',
    { ...old({}), seen: { facts: { ...FACTS, qemu: { x86_64: { command: 'q', version: '5.2.0' } } } } },
    blocked('QEMUTooOld'),
  ],
  ['firmware', { ...old({}), spec: { firmware: { type: 'UEFI' } } }, blocked('FirmwareNotFound')],
  ['KVM, where the spec wants it', { ...old({}), spec: { accelerator: 'KVM' } }, blocked('KVMUnavailable')],
  [
    'qemu-img, to make a disk',
    { ...old({ disks: {} }), files: { [ROOT]: noFile() }, seen: { facts: { ...FACTS, qemuImg: false } } },
    blocked('QEMUNotInstalled'),
  ],
]);

test('the launch carries what is wanted, the nonce it answers, and whether the policy asked for it', () => {
  const given = subject({ ...old({ end: someEnd('Crashed'), nonce: 'a' }), spec: { restartedAt: 'a' } });
  expect(decide(given)).toEqual({
    kind: 'act',
    action: {
      type: 'launch',
      spec: given.wanted.launch,
      nonce: 'a',
      bootID: 'boot-1',
      accelerator: 'TCG',
      acceleratorReason: '/dev/kvm does not exist',
      restart: true,
    },
    reason: 'Starting',
    message: 'starting again after Crashed',
  });
});

test('adopting answers the nonce: nothing is restarted by it', () => {
  const given = subject({
    record: { uid: OTHER, nonce: 'before' },
    annotations: { [ANNOTATIONS.adopt]: OTHER },
    spec: { restartedAt: 'now' },
  });
  expect(decide(given)).toMatchObject({ action: { type: 'adopt', fromUID: OTHER, nonce: 'now' } });
});

test('the annotation that is noted is machine and folder', () => {
  const given = subject({ ...old({ disks: {} }), metadata: { annotations: {} }, files: { [ROOT]: noFile() } });
  expect(decide(given)).toMatchObject({ action: { type: 'note-provisioned', value: HERE } });
});

test('no decision rests on the status', () => {
  const given = subject({ process: GONE });
  const lying = {
    ...given,
    vm: { ...given.vm, status: { phase: 'Running' as const, pid: 1, startedAt: new Date(NOON).toISOString() } },
  };
  expect(decide(lying)).toEqual(decide(given));
});
