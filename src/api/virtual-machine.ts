/** The VirtualMachine: what is wanted of one VM. */
import { z } from 'zod';
import { cloudInit } from './cloud-init.ts';
import type { ObjectMeta } from './meta.ts';
import { networks } from './networks.ts';
import {
  absoluteFolder,
  absolutePath,
  type CelRule,
  checksum,
  imageUrl,
  label,
  lenient,
  listMap,
  type ObjectFactory,
  quantity,
  rules,
  strict,
  text,
  uuid,
  vmName,
} from './schema.ts';
import type { virtualMachineStatus } from './virtual-machine-status.ts';

export const ARCHITECTURES = ['x86_64', 'arm64'] as const;
export type Architecture = (typeof ARCHITECTURES)[number];

/** Bounds of the lists; QEMU's q35 has room for more slots than this. */
export const MAX_DISKS = 32;
const MAX_CDROMS = 4;

/** `has(x)` may change once from absent to present: a name that is assigned later. */
const setOnce = (field: string): CelRule => ({
  rule: `!has(oldSelf.${field}) || (has(self.${field}) && self.${field} == oldSelf.${field})`,
  message: `${field} is immutable once set`,
  fieldPath: `.${field}`,
});

const immutable = (field: string): CelRule => ({
  rule: `has(self.${field}) == has(oldSelf.${field}) && (!has(self.${field}) || self.${field} == oldSelf.${field})`,
  message: `${field} is immutable`,
  fieldPath: `.${field}`,
});

const distinctPaths: CelRule = {
  rule: 'self.all(a, !has(a.path) || self.exists_one(b, has(b.path) && b.path == a.path))',
  message: 'two disks of a VM may not have the same path',
};

const sizeGrows: CelRule = {
  rule: '!has(oldSelf.size) || (has(self.size) && quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0)',
  message: 'a disk only grows; set its former size in your manifest',
  messageExpression:
    "'disk grew to ' + string(oldSelf.size) + '; set size: ' + string(oldSelf.size) + ' in your manifest'",
  fieldPath: '.size',
};

const cdromIsNoDisk: CelRule = {
  rule: '!has(self.disks) || !has(self.cdroms) || self.cdroms.all(c, !self.disks.exists(d, has(d.path) && d.path == c.path))',
  message: "a cdrom's path may not be the path of a disk of this VM",
  fieldPath: '.cdroms',
};

const arm64IsUefi: CelRule = {
  rule: "self.architecture != 'arm64' || !has(self.firmware) || self.firmware.type != 'BIOS'",
  message: 'must be UEFI for architecture arm64',
  fieldPath: '.firmware.type',
};

const imageHasOneSource: CelRule = {
  rule: 'has(self.url) != has(self.path)',
  message: 'must have exactly one of url and path',
};

const httpHasChecksum: CelRule = {
  rule: "!has(self.url) || !self.url.startsWith('http:') || has(self.checksum)",
  message: 'is required for an http: url, which anybody on the way could change',
  fieldPath: '.checksum',
};

const image = (object: ObjectFactory) =>
  object({
    url: imageUrl()
      .optional()
      .describe('Fetched by the host itself with curl or wget, once per checksum, into its vmDir.'),
    path: absolutePath().optional().describe('A file on the host.'),
    checksum: checksum().optional().describe('Of the file as it is served, before any conversion. Required for http.'),
  }).meta(rules(imageHasOneSource, httpHasChecksum));

export const diskSize = () => quantity('1Mi', '4Pi');

const disk = (object: ObjectFactory) =>
  object({
    name: label(32).describe('Names the disk in status, and its file when path is absent.'),
    size: diskSize()
      .optional()
      .describe('Capacity. Absent: the size of the image or existing file. A decimal suffix (20G) follows Kubernetes.'),
    format: z
      .enum(['qcow2', 'raw'])
      .default('qcow2')
      .describe('Format of the file. An existing file must have it: it is never probed.'),
    path: absolutePath()
      .optional()
      .describe(
        'File or block device. Absent: <vmDir>/<vmName>/<name>.<format>. An existing file is attached as it is.',
      ),
    image: image(object)
      .optional()
      .describe(
        'What a new disk is made from, when the VM is first switched on: a qcow2 or raw image, copied, converted to format and grown to size.',
      ),
    reclaimPolicy: z
      .enum(['Delete', 'Retain'])
      .optional()
      .describe(
        'What becomes of the file with the VM. Absent: what was created for the VM is deleted, what existed is kept.',
      ),
  }).meta(rules(immutable('path'), immutable('format'), immutable('image'), sizeGrows));

const cdrom = (object: ObjectFactory) =>
  object({
    name: label(32).describe('Names the drive.'),
    path: absolutePath().describe('ISO image on the host, attached read-only and never deleted.'),
  });

const spec = (object: ObjectFactory) =>
  object({
    hostName: label(63)
      .optional()
      .describe('Name of the Host that runs the VM. Absent: the VM waits (HostNotAssigned).'),
    vmName: vmName().optional().describe('Name on the host, unique there. Absent: metadata.name.'),
    uuid: uuid()
      .optional()
      .describe('SMBIOS uuid and seed of the MAC addresses. Absent: made at first launch and kept on the host.'),
    architecture: z.enum(ARCHITECTURES).describe('Guest architecture.'),
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
    vcpus: z.int().min(1).max(1024).default(2).describe('Virtual CPUs.'),
    memory: quantity('1Mi', '64Ti').default('2Gi').describe('Guest memory, rounded up to whole MiB.'),
    firmware: object({ type: z.enum(['BIOS', 'UEFI']).describe('arm64 has UEFI only.') })
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
      .meta({ ...listMap('name'), ...rules(distinctPaths) })
      .describe('Boot order is list order, then cdroms.'),
    cdroms: z
      .array(cdrom(object))
      .max(MAX_CDROMS)
      .optional()
      .meta(listMap('name'))
      .describe('CD-ROM drives, always read-only.'),
    networks: networks(object),
    cloudInit: cloudInit(object)
      .optional()
      .describe(
        'Present: the guest gets a NoCloud seed, a read-only volume labelled cidata. It is made anew at each launch; what cloud-init applies of a later change is in docs/concepts/cloud-init.md.',
      ),
    graphics: object({ vnc: object({}).optional().describe('Present: there is a display.') })
      .optional()
      .describe(
        'vnc: a display over a UNIX socket, see `qemu-operator vnc`. Absent: on with a cdrom, since an installer draws there. {}: none.',
      ),
    powerOff: object({
      mode: z.enum(['TrySoft', 'Soft', 'Hard']).default('TrySoft').describe('How the VM is switched off.'),
      gracePeriodSeconds: z.int().min(0).max(3600).default(30).describe('Time the guest has to power off by itself.'),
    })
      .prefault({})
      .describe('TrySoft asks the guest, then quits QEMU after the grace period. Soft only asks. Hard quits at once.'),
    updateStrategy: object({
      type: z.enum(['OnRestart', 'Restart']).default('OnRestart').describe('OnRestart waits, Restart does not.'),
    })
      .prefault({})
      .describe('What a change that needs a new QEMU process does: wait for the next restart, or restart now.'),
    vmDir: absoluteFolder().optional().describe("Folder that holds the VM's own folder. Absent: the Host's."),
  }).meta(
    rules(
      setOnce('hostName'),
      immutable('vmName'),
      setOnce('uuid'),
      immutable('architecture'),
      immutable('vmDir'),
      arm64IsUefi,
      cdromIsNoDisk,
    ),
  );

export const virtualMachineSpec = { strict: spec(strict), lenient: spec(lenient) };

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
