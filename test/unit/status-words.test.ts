/** What a status says field by field: words of conditions, bounds, and what is left out. */
import { describe, expect, test } from 'vitest';
import { ANNOTATIONS } from '../../src/api/meta.ts';
import type { VirtualMachineStatus } from '../../src/api/virtual-machine.ts';
import { decide } from '../../src/reconcile/decide.ts';
import type { Decision } from '../../src/reconcile/decision.ts';
import type { GuestStatus } from '../../src/reconcile/observed.ts';
import { pendingOf, statusOf } from '../../src/reconcile/status.ts';
import { storedVm } from '../fakes/manifests.ts';
import { GI } from '../fakes/simulated-world.ts';
import { FOLDER, file, type Given, GONE, NOON, noFile, ROOT, someEnd, someRecord, subject } from '../fakes/subjects.ts';

const OFF: Given = { launch: null, process: GONE };
const DELETED = { deletionTimestamp: '2026-01-05T11:00:00Z' };
const { disks } = someRecord();

function status(given: Given = {}, previous?: VirtualMachineStatus, decision?: Decision): VirtualMachineStatus {
  const one = subject(given);
  return statusOf({ ...one.vm, status: previous }, { kind: 'seen', subject: one, decision: decision ?? decide(one) });
}

/** Of a condition: status, reason, message. */
function said({ conditions }: VirtualMachineStatus, wanted: string): readonly string[] | undefined {
  const found = conditions?.find(({ type }) => type === wanted);
  return found && [found.status, found.reason, found.message];
}

describe('Running', () => {
  test.each<[GuestStatus, ...string[]]>([
    ['running', 'True', 'Running', 'the guest runs'],
    ['silent', 'Unknown', 'MonitorUnresponsive', 'the monitor does not answer'],
    ['not-asked', 'Unknown', 'MonitorUnresponsive', 'the monitor does not answer'],
    ['io-error', 'False', 'IOError', 'the guest is paused by a disk error'],
    ['guest-panicked', 'False', 'GuestPanicked', 'the guest panicked'],
    ['internal-error', 'False', 'InternalError', 'QEMU met an internal error'],
    ['starting', 'False', 'Starting', 'the guest is about to run'],
    ['shutdown', 'False', 'Stopped', 'the guest has shut down'],
    ['paused', 'False', 'GuestPaused', 'the guest is paused'],
  ])('%s', (process, ...expected) => {
    expect(said(status({ process }), 'Running')).toEqual(expected);
  });

  test('without a process, without a folder', () => {
    expect(said(status(OFF), 'Running')).toEqual(['False', 'Stopped', 'no QEMU process']);
    expect(said(status({ record: null }), 'Running')).toEqual(['False', 'Stopped', 'no QEMU process']);
  });
});

describe('DisksReady', () => {
  test.each<[string, Given, string[]]>([
    ['there', {}, ['True', 'Ready', '1 disk(s)']],
    ['not noted', { ...OFF, record: { disks: {} } }, ['False', 'Provisioning', 'disk root is not there yet']],
    [
      'in the making',
      { ...OFF, record: { disks: { root: { path: ROOT, format: 'qcow2', state: 'creating' } } } },
      ['False', 'Provisioning', 'disk root is not there yet'],
    ],
    ['gone', { files: { [ROOT]: noFile() } }, ['False', 'StorageMissing', `disk root: ${ROOT} is gone`]],
    ['no folder', { record: null }, ['False', 'Provisioning', 'disk root is not there yet']],
  ])('%s', (_what, given, expected) => {
    expect(said(status(given), 'DisksReady')).toEqual(expected);
  });
});

