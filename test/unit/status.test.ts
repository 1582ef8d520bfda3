import { describe, expect, test } from 'vitest';
import { ANNOTATIONS } from '../../src/api/meta.ts';
import type { VirtualMachine, VirtualMachineStatus } from '../../src/api/virtual-machine.ts';
import { virtualMachineStatus } from '../../src/api/virtual-machine-status.ts';
import { decide } from '../../src/reconcile/decide.ts';
import type { Subject } from '../../src/reconcile/decision.ts';
import { type Failure, statusOf } from '../../src/reconcile/status.ts';
import { storedVm } from '../fakes/manifests.ts';
import { type Given, GONE, NOON, noFile, ROOT, someEnd, someRecord, subject } from '../fakes/subjects.ts';

const seen = (given: Subject, previous?: VirtualMachineStatus, failure?: Failure) =>
  statusOf({ ...given.vm, status: previous }, { kind: 'seen', subject: given, decision: decide(given), failure });
const status = (given: Given = {}) => seen(subject(given));
const away = (vm: VirtualMachine, reason = 'HostUnreachable', hostKnown = true) =>
  statusOf(vm, { kind: 'unseen', at: NOON, reason, message: 'no route to host', hostKnown });

/** Conditions as `Type=Status/Reason`. */
const conditions = ({ conditions: found }: VirtualMachineStatus) =>
  found?.map(({ type, status: is, reason }) => `${type}=${is}/${reason}`);

const DELETED = { deletionTimestamp: '2026-01-05T11:00:00Z' };
const { disks } = someRecord();

test('the status of a running VM, whole', () => {
  const { vm, wanted } = subject();
  const at = '2026-01-05T12:00:00Z';
  const condition = (type: string, reason: string, message: string) => ({
    type,
    status: 'True',
    reason,
    message,
    lastTransitionTime: at,
    observedGeneration: 1,
  });
  expect(status()).toEqual({
    observedGeneration: vm.metadata.generation,
    phase: 'Running',
    message: 'the guest is running',
    conditions: [
      condition('Ready', 'Running', 'the guest is running'),
      condition('Running', 'Running', 'the guest runs'),
      condition('HostReachable', 'Ready', 'the host was looked at'),
      condition('DisksReady', 'Ready', '1 disk(s)'),
    ],
    uuid: wanted.launch.uuid,
    pid: 77,
    startedAt: '2026-01-05T11:00:00Z',
    accelerator: 'TCG',
    qemuVersion: '10.0.2',
    folder: '/vms/web-1',
    vcpus: 2,
    memory: '2Gi',
    disks: [{ name: 'root', path: ROOT, format: 'qcow2', virtualSize: '1Gi', state: 'Created', reclaim: 'Delete' }],
    interfaces: wanted.launch.networks,
    restarts: 0,
    history: [{ at, reason: 'Running', message: 'the guest is running' }],
  });
});

