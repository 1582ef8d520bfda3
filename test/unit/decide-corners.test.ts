/** Corners of decisions: boundaries, what is absent, and what two things at once come to. */
import { describe, expect, test } from 'vitest';
import { ANNOTATIONS, FINALIZERS } from '../../src/api/meta.ts';
import { decide, decideSafely } from '../../src/reconcile/decide.ts';
import { FACTS } from '../fakes/simulated-world.ts';
import { FOLDER, file, type Given, GONE, NOON, noFile, ROOT, someHost, subject } from '../fakes/subjects.ts';

const ABSENT: Given = { launch: null, process: GONE };
const NEW: Given = { record: null, files: { [ROOT]: noFile() } };
const NO_TOOLS: Given = { seen: { facts: { ...FACTS, qemuImg: false } } };
const OFF = { powerState: 'PoweredOff' } as const;
const FORCED = { powerState: 'ForcedOff' } as const;
const deleted = { deletionTimestamp: '2026-01-05T11:00:00Z' };

/** What is done, or the reason why not. */
function outcome(given: Given): string {
  const decision = decide(subject(given));
  if (decision.kind !== 'act') return decision.reason;
  return decision.action.type === 'stop' ? decision.action.step : decision.action.type;
}

type Rows = readonly (readonly [what: string, given: Given, expected: string])[];
function table(name: string, rows: Rows): void {
  describe(name, () => {
    test.each(rows)('%s', (_what, given, expected) => {
      expect(outcome(given)).toBe(expected);
    });
  });
}

const ROOT_DISK = { name: 'root', size: '1Gi' };
const UNPROVISIONED: Given = { metadata: { annotations: {} } };

table('objects without annotations or finalizers', [
  ['a new one', { ...NEW, metadata: { annotations: undefined, finalizers: undefined } }, 'add-finalizer'],
  ['then', { ...NEW, metadata: { annotations: undefined } }, 'claim-folder'],
  ['a folder of its own', { ...ABSENT, metadata: { annotations: undefined } }, 'note-provisioned'],
  ['deleted', { record: null, metadata: { ...deleted, annotations: undefined } }, 'release'],
  [
    'orphan: "false" is none',
    { process: GONE, metadata: { ...deleted, annotations: { [ANNOTATIONS.orphan]: 'false' } } },
    'remove-files',
  ],
  ['a finalizer of others alone', { ...NEW, metadata: { finalizers: ['x/a'], annotations: {} } }, 'add-finalizer'],
  ['both', { ...NEW, metadata: { finalizers: ['x/a', FINALIZERS.hostCleanup], annotations: {} } }, 'claim-folder'],
]);

const elsewhere = { [ANNOTATIONS.provisioned]: `machine-0:${FOLDER}` };
table('what is given up', [
  [
    'nothing, while the annotation names another place',
    { ...ABSENT, annotations: elsewhere, files: { [ROOT]: noFile() } },
    'note-provisioned',
  ],
  [
    'not an attached disk',
    {
      ...ABSENT,
      metadata: { annotations: {} },
      record: { disks: { root: { path: ROOT, format: 'qcow2', state: 'attached' } } },
      files: { [ROOT]: noFile() },
    },
    'note-provisioned',
  ],
  ['not a disk that is there', { ...ABSENT, metadata: { annotations: {} } }, 'note-provisioned'],
  [
    'not a disk that nobody looked at',
    {
      ...ABSENT,
      metadata: { annotations: {} },
      record: { disks: { old: { path: '/x', format: 'raw', state: 'created' } } },
    },
    'note-provisioned',
  ],
]);

const unrecorded: Given = { record: { kind: 'absent' }, process: GONE, folder: { entries: ['qemu.log'] } };
table('deletion', [
  ['a record that cannot be read', { metadata: deleted, record: { kind: 'invalid', message: 'x' } }, 'RecordInvalid'],
  ['a record that was lost', { metadata: deleted, ...unrecorded }, 'RecordInvalid'],
  ['a folder that never was its own', { metadata: { ...deleted, annotations: {} }, ...unrecorded }, 'release'],
  ['such a folder, no annotations', { metadata: { ...deleted, annotations: undefined }, ...unrecorded }, 'release'],
  ['a folder of other files alone', { metadata: deleted, ...unrecorded, folder: { entries: ['a.txt'] } }, 'release'],
]);

table('a folder that is there already', [
  [
    'with files of others is taken',
    { ...NEW, ...unrecorded, ...UNPROVISIONED, folder: { entries: ['a.txt'] } },
    'claim-folder',
  ],
  ['with a file of ours is not', { ...NEW, ...unrecorded, ...UNPROVISIONED }, 'NameConflict'],
]);

describe('a Host that is being deleted', () => {
  const host = someHost({}, deleted);
  const said = (given: Given) => {
    const decision = decideSafely(subject(given));
    return decision.kind === 'act' ? decision.action.type : decision.message;
  };
  const fresh = { ...NEW, metadata: { annotations: {}, finalizers: undefined } };

  test('takes no new VM', () => {
    expect(decideSafely(subject({ host, ...fresh }))).toEqual({
      kind: 'blocked',
      reason: 'HostNotFound',
      message: 'Host localhost is being deleted and takes no new VMs',
    });
    expect(said(fresh)).toBe('add-finalizer');
  });
  test('keeps those that it has', () => {
    expect(said({ host })).toBe('the guest is running');
    expect(said({})).toBe('the guest is running');
  });
  test('lets those go that never came', () => {
    expect(said({ host, ...fresh, metadata: { ...fresh.metadata, ...deleted } })).toBe('release');
  });
});

