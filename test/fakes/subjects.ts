/** Subjects of a decision, from a VM at rest and what differs from it. */
import { readSpec } from '../../src/api/admission.ts';
import { effectiveSpec, launchDigest } from '../../src/api/effective-spec.ts';
import type { Host } from '../../src/api/host.ts';
import { ANNOTATIONS, FINALIZERS } from '../../src/api/meta.ts';
import type { SeenVm, Subject } from '../../src/reconcile/decision.ts';
import type { GuestStatus, SeenFile, SeenFolder, SeenProcess } from '../../src/reconcile/observed.ts';
import type { OwnershipRecord, RecordState, StopMarker } from '../../src/reconcile/record.ts';
import { SOME_UID, storedVm } from './manifests.ts';
import { FACTS, GI } from './simulated-world.ts';

type Fields = Readonly<Record<string, unknown>>;

/** Monday noon; the VM was launched an hour before. */
export const NOON = Date.parse('2026-01-05T12:00:00Z');
export const FOLDER = '/vms/web-1';
export const ROOT = `${FOLDER}/root.qcow2`;
export const HERE = `machine-1:${FOLDER}`;
export const PID = { pid: 77, startTicks: 4711 } as const;

export function someHost(spec: Fields = {}, metadata: Fields = {}): Host {
  return {
    apiVersion: 'qemu-operator.dev/v1alpha1',
    kind: 'Host',
    metadata: {
      name: 'localhost',
      uid: 'host-uid',
      resourceVersion: '1',
      generation: 1,
      creationTimestamp: '2026-01-01T00:00:00Z',
      ...metadata,
    },
    spec: readSpec('Host', 'localhost', { local: {}, vmDir: '/vms', allowedPaths: ['/vms', '/data'], ...spec }),
  };
}

export interface Given {
  readonly spec?: Fields;
  readonly metadata?: Fields;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly host?: Host;
  /** `null`: no folder. */
  readonly record?: Partial<OwnershipRecord> | RecordState | null;
  readonly launch?: Partial<NonNullable<OwnershipRecord['launch']>> | null;
  readonly process?: GuestStatus | SeenProcess;
  readonly folder?: Partial<SeenFolder>;
  readonly stop?: Partial<StopMarker>;
  readonly files?: Readonly<Record<string, SeenFile>>;
  readonly seen?: Partial<SeenVm>;
}

export const file = (fields: Partial<Extract<SeenFile, { kind: 'present' }>> = {}): SeenFile => ({
  kind: 'present',
  resolved: ROOT,
  type: 'file',
  readable: true,
  format: 'qcow2',
  virtualBytes: GI,
  actualBytes: 4096,
  freeBytes: 100 * GI,
  ...fields,
});
export const noFile = (resolved = ROOT, parent: 'present' | 'absent' = 'present'): SeenFile => ({
  kind: 'absent',
  parent,
  resolved,
});

/** A VM with one created disk that runs as its spec wants, unless `given` says otherwise. */
export function subject(given: Given = {}): Subject {
  const vm = storedVm(
    { hostName: 'localhost', disks: [{ name: 'root', size: '1Gi' }], ...given.spec },
    {
      finalizers: [FINALIZERS.hostCleanup],
      annotations: { [ANNOTATIONS.provisioned]: HERE, ...given.annotations },
      ...given.metadata,
    },
  );
  const host = given.host ?? someHost();
  const wanted = effectiveSpec(vm, host);
  const folder = given.record === null ? undefined : folderOf(given, wanted.launch);
  const seen: SeenVm = {
    at: NOON,
    bootID: 'boot-1',
    machineID: 'machine-1',
    vmDir: { path: '/vms', state: 'present', marker: { kind: 'absent' } },
    folder,
    files: new Map(Object.entries({ [ROOT]: file(), ...given.files })),
    ownerOf: () => undefined,
    sharedDisks: new Map(),
    otherFolderWith: () => undefined,
    ports: [],
    bridges: new Map(),
    portClaims: [],
    facts: FACTS,
    secret: undefined,
    namespace: undefined,
    heard: undefined,
    olderRival: undefined,
    namesake: undefined,
    uidExists: () => false,
    ...given.seen,
  };
  return { vm, host, wanted, seen };
}

function folderOf(given: Given, spec: Subject['wanted']['launch']): SeenFolder {
  const { record, launch, process = 'running', stop } = given;
  const entry = {
    state: 'running' as const,
    spec: structuredClone(spec) as NonNullable<OwnershipRecord['launch']>['spec'],
    bootID: 'boot-1',
    at: NOON - 3_600_000,
    ...PID,
    accelerator: 'TCG' as const,
    qemuVersion: '10.0.2',
    ...launch,
  };
  const state: RecordState =
    record !== undefined && record !== null && 'kind' in record
      ? record
      : { kind: 'readable', record: { ...someRecord(), ...(launch === null ? {} : { launch: entry }), ...record } };
  return {
    path: FOLDER,
    vmDir: '/vms',
    name: 'web-1',
    record: state,
    stop: stop === undefined ? undefined : { reason: 'StoppedByRequest', ...PID, at: NOON, ...stop },
    entries: [],
    process: typeof process === 'string' ? present(process) : process,
    logTail: '',
    ...given.folder,
  };
}

export function present(guest: GuestStatus): SeenProcess {
  return { kind: 'present', ...PID, startedAt: NOON - 3_600_000, guest, diskBytes: new Map([['root', GI]]) };
}

export const GONE: SeenProcess = { kind: 'absent', pidfileLeft: false };

export function someRecord(fields: Partial<OwnershipRecord> = {}): OwnershipRecord {
  return {
    recordVersion: 1,
    uid: SOME_UID,
    storeUID: 'store-1',
    namespace: 'default',
    name: 'web-1',
    uuid: SOME_UID,
    disks: { root: { path: ROOT, format: 'qcow2', state: 'created', sizeBytes: GI } },
    restarts: 0,
    ...fields,
  };
}

/** The end of a process, as the record keeps it: some time ago, of the spec that is wanted now. */
export function someEnd(
  reason: NonNullable<OwnershipRecord['end']>['reason'],
  fields: Partial<NonNullable<OwnershipRecord['end']>> = {},
): NonNullable<OwnershipRecord['end']> {
  const digest = launchDigest(subject().wanted.launch);
  return { reason, message: `${reason} as noted`, at: NOON - 1_000, crashes: 1, digest, ...fields };
}