describe('conditions', () => {
  const OFF: Given = { launch: null, process: GONE };
  const rows: readonly (readonly [string, Given, readonly string[]])[] = [
    [
      'off',
      { ...OFF, spec: { powerState: 'PoweredOff' } },
      ['Ready=True/Stopped', 'Running=False/Stopped', 'DisksReady=True/Ready'],
    ],
    [
      'powered itself off',
      { ...OFF, record: { end: someEnd('GuestPoweredOff') } },
      ['Ready=True/GuestPoweredOff', 'Running=False/Stopped'],
    ],
    [
      'crash-looping is not stalled',
      { ...OFF, record: { end: someEnd('Crashed', { crashes: 9, at: NOON }) } },
      ['Ready=False/CrashLoopBackOff', '!Stalled'],
    ],
    [
      'an end that no policy answers',
      { ...OFF, spec: { restartPolicy: 'Never' }, record: { end: someEnd('Crashed') } },
      ['Ready=False/Crashed', 'Stalled=True/Crashed'],
    ],
    [
      'a lost disk',
      { ...OFF, files: { [ROOT]: noFile() } },
      ['Ready=False/StorageMissing', 'DisksReady=False/StorageMissing', 'Stalled=True/StorageMissing'],
    ],
    [
      'a disk that is not there yet',
      { ...OFF, record: { disks: {} }, files: { [ROOT]: noFile() } },
      ['Ready=False/Provisioning', 'DisksReady=False/Provisioning', '!Stalled'],
    ],
    [
      'paused by its operator',
      { annotations: { [ANNOTATIONS.paused]: '' } },
      ['Ready=Unknown/PausedByOperator', 'Running=True/Running', 'ReconcilePaused=True/PausedByOperator', '!Stalled'],
    ],
    [
      'a deletion that is held',
      { metadata: DELETED, record: { kind: 'too-new', version: 9 } },
      ['Ready=False/RecordTooNew', 'DeletionBlocked=True/RecordTooNew'],
    ],
    [
      'a deletion while paused',
      { metadata: DELETED, annotations: { [ANNOTATIONS.paused]: '' } },
      ['DeletionBlocked=True/PausedByOperator'],
    ],
    [
      'a deletion that the guest ignores',
      {
        metadata: DELETED,
        spec: { powerOff: { mode: 'Soft' } },
        stop: { at: NOON - 90_000, powerdownAt: NOON },
      },
      ['Ready=False/GuestIgnoresPowerdown', 'DeletionBlocked=True/GuestIgnoresPowerdown', '!Stalled'],
    ],
    [
      'a silent monitor',
      { process: 'silent' },
      ['Ready=False/MonitorUnresponsive', 'Running=Unknown/MonitorUnresponsive', '!Stalled'],
    ],
    ['paused by a disk error', { process: 'io-error' }, ['Ready=False/IOError', 'Running=False/IOError']],
    [
      'an impossible edit while it runs',
      { spec: { accelerator: 'KVM' } },
      ['Ready=False/KVMUnavailable', 'Running=True/Running', 'Stalled=True/KVMUnavailable'],
    ],
  ];
  test.each(rows)('%s', (_sentence, given, expected) => {
    const found = conditions(status(given));
    for (const one of expected) {
      if (one.startsWith('!')) expect(found?.some((condition) => condition.startsWith(one.slice(1)))).toBe(false);
      else expect(found).toContain(one);
    }
  });

  test('RestartRequired keeps Ready true and names what waits', () => {
    const { wanted } = subject();
    const found = status({ launch: { spec: { ...structuredClone(wanted.launch), vcpus: 1 } as never } });
    expect(conditions(found)).toContain('Ready=True/Running');
    expect(conditions(found)).toContain('RestartRequired=True/PendingChanges');
    expect(found.pendingChanges).toEqual([{ path: 'spec.vcpus', from: '1', to: '2' }]);
    expect(found.vcpus).toBe(1);
  });

  test('lastTransitionTime moves with the status of a condition alone', () => {
    const before = status();
    const later = seen(subject({ seen: { at: NOON + 60_000 }, spec: { accelerator: 'KVM' } }), before);
    const times = Object.fromEntries(
      later.conditions?.map(({ type, lastTransitionTime }) => [type, lastTransitionTime]) ?? [],
    );
    expect(times).toMatchObject({ Ready: '2026-01-05T12:01:00Z', Running: '2026-01-05T12:00:00Z' });
  });
});

