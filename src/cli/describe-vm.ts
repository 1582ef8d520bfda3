/** A VirtualMachine in full: what it is, why it is so, what comes next, where its files lie. Pure. */
import type { CloudInit } from '../api/cloud-init.ts';
import { findCondition } from '../api/conditions.ts';
import { FOLDER_FILES } from '../api/effective-spec.ts';
import { forwardWords } from '../api/networks.ts';
import { humanBytes } from '../api/quantity.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import { nextStepFor } from '../messages/next-steps.ts';
import type { VmOnHost } from '../streams/vm-files.ts';
import { ageOf } from './duration.ts';
import { sampleLines } from './sample-lines.ts';
import { conditionLines, type Field, fields, metadataLines, section, tableSection } from './sheet.ts';
import { commandLines } from './shell-words.ts';

/** @param host what its host shows now; absent where it could not be asked */
export function describeVm(vm: VirtualMachine, now: number, host?: VmOnHost): string[] {
  return [
    ...metadataLines(vm, now),
    ...stateLines(vm, now),
    ...section('Wanted', wantedLines(vm)),
    ...section('Process', processLines(vm, now)),
    ...section('Guest', guestLines(vm)),
    ...section('Command line of the process', host?.argv === undefined ? [] : commandLines(host.argv)),
    ...diskLines(vm),
    ...tableSection(
      'Interfaces',
      ['NAME', 'MAC', 'NETWORK', 'ADDRESSES', 'FORWARDS'],
      (vm.status?.interfaces ?? []).map(({ name, mac, bridge, ips, forwards = [] }) => [
        name,
        mac,
        bridge === undefined ? 'user' : `bridge ${bridge}`,
        ips?.join(', ') ?? '<unknown>',
        forwards.map(forwardWords).join(', ') || '<none>',
      ]),
    ),
    ...pendingLines(vm),
    ...section('Files', fileLines(vm, host)),
    ...conditionLines(vm.status?.conditions, now),
    ...section(
      `Figures${vm.status?.metrics === undefined ? '' : ` (${ageOf(vm.status.metrics.at, now)} ago)`}`,
      figures(vm),
    ),
    ...historyLines(vm, now),
  ];
}

function stateLines({ status, metadata }: VirtualMachine, now: number): string[] {
  const behind = (status?.observedGeneration ?? 0) < metadata.generation;
  const end = status?.lastExit;
  return fields([
    ['Phase', status?.phase ?? 'Pending'],
    ['Message', behind ? `${status?.message ?? ''} (not yet looked at since the last change)`.trim() : status?.message],
    ['What to do', stepFor(status)],
    ['Last exit', end && `${end.reason}, found ${ageOf(end.at, now)} ago: ${end.message}`],
    ['Restarts', status?.restarts],
    ['Next attempt', status?.nextAttemptAt && `${status.nextAttemptAt} (${ahead(status.nextAttemptAt, now)})`],
  ]);
}

/** Of the reason that holds the VM up. */
function stepFor(status: VirtualMachine['status']): string | undefined {
  const ready = findCondition(status?.conditions, 'Ready');
  return ready === undefined || ready.status === 'True' ? undefined : nextStepFor(ready.reason);
}

function ahead(at: string, now: number): string {
  const ms = Date.parse(at) - now;
  return ms > 0 ? `in ${Math.ceil(ms / 1000)} s` : 'now due';
}

function wantedLines({ spec }: VirtualMachine): string[] {
  const off = spec.powerOff;
  return fields([
    ['Host', spec.hostName ?? '<none>'],
    ['Name there', spec.vmName],
    ['Power', spec.powerState ?? 'PoweredOn'],
    ['Restart policy', spec.restartPolicy],
    ['Architecture', spec.architecture],
    ['vCPUs', spec.vcpus],
    ['Memory', String(spec.memory)],
    ['Firmware', spec.firmware?.type],
    ['Accelerator', spec.accelerator],
    ['CD-ROMs', spec.cdroms?.map(({ name, path }) => `${name} (${path})`).join(', ')],
    ['Cloud-init', spec.cloudInit && cloudInitWords(spec.cloudInit)],
    ['Power off', `${off.mode}, ${off.gracePeriodSeconds} s grace`],
    ['Update strategy', spec.updateStrategy.type],
  ]);
}