test('RestartRequired names every change, and only of a running process', () => {
  const { wanted } = subject();
  const launch = { spec: { ...structuredClone(wanted.launch), vcpus: 1, memoryMiB: 1024 } as never };
  expect(said(status({ launch }), 'RestartRequired')).toEqual([
    'True',
    'PendingChanges',
    'a restart applies: spec.vcpus, spec.memory',
  ]);
  expect(said(status(), 'RestartRequired')).toBeUndefined();
  expect(status().pendingChanges).toBeUndefined();
  const gone = subject({ launch, process: GONE });
  expect(pendingOf({ kind: 'seen', subject: gone, decision: decide(gone) })).toEqual([]);
});

test('conditions that do not apply are not there', () => {
  expect(status().conditions?.map(({ type }) => type)).toEqual(['Ready', 'Running', 'HostReachable', 'DisksReady']);
  const held = status({ metadata: DELETED });
  expect(said(held, 'DeletionBlocked')).toBeUndefined();
  const stalled = status({ spec: { accelerator: 'KVM' } });
  expect(said(stalled, 'DeletionBlocked')).toBeUndefined();
  expect(said(stalled, 'Stalled')?.[2]).toBe(said(stalled, 'Ready')?.[2]);
});

test('paused by its operator', () => {
  const paused = status({ annotations: { [ANNOTATIONS.paused]: '' } });
  const words = 'annotation qemu-operator.dev/paused is set: nothing is touched';
  expect(said(paused, 'ReconcilePaused')).toEqual(['True', 'PausedByOperator', words]);
});

describe('unseen', () => {
  const away = (
    metadata: Readonly<Record<string, unknown>> = {},
    reason = 'HostUnreachable',
    hostKnown = true,
    previous?: VirtualMachineStatus,
  ) =>
    statusOf(
      { ...storedVm({}, metadata), status: previous },
      { kind: 'unseen', at: NOON, reason, message: 'why', hostKnown },
    );

  test('the words', () => {
    const found = away({ annotations: { [ANNOTATIONS.paused]: '' }, ...DELETED }, 'HostNotReady', false);
    expect(found.conditions?.map(({ type, status: is, reason, message }) => [type, is, reason, message])).toEqual([
      ['Ready', 'False', 'HostNotReady', 'why'],
      ['Running', 'Unknown', 'HostNotReady', 'the host cannot be seen'],
      ['HostReachable', 'Unknown', 'HostNotReady', 'why'],
      ['DisksReady', 'Unknown', 'HostNotReady', 'the host cannot be seen'],
      ['DeletionBlocked', 'True', 'HostNotReady', 'why'],
      ['Stalled', 'True', 'HostNotReady', 'why'],
      ['ReconcilePaused', 'True', 'PausedByOperator', 'annotation qemu-operator.dev/paused is set: nothing is touched'],
    ]);
    expect(found).toMatchObject({ phase: 'Terminating', message: 'why' });
  });

  test('where nothing is paused, deleted or unknown, nothing is said of it', () => {
    expect(away().conditions).toHaveLength(4);
    expect(away()).not.toHaveProperty('pid');
  });

  test('what was seen is kept, its words are not', () => {
    const before = { ...status(), phase: 'Running' as const };
    const found = away({}, 'HostUnreachable', true, before);
    expect(found).toMatchObject({ pid: 77, phase: 'Unknown', message: 'why', observedGeneration: 1 });
    expect(found.conditions).toHaveLength(4);
    expect(found.history?.map(({ reason }) => reason)).toEqual(['Running', 'HostUnreachable']);
  });
});

