/** What a pass says of a VM. Pure; the previous status is read only to keep times and history. */
import { firstBootHint } from '../api/cloud-init.ts';
import { conditionsFrom, type Finding } from '../api/conditions.ts';
import { type PendingChange, pendingChanges } from '../api/effective-spec.ts';
import { ANNOTATIONS } from '../api/meta.ts';
import { formatQuantity } from '../api/quantity.ts';
import type { Phase, VirtualMachine, VirtualMachineStatus } from '../api/virtual-machine.ts';
import { isPaused } from './decide.ts';
import { clockTime, type Decision, type Subject } from './decision.ts';
import { agentFinding, guestOf, knownAddresses, unseenAgentFinding } from './guest-status.ts';
import { historyOf, newsOf, sentenceOf } from './history.ts';
import { interfacesOf } from './interface-status.ts';
import type { SeenProcess } from './observed.ts';
import { phaseOf } from './phase.ts';
import { type OwnershipRecord, reclaimOf } from './record.ts';

/** An action that failed, and when it is tried again. */
export interface Failure {
  readonly reason: string;
  readonly message: string;
  /** ms since the epoch. */
  readonly nextAttemptAt: number;
}

export type Pass =
  | {
      readonly kind: 'seen';
      readonly subject: Subject;
      readonly decision: Decision;
      readonly failure?: Failure | undefined;
    }
  /** Nobody could look: the host is away, not ours, or unknown. */
  | {
      readonly kind: 'unseen';
      readonly at: number;
      readonly reason: string;
      readonly message: string;
      readonly hostKnown: boolean;
    };

/** What about the VM's manifest deserves a word; see Store.problems. */
export interface SourceProblem {
  readonly reason: string;
  readonly message: string;
}

export function statusOf(vm: VirtualMachine, pass: Pass, source?: SourceProblem): VirtualMachineStatus {
  const previous = vm.status;
  const generation = vm.metadata.generation;
  const at = clockTime(pass.kind === 'seen' ? pass.subject.seen.at : pass.at);
  const findings = pass.kind === 'seen' ? seenFindings(vm, pass) : unseenFindings(vm, pass);
  if (source !== undefined)
    findings.push({ type: 'ManifestSynced', status: 'False', reason: source.reason, message: source.message });
  const message = findings[0]?.message ?? '';
  const facts = pass.kind === 'seen' ? seenFacts(vm, pass) : keptFacts(previous);
  return defined({
    observedGeneration: generation,
    phase: pass.kind === 'seen' ? phaseOf(vm, pass, processOf(pass)) : unseenPhase(vm, pass),
    message: message.slice(0, 1024),
    conditions: conditionsFrom(findings, previous?.conditions, at, generation),
    ...facts,
    history: historyOf(previous, newsOf(findings[0], pass), at),
  });
}

/** JSON has no undefined: a field without a value is left out, so that equal statuses compare equal. */
function defined<T extends object>(value: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as T;
}

function unseenFindings(vm: VirtualMachine, pass: Extract<Pass, { kind: 'unseen' }>): Finding[] {
  const { reason, message } = pass;
  const status = pass.hostKnown ? 'Unknown' : 'False';
  const findings: Finding[] = [
    { type: 'Ready', status, reason, message },
    { type: 'Running', status: 'Unknown', reason, message: 'the host cannot be seen' },
    { type: 'HostReachable', status: reason === 'HostUnreachable' ? 'False' : 'Unknown', reason, message },
    { type: 'DisksReady', status: 'Unknown', reason, message: 'the host cannot be seen' },
  ];
  const agent = unseenAgentFinding(vm.status?.conditions, reason);
  if (agent !== undefined) findings.push(agent);
  if (vm.metadata.deletionTimestamp !== undefined)
    findings.push({ type: 'DeletionBlocked', status: 'True', reason, message });
  if (!pass.hostKnown) findings.push({ type: 'Stalled', status: 'True', reason, message });
  if (isPaused(vm.metadata))
    findings.push({ type: 'ReconcilePaused', status: 'True', reason: 'PausedByOperator', message: PAUSED });
  return findings;
}

const PAUSED = `annotation ${ANNOTATIONS.paused} is set: nothing is touched`;

function unseenPhase(vm: VirtualMachine, pass: Extract<Pass, { kind: 'unseen' }>): Phase {
  if (vm.metadata.deletionTimestamp !== undefined) return 'Terminating';
  return pass.hostKnown ? 'Unknown' : 'Pending';
}

/** What was last seen stays in view while nobody can look; only the conditions say that it is old. */
function keptFacts(previous: VirtualMachineStatus | undefined): Partial<VirtualMachineStatus> {
  const { conditions: _c, phase: _p, message: _m, observedGeneration: _g, history: _h, ...facts } = previous ?? {};
  return facts;
}

