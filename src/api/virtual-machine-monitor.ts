/** The VirtualMachineMonitor, a request for samples of one VM, and the sample itself. */
import { z } from 'zod';
import type { ObjectMeta } from './meta.ts';
import {
  condition,
  lenient,
  listMap,
  type ObjectFactory,
  rules,
  strict,
  subdomain,
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

/**
 * One measurement of a running VM. Integers only. A figure that cannot be known is absent and its reason stands in
 * `unavailable`; a zero was measured.
 */
export const sampleSchema = (object: ObjectFactory) =>
  object({
    at: timestamp().describe("The host's clock."),
    intervalSeconds: z.int().min(0).describe('Time over which the rates were taken, rounded.'),
    cpu: object({
      usageMilliCores: count().optional(),
      percent: count().optional().describe("0 to 100 of the VM's vCPUs."),
      perVcpu: z
        .array(object({ index: count(), percent: count() }))
        .max(1024)
        .optional(),
    }).optional(),
    memory: object({
      allocatedBytes: count().optional(),
      residentBytes: count().optional(),
      guestUsedBytes: count().optional(),
      guestAvailableBytes: count().optional(),
    }).optional(),
    disks: z
      .array(
        object({
          name: text(64),
          readBytesPerSecond: count().optional(),
          writeBytesPerSecond: count().optional(),
          readOpsPerSecond: count().optional(),
          writeOpsPerSecond: count().optional(),
          readLatencyMicros: count().optional(),
          writeLatencyMicros: count().optional(),
          readBytes: count().optional(),
          writeBytes: count().optional(),
          actualBytes: count().optional(),
        }),
      )
      .max(64)
      .optional(),
    networks: z
      .array(
        object({
          name: text(64),
          receiveBytesPerSecond: count().optional(),
          transmitBytesPerSecond: count().optional(),
          receivePacketsPerSecond: count().optional(),
          transmitPacketsPerSecond: count().optional(),
          receiveBytes: count().optional(),
          transmitBytes: count().optional(),
        }),
      )
      .max(16)
      .optional(),
    unavailable: z
      .array(object({ metric: text(128), reason: text(256) }))
      .max(32)
      .optional(),
  });

export type Sample = z.infer<ReturnType<typeof sampleSchema>>;

const spec = (object: ObjectFactory) =>
  object({
    virtualMachineName: subdomain(253),
    intervalSeconds: z.int().min(1).max(3600).default(5),
    metrics: z.array(z.enum(METRICS)).max(METRICS.length).optional().describe('Absent: all.'),
    until: timestamp().describe('When the request ends; at most one hour after its creation counts.'),
  }).meta(rules({ rule: 'self == oldSelf', message: 'a monitor is immutable: create another' }));

const status = (object: ObjectFactory) =>
  object({
    observedGeneration: z.int().min(0).optional(),
    conditions: z.array(condition(object)).max(16).optional().meta(listMap('type')),
    samples: z
      .array(object({ sequence: z.int().min(1), sample: sampleSchema(object) }))
      .max(MAX_SAMPLES)
      .optional(),
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
