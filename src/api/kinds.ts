/** The table of kinds: the one place that says how each is named, scoped and shown. */
import type { z } from 'zod';
import { type Host, hostSpec, hostStatus } from './host.ts';
import type { Kind } from './meta.ts';
import { type CelRule, label, subdomain } from './schema.ts';
import { type VirtualMachine, virtualMachineSpec } from './virtual-machine.ts';
import { monitorSpec, monitorStatus, type VirtualMachineMonitor } from './virtual-machine-monitor.ts';
import { virtualMachineStatus } from './virtual-machine-status.ts';

export interface Objects {
  VirtualMachine: VirtualMachine;
  Host: Host;
  VirtualMachineMonitor: VirtualMachineMonitor;
}
export type ObjectOf<K extends Kind> = Objects[K];
export type AnyObject = Objects[Kind];
export type SpecOf<K extends Kind> = Objects[K]['spec'];
export type StatusOf<K extends Kind> = NonNullable<Objects[K]['status']>;

export interface PrinterColumn {
  readonly name: string;
  readonly type: 'string' | 'integer' | 'date';
  readonly jsonPath: string;
  /** 0: always shown; 1: with -o wide. */
  readonly priority: 0 | 1;
  readonly description: string;
}

export interface KindInfo {
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly namespaced: boolean;
  readonly description: string;
  readonly spec: { readonly strict: z.ZodType; readonly lenient: z.ZodType };
  readonly status: z.ZodType;
  /** What metadata.name may be. */
  readonly name: z.ZodString;
  /** Rules over the whole object; they see metadata.name and spec. */
  readonly rules: readonly CelRule[];
  readonly columns: readonly PrinterColumn[];
}

const ready = '.status.conditions[?(@.type=="Ready")].status';

export const KIND_INFO: Readonly<Record<Kind, KindInfo>> = {
  VirtualMachine: {
    plural: 'virtualmachines',
    singular: 'virtualmachine',
    shortNames: ['qvm'],
    namespaced: true,
    description: 'A QEMU virtual machine on one Host.',
    spec: virtualMachineSpec,
    status: virtualMachineStatus,
    name: subdomain(253),
    rules: [
      {
        rule: 'size(self.metadata.name) <= 63 || has(self.spec.vmName)',
        message: 'spec.vmName is required where metadata.name has more than 63 characters',
        fieldPath: '.spec.vmName',
      },
    ],
    columns: [
      { name: 'Phase', type: 'string', jsonPath: '.status.phase', priority: 0, description: 'One word for people.' },
      {
        name: 'Ready',
        type: 'string',
        jsonPath: ready,
        priority: 0,
        description: 'Whether the VM is as its spec wants.',
      },
      { name: 'Host', type: 'string', jsonPath: '.spec.hostName', priority: 0, description: 'The Host that runs it.' },
      { name: 'Arch', type: 'string', jsonPath: '.spec.architecture', priority: 0, description: 'Guest architecture.' },
      { name: 'vCPUs', type: 'integer', jsonPath: '.spec.vcpus', priority: 0, description: 'Virtual CPUs.' },
      { name: 'Memory', type: 'string', jsonPath: '.spec.memory', priority: 0, description: 'Guest memory.' },
      {
        name: 'Age',
        type: 'date',
        jsonPath: '.metadata.creationTimestamp',
        priority: 0,
        description: 'Time since creation.',
      },
      {
        name: 'IP',
        type: 'string',
        jsonPath: '.status.interfaces[*].ips[0]',
        priority: 1,
        description: 'The first address of the guest that is known.',
      },
      {
        name: 'CPU%',
        type: 'integer',
        jsonPath: '.status.metrics.cpu.percent',
        priority: 1,
        description: 'Use of its vCPUs at the last sample.',
      },
      {
        name: 'Ports',
        type: 'string',
        jsonPath: '.status.ports',
        priority: 1,
        description: 'Ports of the host that lead to the guest.',
      },
      {
        name: 'Accel',
        type: 'string',
        jsonPath: '.status.accelerator',
        priority: 1,
        description: 'KVM or TCG, as running.',
      },
      {
        name: 'Strategy',
        type: 'string',
        jsonPath: '.spec.updateStrategy.type',
        priority: 1,
        description: 'What a change that needs a new process does.',
      },
      {
        name: 'Last-Exit',
        type: 'string',
        jsonPath: '.status.lastExit.reason',
        priority: 1,
        description: 'Why the last QEMU process ended.',
      },
      {
        name: 'Restart-Required',
        type: 'string',
        jsonPath: '.status.conditions[?(@.type=="RestartRequired")].status',
        priority: 1,
        description: 'Whether a change waits for a restart.',
      },
      { name: 'Message', type: 'string', jsonPath: '.status.message', priority: 1, description: 'Why it is as it is.' },
    ],
  },
  Host: {
    plural: 'hosts',
    singular: 'host',
    shortNames: ['qhost'],
    namespaced: false,
    description: 'A machine that runs virtual machines.',
    spec: hostSpec,
    status: hostStatus,
    name: label(63),
    rules: [],
    columns: [
      { name: 'Ready', type: 'string', jsonPath: ready, priority: 0, description: 'Whether the host can run VMs.' },
      {
        name: 'VMs',
        type: 'integer',
        jsonPath: '.status.vms.managed',
        priority: 0,
        description: 'VMs with an object.',
      },
      {
        name: 'Running',
        type: 'integer',
        jsonPath: '.status.vms.running',
        priority: 0,
        description: 'Of these, with a QEMU process.',
      },
      { name: 'CPUs', type: 'integer', jsonPath: '.status.info.cpus', priority: 0, description: 'CPUs of the host.' },
      {
        name: 'Memory',
        type: 'string',
        jsonPath: '.status.info.memory',
        priority: 0,
        description: 'Memory of the host.',
      },
      {
        name: 'Age',
        type: 'date',
        jsonPath: '.metadata.creationTimestamp',
        priority: 0,
        description: 'Time since creation.',
      },
      {
        name: 'VM-Dir',
        type: 'string',
        jsonPath: '.spec.vmDir',
        priority: 1,
        description: 'Folder of the VM folders.',
      },
      {
        name: 'KVM',
        type: 'string',
        jsonPath: '.status.info.kvm',
        priority: 1,
        description: 'Whether KVM runs code here.',
      },
    ],
  },
  VirtualMachineMonitor: {
    plural: 'virtualmachinemonitors',
    singular: 'virtualmachinemonitor',
    shortNames: ['qmon'],
    namespaced: true,
    description: 'A request for samples of one running VirtualMachine, for at most an hour.',
    spec: monitorSpec,
    status: monitorStatus,
    name: subdomain(253),
    rules: [],
    columns: [
      {
        name: 'VM',
        type: 'string',
        jsonPath: '.spec.virtualMachineName',
        priority: 0,
        description: 'The VM that is sampled.',
      },
      {
        name: 'Interval',
        type: 'integer',
        jsonPath: '.spec.intervalSeconds',
        priority: 0,
        description: 'Seconds between samples.',
      },
      // A string: Kubernetes shows a date that lies ahead as <invalid>.
      { name: 'Until', type: 'string', jsonPath: '.spec.until', priority: 0, description: 'End of the request.' },
      {
        name: 'Age',
        type: 'date',
        jsonPath: '.metadata.creationTimestamp',
        priority: 0,
        description: 'Time since creation.',
      },
    ],
  },
};
