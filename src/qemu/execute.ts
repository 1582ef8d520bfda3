/** Carries actions out. Execution has no judgement: what to do, and whether, was decided on a look. */
import { launchDigest } from '../api/effective-spec.ts';
import { DialError, type RunResult, type Shell } from '../host/shell.ts';
import type { VmAction } from '../reconcile/action.ts';
import { EffectError, type VmContext } from '../reconcile/driver.ts';
import { type OwnershipRecord, RECORD_VERSION, reclaimOf, recordText, type StopMarker } from '../reconcile/record.ts';
import { commandLine } from './cmdline.ts';
import { type EffectPlace, runEffect, type StandIns, standIns } from './effect-script.ts';
import type { Monitors } from './monitors.ts';
import { QmpError, QmpTimeoutError } from './qmp.ts';
import * as scripts from './scripts.ts';

export interface Hands {
  readonly shell: Shell;
  readonly monitors: Monitors;
  readonly place: EffectPlace;
  readonly context: VmContext;
  readonly signal: AbortSignal;
}

type Of<T extends VmAction['type']> = Extract<VmAction, { type: T }>;
type Executors = { readonly [T in VmAction['type']]: (action: Of<T>, hands: Hands) => Promise<unknown> };

const EXECUTORS: Executors = {
  'claim-folder': (_action, hands) => run(hands, scripts.CLAIM_FOLDER, [recordText(newRecord(hands.context))]),
  adopt: ({ nonce }, hands) => {
    const { uid, namespace, name, storeUID } = hands.context;
    return writeRecord(hands, ({ nonce: _answered, ...record }) => ({
      ...record,
      uid,
      namespace,
      name,
      storeUID,
      ...(nonce === undefined ? {} : { nonce }),
    }));
  },
  'create-disk': createDisk,
  'attach-disk': ({ disk, virtualBytes }, hands) =>
    writeRecord(hands, (record) =>
      withDisk(record, disk.name, {
        path: disk.path,
        format: disk.format,
        state: 'attached',
        sizeBytes: virtualBytes,
        ...policy(disk.reclaimPolicy),
      }),
    ),
  'grow-disk': ({ disk, toBytes }, hands) =>
    run(hands, scripts.GROW_DISK, [disk.path, String(toBytes), recordText(sized(recordOf(hands), disk.name, toBytes))]),
  'grow-disk-live': growLive,
  'note-disk': ({ disk, sizeBytes }, hands) =>
    writeRecord(hands, (record) => {
      const { reclaimPolicy: _before, ...noted } = record.disks[disk.name] ?? {
        path: disk.path,
        format: disk.format,
        state: 'attached' as const,
      };
      return withDisk(record, disk.name, {
        ...noted,
        ...(sizeBytes > 0 ? { sizeBytes } : {}),
        ...policy(disk.reclaimPolicy),
      });
    }),
  'forget-disk': ({ disk }, hands) => writeRecord(hands, (record) => withoutDisk(record, disk)),
  launch,
  'note-launch': (_action, hands) =>
    writeRecord(hands, (record) => {
      const { process } = hands.context;
      if (record.launch === undefined || process.kind === 'absent') return record;
      return {
        ...record,
        launch: { ...record.launch, state: 'running', pid: process.pid, startTicks: process.startTicks },
      };
    }),
  resume: async (_action, hands) => (await monitorOf(hands)).execute('cont'),
  stop,
  'withdraw-stop': async (_action, hands) => {
    const { stop: marker } = hands.context;
    if (marker !== undefined)
      await run(hands, scripts.STOP, [JSON.stringify({ ...marker, withdrawn: true }), '', '', '']);
  },
  'note-end': noteEnd,
  'note-off': (_action, hands) =>
    writeRecord(hands, (record) => {
      const { nonce: _answered, ...rest } = record;
      return { ...rest, off: true };
    }),
  'remove-files': removeFiles,
};

