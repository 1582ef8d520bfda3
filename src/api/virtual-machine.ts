/** The VirtualMachine: what is wanted of one VM, and what was last seen of it. */
import { z } from 'zod';
import type { ObjectMeta } from './meta.ts';
import {
  absoluteFolder,
  absolutePath,
  condition,
  label,
  lenient,
  listMap,
  type ObjectFactory,
  quantity,
  rules,
  strict,
  text,
  timestamp,
  vmName,
} from './schema.ts';
import { sampleSchema } from './virtual-machine-monitor.ts';

export const ARCHITECTURES = ['x86_64', 'arm64'] as const;
export type Architecture = (typeof ARCHITECTURES)[number];

/** Bounds of the lists; QEMU's q35 has room for more slots than this. */
export const MAX_DISKS = 32;
const MAX_CDROMS = 4;
const MAX_NETWORKS = 16;

/** `has(x)` may change once from absent to present: a name that is assigned later. */
const setOnce = (field: string) => ({
  rule: `!has(oldSelf.${field}) || (has(self.${field}) && self.${field} == oldSelf.${field})`,
  message: `${field} is immutable once set`,
});

const immutable = (field: string) => ({
  rule: `has(self.${field}) == has(oldSelf.${field}) && (!has(self.${field}) || self.${field} == oldSelf.${field})`,
  message: `${field} is immutable`,
});

const disk = (object: ObjectFactory) =>
  object({
    name: label(32).describe('Names the disk in status, and its file when path is absent.'),
    size: quantity()
      .optional()
      .describe(
        'Capacity; only grows. Absent: the size of the existing file. A decimal suffix (20G) follows Kubernetes.',
      ),
    format: z
      .enum(['qcow2', 'raw'])
      .default('qcow2')
      .describe('Format of the file; immutable. An existing file must have it: it is never probed.'),
    path: absolutePath()
      .optional()
      .describe(
        'File or block device; immutable. Absent: <vmDir>/<vmName>/<name>.<format>. An existing file is attached as it is.',
      ),
    reclaimPolicy: z
      .enum(['Delete', 'Retain'])
      .optional()
      .describe(
        'What becomes of the file with the VM. Absent: what was created for the VM is deleted, what existed is kept.',
      ),
  }).meta(rules(immutable('path'), immutable('format')));

const cdrom = (object: ObjectFactory) =>
  object({
    name: label(32),
    path: absolutePath().describe('ISO image on the host, attached read-only and never deleted.'),
  });

const network = (object: ObjectFactory) =>
  object({
    name: label(32),
    user: object({}).describe("QEMU's user-mode network: outbound connections through the host, no rights needed."),
    mac: z
      .string()
      .max(17)
      .regex(/^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/, 'a unicast MAC address in lower case such as 52:54:00:12:34:56')
      .optional()
      .describe('Absent: derived from uuid and name.'),
  });

const spec = (object: ObjectFactory) =>
  object({
    hostName: label(63)
      .optional()
      .describe('Name of the Host that runs the VM; may be set once. Absent: the VM waits (HostNotAssigned).'),
    vmName: vmName().optional().describe('Name on the host, unique there; immutable. Absent: metadata.name.'),
    uuid: z
      .string()
      .max(36)
      .regex(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/, 'a UUID in lower case')
      .optional()
      .describe(
        'SMBIOS uuid and seed of the MAC addresses; may be set once. Absent: made at first launch and kept on the host.',
      ),
    architecture: z.enum(ARCHITECTURES).describe('Guest architecture; immutable.'),
    powerState: z
      .enum(['PoweredOn', 'PoweredOff', 'ForcedOff'])
      .optional()
      .describe(
        'Whether the VM should be on. Absent: PoweredOn. Verbs write it; leave it out of manifests kept in Git.',
      ),
    restartPolicy: z
      .enum(['Always', 'OnFailure', 'Never'])
      .default('OnFailure')
      .describe(
        "What happens when the VM ends by itself. OnFailure starts it again after every end but the guest's own power-off.",
      ),
    restartedAt: text(64).optional().describe('Opaque; a new value means one launch or restart.'),
    vcpus: z.int().min(1).max(1024).default(2),
    memory: quantity().default('2Gi').describe('Guest memory, rounded up to whole MiB.'),
    firmware: object({ type: z.enum(['BIOS', 'UEFI']) })
      .optional()
      .describe("Absent: the architecture's own (x86_64: BIOS, arm64: UEFI)."),
    accelerator: z
      .enum(['Auto', 'KVM', 'TCG'])
      .default('Auto')
      .describe('Auto uses KVM where running code under it was seen to work, else TCG; status says which and why.'),
    disks: z
      .array(disk(object))
      .max(MAX_DISKS)
      .optional()
      .meta(listMap('name'))
      .describe('Boot order is list order, then cdroms.'),
    cdroms: z.array(cdrom(object)).max(MAX_CDROMS).optional().meta(listMap('name')),
    networks: z
      .array(network(object))
      .max(MAX_NETWORKS)
      .optional()
      .meta(listMap('name'))
      .describe('Absent: one user-mode network named net0. An empty list: none.'),
    graphics: object({ vnc: object({}).optional() })
      .optional()
      .describe(
        'vnc: a display over a UNIX socket, see `qemu-operator vnc`. Absent: on with a cdrom, since an installer draws there. {}: none.',
      ),
    powerOff: object({
      mode: z.enum(['TrySoft', 'Soft', 'Hard']).default('TrySoft'),
      gracePeriodSeconds: z.int().min(0).max(3600).default(30),
    })
      .prefault({})
      .describe('TrySoft asks the guest, then quits QEMU after the grace period. Soft only asks. Hard quits at once.'),
    updateStrategy: object({ type: z.enum(['OnRestart', 'Restart']).default('OnRestart') })
      .prefault({})
      .describe('What a change that needs a new QEMU process does: wait for the next restart, or restart now.'),
    vmDir: absoluteFolder()
      .optional()
      .describe("Folder that holds the VM's own folder; immutable. Absent: the Host's."),
  }).meta(
    rules(
      setOnce('hostName'),
      immutable('vmName'),
      setOnce('uuid'),
      { rule: 'self.architecture == oldSelf.architecture', message: 'architecture is immutable' },
      immutable('vmDir'),
    ),
  );