test('a bug is said of its VM', () => {
  const uid = '99999999-2222-4333-8444-555555555555';
  const given: Given = {
    record: { uid },
    annotations: { [ANNOTATIONS.adopt]: uid },
    seen: {
      uidExists: () => {
        throw new Error('a bug');
      },
    },
  };
  expect(decideSafely(subject(given))).toEqual({ kind: 'blocked', reason: 'InternalError', message: 'a bug' });
});

table('tools', [
  [
    'growing needs them',
    { ...ABSENT, ...NO_TOOLS, spec: { disks: [{ name: 'root', size: '2Gi' }] } },
    'QEMUNotInstalled',
  ],
  [
    'noting does not',
    { ...ABSENT, ...NO_TOOLS, spec: { disks: [{ ...ROOT_DISK, reclaimPolicy: 'Retain' }] } },
    'note-disk',
  ],
  [
    'an image needs them',
    {
      ...ABSENT,
      ...NO_TOOLS,
      spec: { disks: [ROOT_DISK, { name: 'data', image: { url: 'https://x.example/a' } }] },
      files: { [`${FOLDER}/data.qcow2`]: noFile(`${FOLDER}/data.qcow2`) },
    },
    'QEMUNotInstalled',
  ],
  ['nor does a problem', { ...ABSENT, ...NO_TOOLS, spec: OFF, files: { [ROOT]: noFile() } }, 'StorageMissing'],
]);

table('running', [
  ['a process without a launch is noted', { launch: null, process: 'running' }, 'note-launch'],
  [
    'updateStrategy Restart without a change restarts nothing',
    { spec: { updateStrategy: { type: 'Restart' } } },
    'Running',
  ],
  [
    'a disk error on a file that is gone: resumed',
    {
      process: 'io-error',
      spec: { disks: [] },
      record: { disks: {} },
      launch: { spec: { ...subject({ spec: { disks: [] } }).wanted.launch } as never },
    },
    'resume',
  ],
  [
    'with just enough space: resumed',
    { process: 'io-error', files: { [ROOT]: file({ freeBytes: 64 * 1024 * 1024 }) } },
    'resume',
  ],
  [
    'with unknown space: resumed',
    { process: 'io-error', files: { [ROOT]: file({ freeBytes: undefined as never }) } },
    'resume',
  ],
  ['a guest that was not asked runs', { process: 'not-asked' }, 'Running'],
]);

table('stopping', [
  ['a marker of a process with the same pid', { spec: FORCED, stop: { startTicks: 1, quitAt: NOON } }, 'quit'],
  ['a panicked guest of a Soft VM', { spec: { powerOff: { mode: 'Soft' } }, process: 'guest-panicked' }, 'quit'],
  [
    'a paused guest of a Soft VM is asked',
    { spec: { ...OFF, powerOff: { mode: 'Soft' } }, process: 'paused' },
    'powerdown',
  ],
  ['a guest that starts is asked', { spec: OFF, process: 'starting' }, 'powerdown'],
  ['a silent one is asked', { spec: OFF, process: 'silent' }, 'powerdown'],
  ['one that was not asked how it is', { spec: OFF, process: 'not-asked' }, 'powerdown'],
  ['after quit there is no more asking', { spec: OFF, stop: { at: NOON - 1_000, quitAt: NOON - 5_000 } }, 'terminate'],
  ['a clock that was set back: SIGTERM at once', { spec: FORCED, stop: { quitAt: NOON + 3_600_000 } }, 'terminate'],
  ['after SIGTERM neither', { spec: OFF, stop: { at: NOON - 1_000, terminateAt: NOON - 5_000 } }, 'kill'],
]);

describe('a powerdown', () => {
  const action = (stop: Given['stop']) => {
    const decision = decide(subject({ spec: OFF, ...(stop === undefined ? {} : { stop }) }));
    return decision.kind === 'act' ? decision.action : decision;
  };
  const POWERDOWN = { type: 'stop', step: 'powerdown', reason: 'StoppedByRequest' };

  test('begins its time afresh where the clock was set back behind it', () => {
    const later = NOON + 1_000;
    expect(action({ at: later, powerdownAt: NOON - 6_000 })).toStrictEqual({ ...POWERDOWN, afresh: true });
  });

  test.each([
    ['the first', undefined],
    ['one of this very moment', { at: NOON, powerdownAt: NOON - 6_000 }],
    ['another, later', { at: NOON - 6_000, powerdownAt: NOON - 6_000 }],
  ])('does not: %s', (_what, stop) => {
    expect(action(stop)).toStrictEqual(POWERDOWN);
  });
});

test('a harder step begins nothing afresh', () => {
  const decision = decide(subject({ spec: FORCED }));
  const action = { type: 'stop', step: 'quit', reason: 'StoppedByRequest' };
  expect(decision.kind === 'act' ? decision.action : decision).toStrictEqual(action);
});

test('a stop that is not wanted any more is withdrawn', () => {
  expect(decide(subject({ stop: {} }))).toEqual({
    kind: 'act',
    action: { type: 'withdraw-stop' },
    reason: 'Running',
    message: 'the VM is wanted on again before it was off',
  });
});