/** @throws EffectError, FencedError, HostUnreachableError */
export async function execute(action: VmAction, hands: Hands): Promise<void> {
  const executor = EXECUTORS[action.type] as (action: VmAction, hands: Hands) => Promise<unknown>;
  try {
    await executor(action, hands);
  } catch (error) {
    if (error instanceof QmpError) throw new EffectError('InternalError', error.message);
    if (error instanceof QmpTimeoutError || error instanceof DialError)
      throw new EffectError('MonitorUnresponsive', error.message);
    throw error;
  }
}

interface RunMore {
  readonly stand?: StandIns;
  readonly refusal?: string;
}

function run(hands: Hands, body: string, args: readonly string[], more: RunMore = {}): Promise<RunResult> {
  return runEffect(hands.shell, hands.place, { body, args, stand: standIns(), ...more }, hands.signal);
}

function recordOf({ context }: Hands): OwnershipRecord {
  if (context.record === undefined) throw new EffectError('InternalError', `${context.wanted.folder} has no record`);
  return context.record;
}

function writeRecord(hands: Hands, change: (record: OwnershipRecord) => OwnershipRecord): Promise<RunResult> {
  return run(hands, scripts.WRITE_RECORD, [recordText(change(recordOf(hands)))]);
}

function newRecord({ uid, storeUID, namespace, name, wanted }: VmContext): OwnershipRecord {
  return {
    recordVersion: RECORD_VERSION,
    uid,
    storeUID,
    namespace,
    name,
    uuid: wanted.launch.uuid,
    disks: {},
    restarts: 0,
  };
}

function policy(reclaimPolicy: 'Delete' | 'Retain' | undefined): { reclaimPolicy?: 'Delete' | 'Retain' } {
  return reclaimPolicy === undefined ? {} : { reclaimPolicy };
}

function withDisk(record: OwnershipRecord, name: string, disk: OwnershipRecord['disks'][string]): OwnershipRecord {
  return { ...record, disks: { ...record.disks, [name]: disk } };
}

function withoutDisk(record: OwnershipRecord, disk: string): OwnershipRecord {
  return { ...record, disks: Object.fromEntries(Object.entries(record.disks).filter(([name]) => name !== disk)) };
}

function sized(record: OwnershipRecord, name: string, sizeBytes: number): OwnershipRecord {
  const disk = record.disks[name];
  return disk === undefined ? record : withDisk(record, name, { ...disk, sizeBytes });
}

function createDisk({ disk }: Of<'create-disk'>, hands: Hands): Promise<unknown> {
  const record = recordOf(hands);
  const noted = {
    path: disk.path,
    format: disk.format,
    ...(disk.sizeBytes === undefined ? {} : { sizeBytes: disk.sizeBytes }),
    ...policy(disk.reclaimPolicy),
  };
  const started = record.disks[disk.name]?.state === 'creating';
  return run(hands, scripts.CREATE_DISK, [
    disk.path,
    disk.format,
    String(disk.sizeBytes ?? 0),
    started ? 'resumed' : 'new',
    recordText(withDisk(record, disk.name, { ...noted, state: 'creating' })),
    recordText(withDisk(record, disk.name, { ...noted, state: 'created' })),
    recordText(withoutDisk(record, disk.name)),
  ]);
}

async function monitorOf({ monitors, context }: Hands) {
  if (context.process.kind === 'absent') throw new EffectError('InternalError', 'the VM has no process');
  return monitors.get(context.wanted.folder, context.process.pid);
}

/** QEMU shrinks a live disk without a word: the size it has now was seen to be smaller. */
async function growLive({ disk, toBytes }: Of<'grow-disk-live'>, hands: Hands): Promise<void> {
  const { process } = hands.context;
  const now = process.kind === 'present' ? process.diskBytes?.get(disk.name) : undefined;
  if (now === undefined || now >= toBytes) return;
  const monitor = await monitorOf(hands);
  await monitor.execute('block_resize', { 'node-name': `disk-${disk.name}`, size: toBytes });
  await writeRecord(hands, (record) => sized(record, disk.name, toBytes));
}