const status = (object: ObjectFactory) =>
  object({
    observedGeneration: z.int().min(0).optional(),
    phase: z
      .enum([
        'Pending',
        'Provisioning',
        'Stopped',
        'Starting',
        'Running',
        'Paused',
        'Stopping',
        'CrashLoopBackOff',
        'Terminating',
        'Failed',
        'Unknown',
      ])
      .optional(),
    message: text(1024).optional(),
    conditions: z.array(condition(object)).max(16).optional().meta(listMap('type')),
    uuid: text(36).optional(),
    pid: z.int().optional(),
    startedAt: timestamp().optional(),
    accelerator: text(16).optional(),
    acceleratorReason: text(256).optional(),
    machine: text(64).optional(),
    qemuVersion: text(32).optional(),
    folder: text(1024).optional(),
    vcpus: z.int().optional(),
    memory: text(32).optional(),
    disks: z
      .array(
        object({
          name: text(32),
          path: text(1024),
          format: text(16).optional(),
          virtualSize: text(32).optional(),
          /** Created by us, existing before us, being created, not to be found, or no longer in the spec. */
          state: z.enum(['Pending', 'Creating', 'Created', 'Attached', 'Missing', 'Detached', 'Deleted', 'Kept']),
          /** What deletion of the VM does with the file. */
          reclaim: z.enum(['Delete', 'Retain']).optional(),
        }),
      )
      .max(2 * MAX_DISKS)
      .optional()
      .meta(listMap('name')),
    interfaces: z
      .array(object({ name: text(32), mac: text(17) }))
      .max(MAX_NETWORKS)
      .optional()
      .meta(listMap('name')),
    pendingChanges: z
      .array(object({ path: text(256), from: text(256).optional(), to: text(256).optional() }))
      .max(64)
      .optional(),
    lastExit: object({ reason: text(64), message: text(1024), at: timestamp() }).optional(),
    restarts: z.int().min(0).optional(),
    nextAttemptAt: timestamp().optional(),
    /** Files that stay in the VM's folder after a deletion: not ours, or kept. */
    leftBehind: z.array(text(1024)).max(64).optional(),
    history: z
      .array(object({ at: timestamp(), reason: text(64), message: text(512) }))
      .max(20)
      .optional(),
    metrics: sampleSchema(object).optional(),
  });

export const virtualMachineSpec = { strict: spec(strict), lenient: spec(lenient) };
export const virtualMachineStatus = status(lenient);

export type VirtualMachineSpec = z.infer<typeof virtualMachineSpec.strict>;
export type VirtualMachineStatus = z.infer<typeof virtualMachineStatus>;
export type DiskSpec = NonNullable<VirtualMachineSpec['disks']>[number];
export type DiskFormat = DiskSpec['format'];
export type PowerState = NonNullable<VirtualMachineSpec['powerState']>;
export type Phase = NonNullable<VirtualMachineStatus['phase']>;

export interface VirtualMachine {
  readonly apiVersion: string;
  readonly kind: 'VirtualMachine';
  readonly metadata: ObjectMeta & { readonly namespace: string };
  readonly spec: VirtualMachineSpec;
  readonly status?: VirtualMachineStatus | undefined;
}
