/** The Host: a machine that runs VMs, this one or one behind SSH. */
import { z } from 'zod';
import { sshSpec } from './host-ssh.ts';
import { labelSelector } from './label-selector.ts';
import type { ObjectMeta } from './meta.ts';
import {
  absoluteFolder,
  type CelRule,
  conditions,
  interfaceOrAll,
  label,
  lenient,
  map,
  type ObjectFactory,
  observedGeneration,
  rules,
  setOf,
  strict,
  text,
} from './schema.ts';

/** Where VM folders lie when nothing else is said. */
export const DEFAULT_VM_DIR = '/var/lib/qemu';

const oneWay: CelRule = {
  rule: 'has(self.local) != has(self.ssh)',
  message: 'set exactly one of local and ssh',
};

const someNamespaces: CelRule = {
  rule: 'has(self.names) || has(self.selector)',
  message: 'set names, selector or both',
};

const allowedNamespaces = (object: ObjectFactory) =>
  object({
    names: setOf(label(63), 64).optional().describe('By their names.'),
    selector: labelSelector(object).optional().describe('By the labels of the Namespace.'),
  }).meta(rules(someNamespaces));

const spec = (object: ObjectFactory) =>
  object({
    local: object({}).optional().describe('The machine on which the controller runs.'),
    ssh: sshSpec(object).optional().describe('A machine that is reached over SSH.'),
    sudo: z
      .boolean()
      .optional()
      .describe(
        'Whether `sudo -n` prepares vmDir and taps where the user has no right to. QEMU runs as the user in any case.',
      ),
    vmDir: absoluteFolder()
      .default(DEFAULT_VM_DIR)
      .describe('Folder that holds one folder per VM. Immutable once it is claimed.'),
    allowedPaths: setOf(absoluteFolder(), 64)
      .optional()
      .describe('Folders in which disks and ISO images may lie, symbolic links resolved. Absent: [vmDir].'),
    allowedNamespaces: allowedNamespaces(object)
      .optional()
      .describe('Namespaces whose VMs may run here: those that are named, and those that are selected. Absent: all.'),
    allowedBridges: setOf(interfaceOrAll(), 64)
      .optional()
      .describe('Bridges that guests may be joined to; "*" means all. Absent: none.'),
    metricsIntervalSeconds: z
      .int()
      .min(0)
      .max(86_400)
      .default(60)
      .describe('How often status.metrics of running VMs is refreshed. 0: never.'),
  }).meta(rules(oneWay));

const info = (object: ObjectFactory) =>
  object({
    os: text(128).optional().describe('Name and version of the operating system.'),
    kernel: text(128).optional().describe('Release of the kernel.'),
    architecture: text(32).optional().describe('As `uname -m` says.'),
    machineID: text(64).optional().describe('/etc/machine-id: another one is another machine.'),
    cpus: z.int().optional().describe('Online CPUs.'),
    memory: text(32).optional().describe('Memory of the machine.'),
    vmDir: object({
      freeBytes: z.int().describe('Free for the user that runs QEMU.'),
      totalBytes: z.int().describe('Size of the file system.'),
    })
      .optional()
      .describe('The file system of vmDir; rounded.'),
    qemu: map(text(32), text(32), 8).optional().describe('Version of QEMU by architecture.'),
    kvm: z.boolean().optional().describe('Whether KVM was seen to run code.'),
    kvmReason: text(256).optional().describe('Why, or why not.'),
  });

const stranger = (object: ObjectFactory) =>
  object({
    name: text(128).describe('Its -name, or the command.'),
    architecture: text(32).describe('Guest architecture.'),
    pid: z.int().describe('Process id.'),
  });

const unclaimed = (object: ObjectFactory) =>
  object({
    name: text(128).describe('Name of the folder.'),
    vmDir: text(1024).describe('The folder that holds it.'),
    uid: text(64).optional().describe('uid in its ownership record. `adopt` takes the folder over.'),
    running: z.boolean().describe('Whether a QEMU process runs there.'),
    architecture: text(32).optional().describe('As its record says.'),
    vcpus: z.int().optional().describe('As last launched.'),
    memory: text(32).optional().describe('As last launched.'),
    disks: z
      .array(object({ path: text(1024).describe('The file.'), size: text(32).optional().describe('Its capacity.') }))
      .max(32)
      .optional()
      .describe('Disks that its record names.'),
  });

const status = (object: ObjectFactory) =>
  object({
    observedGeneration: observedGeneration(),
    conditions: conditions(object),
    info: info(object).optional().describe('What the machine is.'),
    allocated: object({ vcpus: z.int().describe('vCPUs.'), memory: text(32).describe('Memory.') })
      .optional()
      .describe('Sum over the running VMs.'),
    vms: object({
      managed: z.int().describe('VMs with an object.'),
      running: z.int().describe('Of these, with a QEMU process.'),
      strangers: z.int().describe('QEMU processes that belong to no VM of ours.'),
    })
      .optional()
      .describe('How many there are.'),
    strangers: z
      .array(stranger(object))
      .max(50)
      .optional()
      .describe('QEMU processes that are not ours. Their command lines may hold secrets and are not shown.'),
    unclaimed: z.array(unclaimed(object)).max(50).optional().describe('VM folders without an object in this store.'),
    ssh: object({
      hostKey: text(256).optional().describe('Type and fingerprint of the key that the host showed.'),
    })
      .optional()
      .describe('Of a Host behind SSH.'),
    roundTripMs: z.int().optional().describe('Time of one look at the host; rounded.'),
  });

export const hostSpec = { strict: spec(strict), lenient: spec(lenient) };
export const hostStatus = status(lenient);

export type HostSpec = z.infer<typeof hostSpec.strict>;
export type HostStatus = z.infer<typeof hostStatus>;

export interface Host {
  readonly apiVersion: string;
  readonly kind: 'Host';
  readonly metadata: ObjectMeta;
  readonly spec: HostSpec;
  readonly status?: HostStatus | undefined;
}