async function launch(action: Of<'launch'>, hands: Hands): Promise<void> {
  const { context } = hands;
  const qemu = context.facts.qemu[action.spec.architecture];
  if (qemu === undefined) throw new EffectError('QEMUNotInstalled', `no QEMU for ${action.spec.architecture}`);
  const stand = standIns();
  const record = recordOf(hands);
  const { off: _off, nonce: _nonce, ...rest } = record;
  const entry = {
    spec: action.spec as NonNullable<OwnershipRecord['launch']>['spec'],
    bootID: action.bootID,
    at: stand.now,
    accelerator: action.accelerator,
    acceleratorReason: action.acceleratorReason,
    qemuVersion: qemu.version,
  };
  const asked = action.nonce !== record.nonce || record.off === true;
  const next: OwnershipRecord = {
    ...rest,
    ...(action.nonce === undefined ? {} : { nonce: action.nonce }),
    ...(record.end === undefined ? {} : { end: asked ? { ...record.end, crashes: 0 } : record.end }),
    restarts: record.restarts + (action.restart ? 1 : 0),
  };
  const argv = commandLine({
    vmName: context.wanted.vmName,
    folder: context.wanted.folder,
    spec: action.spec,
    accelerator: action.accelerator,
    qemu,
  });
  await run(
    hands,
    scripts.LAUNCH,
    [
      recordText(record),
      recordText({ ...next, launch: { ...entry, state: 'starting' } }),
      recordText({ ...next, launch: { ...entry, state: 'running', pid: stand.pid, startTicks: stand.ticks } }),
      action.spec.firmware === 'UEFI' ? (qemu.uefi?.variables ?? '') : '',
      ...argv,
    ],
    { stand, refusal: 'LaunchFailed' },
  );
}

async function stop({ step, reason, afresh }: Of<'stop'>, hands: Hands): Promise<void> {
  const { process, stop: before } = hands.context;
  if (process.kind === 'absent') return;
  const stand = standIns();
  const same =
    before !== undefined &&
    before.withdrawn !== true &&
    before.pid === process.pid &&
    before.startTicks === process.startTicks;
  const base: StopMarker = same
    ? { ...before, reason, ...(afresh === true ? { at: stand.now } : {}) }
    : { reason, pid: process.pid, startTicks: process.startTicks, at: stand.now };
  const marker: StopMarker = {
    ...base,
    ...(step === 'powerdown' ? { powerdownAt: stand.now } : {}),
    ...(step === 'quit' ? { quitAt: stand.now } : {}),
    ...(step === 'terminate' || step === 'kill' ? { terminateAt: stand.now } : {}),
  };
  const signal = step === 'terminate' ? 'TERM' : step === 'kill' ? 'KILL' : '';
  await run(hands, scripts.STOP, [JSON.stringify(marker), signal, String(process.pid), String(process.startTicks)], {
    stand,
  });
  if (signal !== '') return;
  const monitor = await monitorOf(hands);
  // QEMU may close the monitor before it has answered `quit`; the next look tells.
  if (step === 'quit') await monitor.execute('quit').catch(() => undefined);
  else await monitor.execute('system_powerdown');
}

function noteEnd({ reason, message, crashes }: Of<'note-end'>, hands: Hands): Promise<unknown> {
  const stand = standIns();
  const { launch: ended, ...record } = recordOf(hands);
  const never = ended?.state === 'starting';
  const digest = ended === undefined ? '' : launchDigest(ended.spec);
  // The launch that never was is still owed: `off` starts it under every policy.
  const next: OwnershipRecord = never
    ? { ...record, off: true }
    : { ...record, end: { reason, message, at: stand.now, crashes, digest } };
  return run(hands, scripts.NOTE_END, [recordText(next)], { stand });
}

/** What the spec says of a disk counts, also where no pass has noted it yet: a deletion may follow a change at once. */
function removeFiles(_action: Of<'remove-files'>, hands: Hands): Promise<unknown> {
  const wanted = hands.context.wanted.disks;
  const doomed = Object.entries(recordOf(hands).disks)
    .filter(([name, { path, state, reclaimPolicy }]) => {
      const disk = wanted.find((one) => one.name === name && one.path === path);
      return reclaimOf(state, disk === undefined ? reclaimPolicy : disk.reclaimPolicy) === 'Delete';
    })
    .map(([, { path }]) => path);
  return run(hands, scripts.REMOVE_FILES, doomed);
}