describe('what cannot be seen', () => {
  test('is unknown, and what was last seen stays', () => {
    const before = status();
    const found = away(storedVm({}, { generation: 7 }));
    expect(conditions(found)).toEqual([
      'Ready=Unknown/HostUnreachable',
      'Running=Unknown/HostUnreachable',
      'HostReachable=False/HostUnreachable',
      'DisksReady=Unknown/HostUnreachable',
    ]);
    expect(found).toMatchObject({ phase: 'Unknown', observedGeneration: 7 });
    expect(away({ ...storedVm(), status: before })).toMatchObject({ pid: 77, disks: before.disks });
  });

  test('holds a deletion', () => {
    expect(conditions(away(storedVm({}, DELETED)))).toContain('DeletionBlocked=True/HostUnreachable');
  });

  test('without a Host the VM is stalled and pending', () => {
    const found = away(storedVm(), 'HostNotFound', false);
    expect(found.phase).toBe('Pending');
    expect(conditions(found)).toContain('Ready=False/HostNotFound');
    expect(conditions(found)).toContain('Stalled=True/HostNotFound');
  });

  test('while paused that is said too', () => {
    const vm = storedVm({}, { annotations: { [ANNOTATIONS.paused]: '' } });
    expect(conditions(away(vm))).toContain('ReconcilePaused=True/PausedByOperator');
  });
});

describe('at rest', () => {
  const rows: readonly (readonly [string, Given])[] = [
    ['running', {}],
    ['off', { launch: null, process: GONE, spec: { powerState: 'PoweredOff' } }],
    ['in back-off', { launch: null, process: GONE, record: { end: someEnd('Crashed', { crashes: 9, at: NOON }) } }],
    ['stopping', { spec: { powerState: 'PoweredOff' }, stop: { at: NOON, powerdownAt: NOON } }],
    ['stalled', { spec: { accelerator: 'KVM' } }],
  ];
  test.each(rows)('%s, it is byte-identical from look to look', (_sentence, given) => {
    const first = seen(subject(given));
    const second = seen(subject({ ...given, seen: { at: NOON + 3_333 } }), first);
    expect(JSON.stringify(second)).toBe(JSON.stringify(first));
  });

  test('a start that is reckoned a little differently changes nothing', () => {
    const process = (startedAt: number) =>
      ({ kind: 'present', pid: 77, startTicks: 4711, startedAt, guest: 'running' }) as const;
    expect(status({ process: process(NOON - 1_000_001) })).toEqual(status({ process: process(NOON - 999_999) }));
  });
});

describe('phases', () => {
  const rows: readonly (readonly [string, Given])[] = [
    ['Provisioning', { record: null, metadata: { annotations: {} } }],
    ['Starting', { launch: null, process: GONE }],
    ['Starting', { process: 'starting' }],
    ['Running', {}],
    ['Paused', { process: 'io-error' }],
    ['Stopping', { spec: { powerState: 'PoweredOff' } }],
    ['Stopped', { launch: null, process: GONE, spec: { powerState: 'PoweredOff' } }],
    ['Stopped', { launch: null, process: GONE, record: { end: someEnd('GuestPoweredOff') } }],
    [
      'CrashLoopBackOff',
      { launch: null, process: GONE, record: { end: someEnd('Crashed', { crashes: 9, at: NOON }) } },
    ],
    ['Terminating', { metadata: DELETED }],
    ['Failed', { launch: null, process: GONE, files: { [ROOT]: noFile() } }],
    ['Failed', { process: 'guest-panicked', spec: { restartPolicy: 'Never' } }],
    ['Unknown', { process: 'silent' }],
  ];
  test.each(rows)('%s %#', (phase, given) => {
    expect(status(given).phase).toBe(phase);
  });
});

describe('history', () => {
  test('a line whenever the reason changes: when, why, and what comes next', () => {
    const crashed: Given = {
      launch: null,
      process: GONE,
      record: { end: someEnd('Crashed', { crashes: 2, at: NOON }) },
    };
    const found = seen(subject(crashed), status());
    expect(found.history?.map(({ reason }) => reason)).toEqual(['Running', 'CrashLoopBackOff']);
    expect(found.history?.at(-1)?.message).toBe(found.message);
    expect(found.history?.at(-1)?.message).toContain(`starts again at ${found.nextAttemptAt}`);
  });

  test('is bounded to the last twenty', () => {
    let found = status();
    for (let turn = 0; turn < 30; turn += 1) {
      const process = turn % 2 === 0 ? ('io-error' as const) : ('running' as const);
      found = seen(subject({ process, seen: { at: NOON + turn * 1_000 } }), found);
    }
    expect(found.history).toHaveLength(20);
    expect(found.history?.at(-1)?.reason).toBe('Running');
  });
});