describe('facts', () => {
  test('of a process: only while there is one of ours', () => {
    const process = {
      kind: 'present',
      pid: 5,
      startTicks: 1,
      startedAt: NOON,
      guest: 'running',
      machine: 'pc-q35-10.0',
    } as const;
    const metrics = { at: '2026-01-05T12:00:00Z' } as never;
    const found = status({ process, launch: { acceleratorReason: 'x'.repeat(300) } }, { metrics });
    expect(found).toMatchObject({ pid: 5, machine: 'pc-q35-10.0', metrics, acceleratorReason: 'x'.repeat(256) });
    const off = status(OFF, { metrics });
    expect(Object.keys(off)).not.toEqual(expect.arrayContaining(['metrics']));
    for (const field of ['pid', 'machine', 'startedAt', 'accelerator', 'memory', 'vcpus', 'interfaces', 'metrics'])
      expect(off).not.toHaveProperty(field);
    expect(status({ process: GONE })).not.toHaveProperty('memory');
    expect(status({ record: { uid: 'other' } }, { metrics })).not.toHaveProperty('metrics');
  });

  test('memory is that of the process', () => {
    const { wanted } = subject();
    const launch = { spec: { ...structuredClone(wanted.launch), memoryMiB: 1536 } as never };
    expect(status({ launch }).memory).toBe('1536Mi');
  });

  test('the next attempt: when a decision names it', () => {
    const decision: Decision = { kind: 'blocked', reason: 'ImageNotFound', message: 'm', retryAt: NOON + 7_000 };
    expect(status(OFF, undefined, decision).nextAttemptAt).toBe('2026-01-05T12:00:07Z');
  });

  test('the next attempt: of a back-off, not of any other wait', () => {
    const end = someEnd('Crashed', { crashes: 9, at: NOON });
    expect(status({ ...OFF, record: { end } }).nextAttemptAt).toMatch(/^2026-01-05T12:0/);
    expect(status({ process: 'silent' })).not.toHaveProperty('nextAttemptAt');
  });

  test('texts are bounded', () => {
    const end = someEnd('Crashed', { message: 'm'.repeat(2_000) });
    expect(status({ ...OFF, record: { end } }).lastExit?.message).toHaveLength(1024);
    const decision: Decision = { kind: 'blocked', reason: 'InvalidSpec', message: 'm'.repeat(2_000) };
    const found = status({}, undefined, decision);
    expect([found.message?.length, found.history?.at(-1)?.message.length]).toEqual([1024, 512]);
    const { wanted } = subject();
    const far = { name: 'far', path: `/data/${'p'.repeat(400)}`, format: 'raw' as const };
    const { pendingChanges } = status({
      launch: { spec: { ...structuredClone(wanted.launch), disks: [...wanted.launch.disks, far] } as never },
    });
    expect(pendingChanges).toEqual([{ path: 'spec.disks[far]', from: `/data/${'p'.repeat(250)}` }]);
  });

  test('changes are bounded on both sides', () => {
    const path = `/data/${'p'.repeat(400)}.qcow2`;
    const { wanted } = subject();
    const network = { name: 'n'.repeat(300), mac: '52:54:00:00:00:01' };
    const launch = {
      spec: { ...structuredClone(wanted.launch), networks: [...wanted.launch.networks, network] } as never,
    };
    const { pendingChanges } = status({ launch, spec: { disks: [{ name: 'root', path }] } });
    expect(pendingChanges?.map(({ path: field, to }) => [field.length, to?.length])).toEqual([
      ['spec.disks[root]'.length, 256],
      [256, undefined],
    ]);
  });

  test('at most 64 changes and disks', () => {
    const { wanted } = subject();
    const many = Array.from({ length: 70 }, (_, i) => ({ name: `d${i}`, path: `/data/${i}`, format: 'raw' as const }));
    const launch = { spec: { ...structuredClone(wanted.launch), disks: [...wanted.launch.disks, ...many] } as never };
    const noted = Object.fromEntries(
      many.map(({ name, path, format }) => [name, { path, format, state: 'created' as const }]),
    );
    const found = status({ launch, record: { disks: { ...disks, ...noted } } });
    expect([found.pendingChanges?.length, found.disks?.length]).toEqual([64, 64]);
  });

  test('what was not there is neither in the fields nor in a change', () => {
    const { wanted } = subject();
    const launch = { spec: { ...structuredClone(wanted.launch), disks: [] } as never };
    expect(status({ launch }).pendingChanges).toStrictEqual([{ path: 'spec.disks[root]', to: `${ROOT} (qcow2)` }]);
  });
});

