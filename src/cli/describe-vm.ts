/** A VirtualMachine in full: what it is, why it is so, what comes next, where its files lie. Pure. */
import { FOLDER_FILES } from '../api/effective-spec.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import { ageOf } from './duration.ts';
import { sampleLines } from './sample-lines.ts';
import { conditionLines, fields, metadataLines, section, tableSection } from './sheet.ts';

export function describeVm(vm: VirtualMachine, now: number): string[] {
  return [
    ...metadataLines(vm, now),
    ...stateLines(vm, now),
    ...section('Wanted', wantedLines(vm)),
    ...section('Process', processLines(vm, now)),
    ...section('Guest', guestLines(vm)),
    ...diskLines(vm),
    ...tableSection(
      'Interfaces',
      ['NAME', 'MAC', 'ADDRESSES'],
      (vm.status?.interfaces ?? []).map(({ name, mac, ips }) => [name, mac, ips?.join(', ') ?? '<unknown>']),
    ),
    ...pendingLines(vm),
    ...section('Files', fileLines(vm)),
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
    ['Last exit', end && `${end.reason}, found ${ageOf(end.at, now)} ago: ${end.message}`],
    ['Restarts', status?.restarts],
    ['Next attempt', status?.nextAttemptAt && `${status.nextAttemptAt} (${ahead(status.nextAttemptAt, now)})`],
  ]);
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
    ['Power off', `${off.mode}, ${off.gracePeriodSeconds} s grace`],
    ['Update strategy', spec.updateStrategy.type],
  ]);
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

function fileLines({ status }: VirtualMachine): string[] {
  const folder = status?.folder;
  if (folder === undefined) return [];
  return fields([
    ['Folder', folder],
    ["QEMU's log", `${folder}/${FOLDER_FILES.log}`],
    ['Console log', `${folder}/${FOLDER_FILES.consoleLog}`],
    ['Monitor', `${folder}/${FOLDER_FILES.userMonitor}`],
  ]);
}

function figures({ status }: VirtualMachine): string[] {
  return status?.metrics === undefined ? [] : sampleLines(status.metrics);
}

function historyLines({ status }: VirtualMachine, now: number): string[] {
  const rows = (status?.history ?? []).map(({ at, reason, message }) => [ageOf(at, now), reason, message]);
  return tableSection('History', ['AGE', 'REASON', 'MESSAGE'], rows);
}