test('a failed action is the reason, and says when it is tried again', () => {
  const given = subject({ launch: null, process: GONE });
  const failure = { reason: 'PortInUse', message: 'launch failed: in use', nextAttemptAt: NOON + 4_000 };
  const found = seen(given, undefined, failure);
  expect(conditions(found)).toContain('Ready=False/PortInUse');
  expect(found).toMatchObject({
    phase: 'Failed',
    message: 'launch failed: in use; tried again at 2026-01-05T12:00:04Z',
    nextAttemptAt: '2026-01-05T12:00:04Z',
  });
  // The next attempt is no news.
  const later = seen(given, found, { ...failure, nextAttemptAt: NOON + 9_000 });
  expect(later.message).toContain('12:00:09Z');
  expect(later.history).toEqual([
    { at: '2026-01-05T12:00:00Z', reason: 'PortInUse', message: 'launch failed: in use' },
  ]);
});

describe('disks', () => {
  test('one that was taken out of the spec is detached, with what a deletion does', () => {
    const old = { path: '/data/o.qcow2', format: 'qcow2', state: 'created' } as const;
    expect(status({ record: { disks: { ...disks, old } } }).disks?.at(-1)).toEqual({
      name: 'old',
      path: '/data/o.qcow2',
      format: 'qcow2',
      state: 'Detached',
      reclaim: 'Delete',
    });
  });

  test('one that was taken out of the spec is what it was, until the process that has it ends', () => {
    const old = { name: 'old', path: '/data/o.qcow2', format: 'qcow2' } as const;
    const record = { disks: { ...disks, old: { ...old, state: 'attached' as const } } };
    const { wanted } = subject();
    const launch = { spec: { ...structuredClone(wanted.launch), disks: [...wanted.launch.disks, old] } as never };
    const stateOf = (given: Given) => status({ record, ...given }).disks?.at(-1)?.state;
    expect([{ launch }, { launch, process: GONE }, {}, { launch: null }].map(stateOf)).toEqual([
      'Attached',
      'Detached',
      'Detached',
      'Detached',
    ]);
  });

  test('one that is gone is missing', () => {
    expect(status({ files: { [ROOT]: noFile() } }).disks?.[0]?.state).toBe('Missing');
  });

  test("another VM's folder is not shown as its own", () => {
    const found = status({ record: { uid: 'other' } });
    expect([found.pid, found.disks, found.folder]).toEqual([undefined, undefined, undefined]);
  });
});

test('an end is told with reason, sentence and time', () => {
  const found = status({ launch: null, process: GONE, record: { end: someEnd('Crashed', { crashes: 9, at: NOON }) } });
  expect(found.lastExit).toEqual({ reason: 'Crashed', message: 'Crashed as noted', at: '2026-01-05T12:00:00Z' });
});

test('a word about the manifest', () => {
  const given = subject();
  const found = statusOf(
    given.vm,
    { kind: 'seen', subject: given, decision: decide(given) },
    { reason: 'ManifestMissing', message: 'gone' },
  );
  expect(conditions(found)).toContain('ManifestSynced=False/ManifestMissing');
  expect(conditions(found)).toContain('Ready=True/Running');
});

test('every status is one that the schema takes', () => {
  for (const one of [status(), status({ process: GONE }), away(storedVm()), status({ record: null })])
    expect(virtualMachineStatus.safeParse(JSON.parse(JSON.stringify(one))).error).toBeUndefined();
});
