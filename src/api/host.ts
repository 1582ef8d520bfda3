/** The Host: a machine that runs VMs. In this release the local one. */
import { z } from 'zod';
import type { ObjectMeta } from './meta.ts';
import { absoluteFolder, condition, lenient, listMap, type ObjectFactory, rules, strict, text } from './schema.ts';

/** Where VM folders lie when nothing else is said. */
export const DEFAULT_VM_DIR = '/var/lib/qemu';

const spec = (object: ObjectFactory) =>
  object({
    local: object({}).describe('The machine on which the controller runs.'),
    vmDir: absoluteFolder()
      .default(DEFAULT_VM_DIR)
      .describe(
        "Folder that holds one folder per VM. Changing it while VMs are there is refused by the host's marker.",
      ),
    allowedPaths: z
      .array(absoluteFolder())
      .max(64)
      .optional()
      .describe('Folders in which disks and ISO images may lie, symbolic links resolved. Absent: [vmDir].'),
    metricsIntervalSeconds: z
      .int()
      .min(0)
      .max(86_400)
      .default(60)
      .describe('How often status.metrics of running VMs is refreshed. 0: never.'),
  }).meta(rules());

const status = (object: ObjectFactory) =>
  object({
    observedGeneration: z.int().min(0).optional(),
    conditions: z.array(condition(object)).max(16).optional().meta(listMap('type')),
    info: object({
      os: text(128).optional(),
      kernel: text(128).optional(),
      architecture: text(32).optional(),
      machineID: text(64).optional(),
      cpus: z.int().optional(),
      memory: text(32).optional(),
      vmDir: object({ freeBytes: z.int(), totalBytes: z.int() }).optional(),
      qemu: z.record(text(32), text(32)).optional(),
      kvm: z.boolean().optional(),
      kvmReason: text(256).optional(),
    }).optional(),
    allocated: object({ vcpus: z.int(), memory: text(32) }).optional(),
    vms: object({ managed: z.int(), running: z.int(), strangers: z.int() }).optional(),
    /** QEMU processes that are not ours. Their command lines may hold secrets and never enter status. */
    strangers: z
      .array(object({ name: text(128), architecture: text(32), pid: z.int() }))
      .max(50)
      .optional(),
    /** VM folders without an object in this store. */
    unclaimed: z
      .array(
        object({
          name: text(128),
          vmDir: text(1024),
          uid: text(64).optional(),
          running: z.boolean(),
          architecture: text(32).optional(),
          vcpus: z.int().optional(),
          memory: text(32).optional(),
          disks: z
            .array(object({ path: text(1024), size: text(32).optional() }))
            .max(32)
            .optional(),
        }),
      )
      .max(50)
      .optional(),
    roundTripMs: z.int().optional(),
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
