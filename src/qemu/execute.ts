/** Carries actions out. Execution has no judgement: what to do, and whether, was decided on a look. */
import { launchDigest } from '../api/effective-spec.ts';
import { DialError } from '../host/shell.ts';
import type { VmAction } from '../reconcile/action.ts';
import { EffectError, type VmContext } from '../reconcile/driver.ts';
import {
  allocatedPorts,
  type OwnershipRecord,
  RECORD_VERSION,
  recordText,
  type StopMarker,
} from '../reconcile/record.ts';
import { commandLine } from './cmdline.ts';
import { standIns } from './effect-script.ts';
import { DISK_EXECUTORS } from './execute-disks.ts';
import { forward, noteRefusal } from './forward.ts';
import { type ActionOf, type Executors, type Hands, monitorOf, recordOf, run, tapWords, writeRecord } from './hands.ts';
import { QmpError, QmpTimeoutError } from './qmp.ts';
import * as scripts from './scripts.ts';
import { seedImage } from './seed.ts';

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
  ...DISK_EXECUTORS,
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
  forward,
  'join-bridge': ({ bridge, tap, mtu }, hands) =>
    run(hands, scripts.JOIN_BRIDGE, [bridge, tap, String(mtu), hands.context.sudo ? 'sudo' : '']),
  resume: async (_action, hands) => (await monitorOf(hands)).execute('cont'),
  stop,
  'withdraw-stop': async (_action, hands) => {
    const { stop: marker } = hands.context;
    if (marker !== undefined) await mark(hands, [JSON.stringify({ ...marker, withdrawn: true }), '', '', '']);
  },
  'note-end': noteEnd,
  'note-off': (_action, hands) =>
    writeRecord(hands, (record) => {
      const { nonce: _answered, ...rest } = record;
      return { ...rest, off: true };
    }),
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

function newRecord({ uid, storeUID, namespace, name, wanted, spec }: VmContext): OwnershipRecord {
  return {
    recordVersion: RECORD_VERSION,
    uid,
    storeUID,
    namespace,
    name,
    uuid: wanted.launch.uuid,
    spec,
    disks: {},
    restarts: 0,
  };
}

async function launch(action: ActionOf<'launch'>, hands: Hands): Promise<void> {
  const { context } = hands;
  const qemu = context.facts.qemu[action.spec.architecture];
  if (qemu === undefined) throw new EffectError('QEMUNotInstalled', `no QEMU for ${action.spec.architecture}`);
  const stand = standIns();
  const record = recordOf(hands);
  const { off: _off, nonce: _nonce, ports: _ports, ...rest } = record;
  const ports = allocatedPorts(action.spec);
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
    ...(ports.length === 0 ? {} : { ports }),
  };
  const argv = commandLine({
    vmName: context.wanted.vmName,
    folder: context.wanted.folder,
    spec: action.spec,
    accelerator: action.accelerator,
    qemu,
    bridgeHelper: context.facts.uid === 0 || context.sudo ? undefined : context.facts.bridgeHelper,
  });
  const { stdout } = await run(
    hands,
    scripts.LAUNCH,
    [
      recordText(record),
      recordText({ ...next, launch: { ...entry, state: 'starting' } }),
      recordText({ ...next, launch: { ...entry, state: 'running', pid: stand.pid, startTicks: stand.ticks } }),
      action.spec.firmware === 'UEFI' ? (qemu.uefi?.variables ?? '') : '',
      context.seed === undefined ? '' : seedImage(context.seed).toString('base64'),
      tapWords(hands, action.spec.networks),
      ...argv,
    ],
    { stand, refusal: 'LaunchFailed' },
  ).catch(async (error: unknown) => {
    await noteRefusal(hands, action.spec, error);
    throw error;
  });
  // Its guest is asked next: the connection is there by then, as far as anybody waits for it.
  const pid = Number(stdout.toString('latin1'));
  if (pid > 0) hands.monitors.get(context.wanted.folder, pid).catch(() => undefined);
}

async function stop({ step, reason, afresh, agent }: ActionOf<'stop'>, hands: Hands): Promise<void> {
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
  await mark(hands, [JSON.stringify(marker), signal, String(process.pid), String(process.startTicks)], stand);
  if (signal !== '') return;
  const taken = agent !== undefined && (await hands.agents.shutdown(hands.context.wanted.folder, process.pid));
  if (taken && agent === 'first') return;
  const monitor = await monitorOf(hands);
  // QEMU may close the monitor before it has answered `quit`; the next look tells.
  if (step === 'quit') await monitor.execute('quit').catch(() => undefined);
  else await monitor.execute('system_powerdown');
}

/** On a full disk this process alone remembers the marker: another controller grants the guest its time once more. */
async function mark(hands: Hands, args: readonly string[], stand = standIns()): Promise<void> {
  const { stdout } = await run(hands, scripts.STOP, args, { stand });
  if (stdout.length === 0) hands.unwrittenStops.delete(hands.place.folder);
  else hands.unwrittenStops.set(hands.place.folder, stdout.toString('utf8'));
}

async function noteEnd({ reason, message, crashes }: ActionOf<'note-end'>, hands: Hands): Promise<void> {
  const stand = standIns();
  const { launch: ended, ...record } = recordOf(hands);
  const never = ended?.state === 'starting';
  const digest = ended === undefined ? '' : launchDigest(ended.spec);
  // The launch that never was is still owed: `off` starts it under every policy.
  const next: OwnershipRecord = never
    ? { ...record, off: true }
    : { ...record, end: { reason, message, at: stand.now, crashes, digest } };
  const taps = tapWords(hands, ended?.spec.networks ?? []);
  const process = [ended?.pid, ended?.startTicks, ended?.bootID].map((figure) => String(figure ?? ''));
  await run(hands, scripts.NOTE_END, [recordText(next), taps, ...process], { stand });
  hands.unwrittenStops.delete(hands.place.folder);
}