function cloudInitWords({ hostname, user, userData, userDataSecretRef: ref, networkData, ...more }: CloudInit): string {
  const keys = more.sshAuthorizedKeys?.length ?? 0;
  const given = ref === undefined ? userData && 'user data' : `user data of Secret ${ref.name}, key ${ref.key}`;
  return [
    ...(hostname === undefined ? [] : [`hostname ${hostname}`]),
    ...(user === undefined ? [] : [`user ${user}`]),
    given ?? 'user data generated',
    ...(networkData === undefined ? [] : ['network data']),
    ...(keys === 0 ? [] : [`${keys} SSH key${keys === 1 ? '' : 's'}`]),
  ].join(', ');
}

function processLines({ status }: VirtualMachine, now: number): string[] {
  if (status?.pid === undefined) return ['none'];
  return fields([
    ['PID', status.pid],
    ['Started', status.startedAt && `${status.startedAt} (${ageOf(status.startedAt, now)} ago)`],
    ['QEMU', [status.qemuVersion, status.machine].filter((one) => one !== undefined).join(', ')],
    ['Accelerator', `${status.accelerator ?? ''}${status.acceleratorReason ? ` (${status.acceleratorReason})` : ''}`],
    ['vCPUs', status.vcpus],
    ['Memory', status.memory],
  ]);
}

function guestLines({ status }: VirtualMachine): string[] {
  const ahead = status?.guest?.clockOffsetSeconds;
  return fields([
    ['System', status?.guest?.os],
    ['Kernel', status?.guest?.kernel],
    ['Host name', status?.guest?.hostname],
    ['Clock', ahead && `${Math.abs(ahead)} s ${ahead > 0 ? 'ahead of' : 'behind'} the host's`],
  ]);
}

function diskLines({ status, spec }: VirtualMachine): string[] {
  const rows =
    status?.disks?.map(({ name, state, format, virtualSize, reclaim, path }) => [
      name,
      state,
      format ?? '',
      virtualSize ?? '<unknown>',
      reclaim ?? '',
      path,
    ]) ??
    spec.disks?.map(({ name, format, size, reclaimPolicy, path }) => [
      name,
      'Pending',
      format,
      size === undefined ? '<unknown>' : String(size),
      reclaimPolicy ?? '',
      path ?? '',
    ]) ??
    [];
  return tableSection('Disks', ['NAME', 'STATE', 'FORMAT', 'SIZE', 'AT DELETION', 'PATH'], rows);
}

function pendingLines({ status }: VirtualMachine): string[] {
  const rows = (status?.pendingChanges ?? []).map(({ path, from, to }) => [path, from ?? '<none>', to ?? '<none>']);
  return tableSection('Changes that wait for a restart', ['FIELD', 'RUNNING WITH', 'SPEC'], rows);
}

const FILE_WORDS: Readonly<Partial<Record<keyof typeof FOLDER_FILES, string>>> = {
  record: 'Record',
  pidfile: 'PID file',
  log: "QEMU's log",
  stop: 'Stop marker',
  monitor: 'Loop monitor',
  userMonitor: 'Monitor',
  console: 'Console',
  consoleLog: 'Console log',
  consoleHolder: 'Console holder',
  vnc: 'Screen',
  firmwareVariables: 'UEFI variables',
  seed: 'cloud-init seed',
  job: 'Job',
  jobScript: 'Job script',
  jobLock: 'Job lock',
  jobHeaders: 'Job headers',
  jobErrors: 'Job errors',
};

/** Where the host could be asked, what is there; else where it would be. Disks have their own table. */
function fileLines({ status }: VirtualMachine, host: VmOnHost | undefined): string[] {
  const folder = status?.folder;
  if (folder === undefined) return [];
  const named = Object.entries(FOLDER_FILES).map(([key, file]): [string, string] => [
    (FILE_WORDS as Readonly<Record<string, string | undefined>>)[key] ?? key,
    file,
  ]);
  const files: readonly [string, string][] = [...named, ['Former log', `${FOLDER_FILES.log}.1`]];
  return fields([
    ['Folder', folder],
    ...files
      .filter(([, file]) => host === undefined || host.files.has(file))
      .map(([word, file]): Field => [word, `${folder}/${file}${sizeWords(host?.files.get(file))}`]),
  ]);
}

function sizeWords(bytes: number | undefined): string {
  return bytes === undefined || bytes === 0 ? '' : ` (${humanBytes(bytes)})`;
}

function figures({ status }: VirtualMachine): string[] {
  return status?.metrics === undefined ? [] : sampleLines(status.metrics);
}

function historyLines({ status }: VirtualMachine, now: number): string[] {
  const rows = (status?.history ?? []).map(({ at, reason, message }) => [ageOf(at, now), reason, message]);
  return tableSection('History', ['AGE', 'REASON', 'MESSAGE'], rows);
}