describe('disks', () => {
  const of = (given: Given) => status(given).disks?.[0];

  test.each([
    ['created', 'Created', 'Delete'],
    ['attached', 'Attached', 'Retain'],
    ['creating', 'Creating', 'Delete'],
  ] as const)('%s', (state, word, reclaim) => {
    const given: Given = { record: { disks: { root: { path: ROOT, format: 'qcow2', state } } } };
    expect(of(given)).toMatchObject({ state: word, reclaim });
    expect(of({ ...given, files: { [ROOT]: noFile() } })?.state).toBe(state === 'creating' ? 'Creating' : 'Missing');
  });

  test('one that nobody looked at is as it is noted, of unknown size', () => {
    const blind = status({ ...OFF, seen: { files: new Map() } });
    expect(blind.disks?.[0]).toMatchObject({ state: 'Created' });
    expect(blind.disks?.[0]).not.toHaveProperty('virtualSize');
    expect(said(blind, 'DisksReady')?.[1]).toBe('Ready');
  });

  test('two in the spec are two, and none is detached', () => {
    const two = { ...disks, data: { path: '/data/a.qcow2', format: 'qcow2' as const, state: 'created' as const } };
    const spec = {
      disks: [
        { name: 'root', size: '1Gi' },
        { name: 'data', path: '/data/a.qcow2' },
      ],
    };
    expect(status({ spec, record: { disks: two } }).disks?.map(({ name }) => name)).toEqual(['root', 'data']);
  });

  test('one that nobody noted is pending', () => {
    expect(of({ ...OFF, record: { disks: {} }, files: { [ROOT]: noFile() } })).toStrictEqual({
      name: 'root',
      path: ROOT,
      format: 'qcow2',
      state: 'Pending',
      reclaim: 'Delete',
    });
  });

  test('its size is what the running guest sees, else that of the file', () => {
    const files = { [ROOT]: file({ virtualBytes: 3 * GI }) };
    expect(of({ files })?.virtualSize).toBe('1Gi');
    expect(of({ ...OFF, files })?.virtualSize).toBe('3Gi');
  });

  test('without a record what was known of them stays', () => {
    const before = status().disks;
    expect(status({ record: null }, { disks: before }).disks).toEqual(before);
  });
});

describe('what a deletion leaves behind', () => {
  const left = (given: Given) => status({ ...OFF, record: { kind: 'absent' }, metadata: DELETED, ...given }).leftBehind;

  test('the files in the folder, at most 64', () => {
    expect(left({ folder: { entries: ['a.iso'] } })).toEqual([`${FOLDER}/a.iso`]);
    expect(left({ folder: { entries: Array(70).fill('a') } })).toHaveLength(64);
  });

  test('nothing, where there is nothing, or a record still, or no deletion', () => {
    const entries = ['a.iso'];
    expect(left({ folder: { entries: [] } })).toBeUndefined();
    expect(left({ record: null })).toBeUndefined();
    expect(left({ record: {}, folder: { entries } })).toBeUndefined();
    expect(left({ record: { kind: 'invalid', message: '' }, folder: { entries } })).toBeUndefined();
    expect(left({ metadata: {}, folder: { entries } })).toBeUndefined();
  });
});

test('a line of history for another reason, and for the same with another sentence', () => {
  const blocked = (reason: 'InvalidSpec' | 'DiskMissing', message: string): Decision => ({
    kind: 'blocked',
    reason,
    message,
  });
  let found = status({}, undefined, blocked('InvalidSpec', 'a'));
  found = status({}, found, blocked('InvalidSpec', 'a'));
  found = status({}, found, blocked('InvalidSpec', 'b'));
  found = status({}, found, blocked('DiskMissing', 'b'));
  expect(found.history?.map(({ reason, message }) => `${reason} ${message}`)).toEqual([
    'InvalidSpec a',
    'InvalidSpec b',
    'DiskMissing b',
  ]);
});