export type SeenPass = Extract<Pass, { kind: 'seen' }>;

/** In a folder whose record is another VM's, it is that one's. */
function processOf({ subject }: SeenPass): SeenProcess {
  const { folder } = subject.seen;
  const isOthers = folder?.record.kind === 'readable' && folder.record.record.uid !== subject.vm.metadata.uid;
  return folder === undefined || isOthers ? { kind: 'absent', pidfileLeft: false } : folder.process;
}

/** The record, where it is this VM's. */
function recordOf({ subject }: SeenPass): OwnershipRecord | undefined {
  const state = subject.seen.folder?.record;
  return state?.kind === 'readable' && state.record.uid === subject.vm.metadata.uid ? state.record : undefined;
}

function seenFindings(vm: VirtualMachine, pass: SeenPass): Finding[] {
  const { decision, failure } = pass;
  const reason = failure?.reason ?? decision.reason;
  const message = sentenceOf(pass);
  const paused = decision.reason === 'PausedByOperator';
  const findings: Finding[] = [
    { type: 'Ready', status: decision.kind === 'settled' ? 'True' : paused ? 'Unknown' : 'False', reason, message },
    runningFinding(pass),
    { type: 'HostReachable', status: 'True', reason: 'Ready', message: 'the host was looked at' },
    disksFinding(pass),
  ];
  const agent = agentFinding(processOf(pass), vm.status?.conditions);
  if (agent !== undefined) findings.push(agent);
  const stalled = decision.kind === 'blocked' && !paused;
  if (stalled) findings.push({ type: 'Stalled', status: 'True', reason, message });
  const holdsUp = decision.kind === 'blocked' || decision.reason === 'GuestIgnoresPowerdown';
  if (holdsUp && vm.metadata.deletionTimestamp !== undefined)
    findings.push({ type: 'DeletionBlocked', status: 'True', reason, message });
  if (paused) findings.push({ type: 'ReconcilePaused', status: 'True', reason, message });
  const pending = pendingOf(pass);
  if (pending.length > 0) {
    const paths = pending.map(({ path }) => path);
    findings.push({
      type: 'RestartRequired',
      status: 'True',
      reason: 'PendingChanges',
      message: `a restart applies: ${paths.join(', ')}${firstBootHint(paths)}`,
    });
  }
  return findings;
}

function runningFinding(pass: SeenPass): Finding {
  const process = processOf(pass);
  const type = 'Running';
  if (process.kind === 'absent') return { type, status: 'False', reason: 'Stopped', message: 'no QEMU process' };
  switch (process.guest) {
    case 'running':
      return { type, status: 'True', reason: 'Running', message: 'the guest runs' };
    case 'silent':
    case 'not-asked':
      return { type, status: 'Unknown', reason: 'MonitorUnresponsive', message: 'the monitor does not answer' };
    case 'io-error':
      return { type, status: 'False', reason: 'IOError', message: 'the guest is paused by a disk error' };
    case 'guest-panicked':
      return { type, status: 'False', reason: 'GuestPanicked', message: 'the guest panicked' };
    case 'internal-error':
      return { type, status: 'False', reason: 'InternalError', message: 'QEMU met an internal error' };
    case 'starting':
      return { type, status: 'False', reason: 'Starting', message: 'the guest is about to run' };
    case 'shutdown':
      return { type, status: 'False', reason: 'Stopped', message: 'the guest has shut down' };
    case 'paused':
      return { type, status: 'False', reason: 'GuestPaused', message: 'the guest is paused' };
  }
}

function disksFinding(pass: SeenPass): Finding {
  const { wanted, seen } = pass.subject;
  const record = recordOf(pass);
  const type = 'DisksReady';
  for (const { name, path } of wanted.disks) {
    const noted = record?.disks[name];
    if (noted === undefined || noted.state === 'creating')
      return { type, status: 'False', reason: 'Provisioning', message: `disk ${name} is not there yet` };
    if (seen.files.get(path)?.kind === 'absent')
      return { type, status: 'False', reason: 'StorageMissing', message: `disk ${name}: ${path} is gone` };
  }
  return { type, status: 'True', reason: 'Ready', message: `${wanted.disks.length} disk(s)` };
}

export function pendingOf(pass: SeenPass): PendingChange[] {
  const launch = recordOf(pass)?.launch;
  return processOf(pass).kind === 'present' && launch !== undefined
    ? pendingChanges(launch.spec, pass.subject.wanted.launch)
    : [];
}

