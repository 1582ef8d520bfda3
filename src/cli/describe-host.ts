/** A Host in full. Pure. */
import type { Host } from '../api/host.ts';
import { hostKeyWords } from '../api/host-ssh.ts';
import { humanBytes } from '../api/quantity.ts';
import { conditionLines, fields, metadataLines, section, tableSection } from './sheet.ts';
import { adoptCommand, importCommand } from './take-over.ts';

export function describeHost(host: Host, now: number): string[] {
  const { status } = host;
  return [
    ...metadataLines(host, now),
    ...section('Wanted', wantedLines(host)),
    ...section('Machine', machineLines(host)),
    ...tableSection('QEMU', ['ARCHITECTURE', 'VERSION'], Object.entries(status?.info?.qemu ?? {})),
    ...section('VMs', vmLines(host)),
    ...tableSection(
      'Folders without an object',
      ['NAME', 'RUNNING', 'IN', 'TAKEN OVER BY'],
      (status?.unclaimed ?? []).map((one) => [one.name, String(one.running), one.vmDir, adoptCommand(one, host)]),
    ),
    ...tableSection(
      "QEMU processes that are not qemu-operator's",
      ['PID', 'NAME', 'ARCHITECTURE', 'TAKEN OVER BY'],
      (status?.strangers ?? []).map((one) => [String(one.pid), one.name, one.architecture, importCommand(one, host)]),
    ),
    ...conditionLines(status?.conditions, now),
  ];
}

function wantedLines({ spec }: Host): string[] {
  const { ssh } = spec;
  return fields([
    [
      'Address',
      ssh &&
        `${ssh.user === undefined ? '' : `${ssh.user}@`}${ssh.address}${ssh.port === undefined ? '' : `, port ${ssh.port}`}`,
    ],
    ['Through', ssh?.jumpHostName && `Host ${ssh.jumpHostName}`],
    [
      'Credentials',
      ssh &&
        (ssh.credentialsSecretRef === undefined
          ? 'agent and ~/.ssh/config'
          : `Secret ${ssh.credentialsSecretRef.name}`),
    ],
    [
      'Host keys',
      ssh &&
        ((ssh.hostKeys ?? []).map(hostKeyWords).join(', ') || `known_hosts, then ${ssh.hostKeyPolicy ?? 'AcceptNew'}`),
    ],
    ['VM folder', spec.vmDir],
    ['Allowed paths', (spec.allowedPaths ?? [spec.vmDir]).join(', ')],
    ['Metrics', spec.metricsIntervalSeconds === 0 ? 'on request' : `every ${spec.metricsIntervalSeconds} s`],
  ]);
}

function machineLines({ status }: Host): string[] {
  const info = status?.info;
  if (info === undefined) return [];
  const { vmDir, kvm, kvmReason } = info;
  return fields([
    ['System', info.os],
    ['Kernel', info.kernel],
    ['Architecture', info.architecture],
    ['CPUs', info.cpus],
    ['Memory', info.memory],
    ['Disk of VM folder', vmDir && `${humanBytes(vmDir.freeBytes)} free of ${humanBytes(vmDir.totalBytes)}`],
    ['KVM', kvm === undefined ? undefined : `${kvm ? 'works' : 'does not work'}${kvmReason ? ` (${kvmReason})` : ''}`],
    ['Host key', status?.ssh?.hostKey],
    ['Round trip', status?.roundTripMs && `${status.roundTripMs} ms`],
  ]);
}

function vmLines({ status }: Host): string[] {
  const { vms, allocated } = status ?? {};
  return fields([
    ['Managed', vms?.managed],
    ['Running', vms?.running],
    ['Strangers', vms?.strangers],
    ['Allocated', allocated && `${allocated.vcpus} vCPUs, ${allocated.memory} of memory`],
  ]);
}
