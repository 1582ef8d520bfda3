/** The VirtualMachineMonitor, a request for samples of one VM, and the sample itself. */
import { z } from 'zod';
import type { ObjectMeta } from './meta.ts';
import {
  conditions,
  lenient,
  type ObjectFactory,
  observedGeneration,
  rules,
  setOf,
  strict,
  subdomain,
  TIME_RULE,
  text,
  timestamp,
} from './schema.ts';

export const METRICS = ['cpu', 'memory', 'disk', 'network'] as const;
export type Metric = (typeof METRICS)[number];

/** Samples kept in a monitor's status. */
export const MAX_SAMPLES = 32;
/** A monitor never lives longer than this after its creation, whatever `until` says. */
export const MAX_MONITOR_MS = 3_600_000;

const count = () => z.int().min(0);
const figure = (words: string) => count().optional().describe(words);

const cpu = (object: ObjectFactory) =>
  object({
    usageMilliCores: figure('CPU time of the QEMU process: 1000 is one host CPU.'),
    percent: figure("0 to 100 of the VM's vCPUs."),
    perVcpu: z
      .array(object({ index: count().describe('Number of the vCPU.'), percent: count().describe('0 to 100.') }))
      .max(1024)
      .optional()
      .describe('Each vCPU by itself.'),
  });

const memory = (object: ObjectFactory) =>
  object({
    allocatedBytes: figure('What the VM was started with.'),
    residentBytes: figure('What the QEMU process occupies on the host.'),
    guestUsedBytes: figure('As the guest says.'),
    guestAvailableBytes: figure('As the guest says.'),
  });

const disk = (object: ObjectFactory) =>
  object({
    name: text(64).describe('Name of the disk.'),
    readBytesPerSecond: figure('Over intervalSeconds.'),
    writeBytesPerSecond: figure('Over intervalSeconds.'),
    readOpsPerSecond: figure('Over intervalSeconds.'),
    writeOpsPerSecond: figure('Over intervalSeconds.'),
    readLatencyMicros: figure('Mean of the interval, microseconds.'),
    writeLatencyMicros: figure('Mean of the interval, microseconds.'),
    readBytes: figure('Since the QEMU process started.'),
    writeBytes: figure('Since the QEMU process started.'),
    actualBytes: figure('Space that the file occupies on the host.'),
  });

const network = (object: ObjectFactory) =>
  object({
    name: text(64).describe('Name of the network.'),
    receiveBytesPerSecond: figure('Over intervalSeconds; receive is what the guest receives.'),
    transmitBytesPerSecond: figure('Over intervalSeconds.'),
    receivePacketsPerSecond: figure('Over intervalSeconds.'),
    transmitPacketsPerSecond: figure('Over intervalSeconds.'),
    receiveBytes: figure("Since the guest's interface came up, as its agent says."),
    transmitBytes: figure("Since the guest's interface came up, as its agent says."),
  });

/**
 * One measurement of a running VM. Integers only. A figure that cannot be known is absent and its reason stands in
 * `unavailable`; a zero was measured.
 */
export const sampleSchema = (object: ObjectFactory) =>
  object({
    at: timestamp().describe("The host's clock."),
    intervalSeconds: z.int().min(0).describe('Time over which the rates were taken, rounded.'),
    cpu: cpu(object).optional().describe('CPU.'),
    memory: memory(object).optional().describe('Memory.'),
    disks: z.array(disk(object)).max(64).optional().describe('Disks and CD-ROMs.'),
    networks: z.array(network(object)).max(16).optional().describe('Network interfaces.'),
    unavailable: z
      .array(
        object({
          metric: text(128).describe('The figure, as in networks[net0].receiveBytes.'),
          reason: text(256).describe('Why it cannot be known.'),
        }),
      )
      .max(32)
      .optional()
      .describe('Figures that cannot be known here.'),
  });

export type Sample = z.infer<ReturnType<typeof sampleSchema>>;

const spec = (object: ObjectFactory) =>
  object({
    virtualMachineName: subdomain(253).describe('The VirtualMachine of the same namespace.'),
    intervalSeconds: z.int().min(1).max(3600).default(5).describe('Time between samples.'),
    metrics: setOf(z.enum(METRICS), METRICS.length).optional().describe('What to measure. Absent: all.'),
    until: timestamp()
      .meta(rules(TIME_RULE))
      .describe('When the request ends; at most one hour after its creation counts.'),
  }).meta(rules({ rule: 'self == oldSelf', message: 'a monitor is immutable: create another' }));

const status = (object: ObjectFactory) =>
  object({
    observedGeneration: observedGeneration(),
    conditions: conditions(object),
    samples: z
      .array(
        object({
          sequence: z.int().min(1).describe('Counts from 1; a gap is a sample that was missed.'),
          sample: sampleSchema(object).describe('The figures.'),
        }),
      )
      .max(MAX_SAMPLES)
      .optional()
      .describe('The last samples, newest last.'),
  });

export const monitorSpec = { strict: spec(strict), lenient: spec(lenient) };
export const monitorStatus = status(lenient);

export type VirtualMachineMonitorSpec = z.infer<typeof monitorSpec.strict>;
export type VirtualMachineMonitorStatus = z.infer<typeof monitorStatus>;

export interface VirtualMachineMonitor {
  readonly apiVersion: string;
  readonly kind: 'VirtualMachineMonitor';
  readonly metadata: ObjectMeta & { readonly namespace: string };
  readonly spec: VirtualMachineMonitorSpec;
  readonly status?: VirtualMachineMonitorStatus | undefined;
}