function seenFacts(vm: VirtualMachine, pass: SeenPass): Partial<VirtualMachineStatus> {
  const { subject, decision, failure } = pass;
  const record = recordOf(pass);
  const process = processOf(pass);
  const present = process.kind === 'present' && record !== undefined;
  const launch = present ? record.launch : undefined;
  const pending = pendingOf(pass);
  const next =
    failure?.nextAttemptAt ??
    ('retryAt' in decision ? decision.retryAt : undefined) ??
    (decision.reason === 'CrashLoopBackOff' && decision.kind === 'wait' ? subject.seen.at + decision.forMs : undefined);
  const end = record?.end;
  return {
    uuid: record?.uuid,
    pid: present ? process.pid : undefined,
    // As noted at the launch: reckoned from a start in ticks it would tremble from look to look.
    startedAt: launch === undefined ? undefined : clockTime(launch.at),
    accelerator: launch?.accelerator,
    acceleratorReason: launch?.acceleratorReason?.slice(0, 256),
    machine: present ? process.machine : undefined,
    qemuVersion: launch?.qemuVersion,
    folder: record === undefined ? undefined : subject.wanted.folder,
    vcpus: launch?.spec.vcpus,
    memory: launch === undefined ? undefined : formatQuantity(launch.spec.memoryMiB * 1_048_576),
    disks: record === undefined ? vm.status?.disks : disksOf(pass, record),
    guest: present ? guestOf(process, vm.status) : undefined,
    ...interfacesOf(launch?.spec.networks, knownAddresses(process, vm.status)),
    pendingChanges: pending.length > 0 ? pending.slice(0, 64).map((change) => bounded(change)) : undefined,
    lastExit:
      end === undefined
        ? undefined
        : { reason: end.reason, message: end.message.slice(0, 1024), at: clockTime(end.at) },
    restarts: record?.restarts,
    nextAttemptAt: next === undefined ? undefined : clockTime(next),
    leftBehind: record === undefined && vm.metadata.deletionTimestamp !== undefined ? leftBehind(pass) : undefined,
    metrics: present ? vm.status?.metrics : undefined,
  } as Partial<VirtualMachineStatus>;
}

function bounded({ path, from, to }: PendingChange): { path: string; from?: string; to?: string } {
  return {
    path: path.slice(0, 256),
    ...(from === undefined ? {} : { from: from.slice(0, 256) }),
    ...(to === undefined ? {} : { to: to.slice(0, 256) }),
  };
}

/** What stays in a deleted VM's folder, once our record is gone from it. */
function leftBehind({ subject }: SeenPass): string[] | undefined {
  const { folder } = subject.seen;
  return folder?.record.kind === 'absent' && folder.entries.length > 0
    ? folder.entries.slice(0, 64).map((name) => `${folder.path}/${name}`)
    : undefined;
}

type DiskStatus = NonNullable<VirtualMachineStatus['disks']>[number];

function disksOf(pass: SeenPass, record: OwnershipRecord): DiskStatus[] {
  const { wanted, seen } = pass.subject;
  const process = processOf(pass);
  const live = process.kind === 'present' ? process.diskBytes : undefined;
  const launched = process.kind === 'present' ? new Set(record.launch?.spec.disks.map((disk) => disk.name)) : undefined;
  const disks = wanted.disks.map((disk): DiskStatus => {
    const noted = record.disks[disk.name];
    const file = seen.files.get(disk.path);
    const bytes = live?.get(disk.name) ?? (file?.kind === 'present' ? file.virtualBytes : undefined);
    const gone = file?.kind === 'absent' && noted !== undefined && noted.state !== 'creating';
    return {
      name: disk.name,
      path: disk.path,
      format: disk.format,
      ...(bytes === undefined ? {} : { virtualSize: formatQuantity(bytes) }),
      state: noted === undefined ? 'Pending' : gone ? 'Missing' : DISK_STATES[noted.state],
      ...fateOf(pass, disk.path, reclaimOf(noted?.state, disk.reclaimPolicy)),
    };
  });
  for (const [name, noted] of Object.entries(record.disks)) {
    if (wanted.disks.some((disk) => disk.name === name)) continue;
    disks.push({
      name,
      path: noted.path,
      format: noted.format,
      // A process that runs has it until it ends.
      state: launched?.has(name) === true ? DISK_STATES[noted.state] : 'Detached',
      ...fateOf(pass, noted.path, reclaimOf(noted.state, noted.reclaimPolicy)),
    });
  }
  return disks.slice(0, 64);
}

/** What becomes of a file with the VM. */
function fateOf(
  { subject: { seen } }: SeenPass,
  path: string,
  reclaim: DiskStatus['reclaim'],
): Pick<DiskStatus, 'reclaim' | 'sharedWith'> {
  const sharedWith = seen.sharedDisks.get(path);
  return sharedWith === undefined ? { reclaim } : { reclaim: 'Retain', sharedWith: sharedWith.slice(0, 128) };
}

const DISK_STATES = { creating: 'Creating', created: 'Created', attached: 'Attached' } as const;
