/**
 * The ownership record: the file in a VM's folder that says whose it is, which disks were made, and what was last
 * started. It is the only memory between two looks, and it lies on the host, beside what it speaks of.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { ExitReason } from '../api/conditions.ts';
import { forwardsOf, type LaunchSpec } from '../api/effective-spec.ts';
import type { HostForward } from '../api/networks.ts';

export const RECORD_VERSION = 1;

const exitReasons = [
  'StoppedByRequest',
  'HostShutdown',
  'HostRebooted',
  'Crashed',
  'Signaled',
  'GuestPanicked',
  'InternalError',
  'StoppedExternally',
  'GuestPoweredOff',
] as const satisfies readonly ExitReason[];

const protocols = z.enum(['TCP', 'UDP']);

const forwardSchema = z.object({
  protocol: protocols,
  hostAddress: z.string(),
  guestPort: z.number(),
  hostPort: z.number().optional(),
  allocated: z.literal(true).optional(),
  /** A change of a running VM's forwards is under way, or was cut off. */
  changing: z.literal(true).optional(),
});

const launchSpecSchema = z.object({
  uuid: z.string(),
  architecture: z.enum(['x86_64', 'arm64']),
  vcpus: z.number(),
  memoryMiB: z.number(),
  firmware: z.enum(['BIOS', 'UEFI']),
  accelerator: z.enum(['Auto', 'KVM', 'TCG']),
  disks: z.array(z.object({ name: z.string(), path: z.string(), format: z.enum(['qcow2', 'raw']) })),
  cdroms: z.array(z.object({ name: z.string(), path: z.string() })),
  networks: z.array(
    z.object({
      name: z.string(),
      mac: z.string(),
      bridge: z.string().optional(),
      forwards: z.array(forwardSchema).optional(),
    }),
  ),
  vnc: z.boolean(),
  cloudInit: z
    .object({
      hostname: z.string(),
      user: z.string().optional(),
      userData: z.string().optional(),
      networkData: z.string().optional(),
      sshAuthorizedKeys: z.string().optional(),
    })
    .optional(),
});

const recordSchema = z.object({
  recordVersion: z.literal(RECORD_VERSION),
  uid: z.string().min(1),
  storeUID: z.string().min(1),
  namespace: z.string(),
  name: z.string(),
  uuid: z.string(),
  disks: z.record(
    z.string(),
    z.object({
      path: z.string(),
      format: z.enum(['qcow2', 'raw']),
      /** creating: qemu-img may have been interrupted. created: made by us. attached: existed before us. */
      state: z.enum(['creating', 'created', 'attached']),
      /** The largest size that was ever in force, bytes. */
      sizeBytes: z.number().optional(),
      reclaimPolicy: z.enum(['Delete', 'Retain']).optional(),
    }),
  ),
  /** The restartedAt that was last answered by a launch. */
  nonce: z.string().optional(),
  /** The VM was seen switched off with no process: switching it on starts it under every policy. */
  off: z.boolean().optional(),
  restarts: z.number().default(0),
  /** Ports of the host that were chosen for forwards without one, kept from start to start. */
  ports: z
    .array(
      z.object({
        network: z.string(),
        protocol: protocols,
        hostAddress: z.string(),
        hostPort: z.number(),
        guestPort: z.number(),
        /** How often in a row QEMU could not have a port that was chosen here. */
        refusals: z.number().optional(),
      }),
    )
    .optional(),
  launch: z
    .object({
      /** starting: QEMU was about to be run; running: its monitor was seen to listen. */
      state: z.enum(['starting', 'running']),
      spec: launchSpecSchema,
      bootID: z.string(),
      /** Host clock, ms. */
      at: z.number(),
      pid: z.number().optional(),
      /** Start of the process in clock ticks since boot: with the pid, its identity. */
      startTicks: z.number().optional(),
      accelerator: z.enum(['KVM', 'TCG']),
      acceleratorReason: z.string().optional(),
      qemuVersion: z.string(),
    })
    .optional(),
  end: z
    .object({
      reason: z.enum(exitReasons),
      message: z.string(),
      /** Host clock, ms. */
      at: z.number(),
      /** Crashes in a row, this one included; 0 for an end that is none. */
      crashes: z.number(),
      /** What had been started: another spec ends the back-off. */
      digest: z.string(),
    })
    .optional(),
});

export type OwnershipRecord = z.infer<typeof recordSchema>;
export type AllocatedPort = NonNullable<OwnershipRecord['ports']>[number];
export type DiskRecord = OwnershipRecord['disks'][string];
export type LaunchRecord = Omit<NonNullable<OwnershipRecord['launch']>, 'spec'> & { readonly spec: LaunchSpec };

/** A port that looks free and that QEMU cannot have is another's in a way that no look shows; this often, another one is tried. */
export const MAX_REFUSALS = 5;

/** Whether a port was chosen for this forward. */
export function samePort(port: AllocatedPort, forward: HostForward & { readonly network: string }): boolean {
  return (
    port.network === forward.network &&
    port.protocol === forward.protocol &&
    port.hostAddress === forward.hostAddress &&
    port.guestPort === forward.guestPort
  );
}

/** The ports that were chosen for a launch: what the record keeps of it. */
export function allocatedPorts(spec: LaunchSpec): AllocatedPort[] {
  return forwardsOf(spec).flatMap(({ network, protocol, hostAddress, hostPort, guestPort, allocated }) =>
    allocated === true && hostPort !== undefined ? [{ network, protocol, hostAddress, hostPort, guestPort }] : [],
  );
}

/**
 * The record after QEMU could not have a port: where it was one that was chosen, another one is next.
 * @param said QEMU's words, which hold the rule that failed
 */
export function withRefusals(record: OwnershipRecord, tried: LaunchSpec, said: string): OwnershipRecord | undefined {
  const ports = allocatedPorts(tried).map((port): AllocatedPort => {
    const refused = said.includes(`${port.hostAddress}:${port.hostPort}-`);
    const refusals = record.ports?.find((one) => samePort(one, port))?.refusals ?? 0;
    return refused ? { ...port, refusals: Math.min(refusals, MAX_REFUSALS) + 1 } : port;
  });
  return ports.some(({ refusals }) => refusals !== undefined) ? { ...record, ports } : undefined;
}

/** reclaimPolicy absent: what we created goes with the VM, what existed stays. */
export function reclaimOf(
  state: 'creating' | 'created' | 'attached' | undefined,
  policy: 'Delete' | 'Retain' | undefined,
): 'Delete' | 'Retain' {
  return policy ?? (state === 'attached' ? 'Retain' : 'Delete');
}

export type RecordState =
  | { readonly kind: 'absent' }
  | { readonly kind: 'readable'; readonly record: OwnershipRecord }
  /** Written by a later version: read-only for us. */
  | { readonly kind: 'too-new'; readonly version: number }
  | { readonly kind: 'invalid'; readonly message: string };

/** The record as its file holds it: one line, guarded against damage. */
export function recordText(record: OwnershipRecord): string {
  return JSON.stringify({ ...record, checksum: recordChecksum(record) });
}

/** Of all but the figures that the host fills in as it writes: times, pid and start of a process. */
function recordChecksum(record: object): string {
  const { checksum: _own, launch, end, ...rest } = record as { checksum?: unknown; launch?: unknown; end?: unknown };
  return checksum([rest, without(launch, ['at', 'pid', 'startTicks']), without(end, ['at'])]);
}

function without(value: unknown, fields: readonly string[]): unknown {
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).filter(([name]) => !fields.includes(name)));
}

/** Equal for equal JSON, whatever the order of its fields. */
function checksum(value: unknown): string {
  const sorted = (_name: string, one: unknown) =>
    typeof one === 'object' && one !== null && !Array.isArray(one)
      ? Object.fromEntries(Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1)))
      : one;
  return createHash('sha256').update(JSON.stringify(value, sorted)).digest('hex').slice(0, 16);
}

/** Files of before there were checksums have none. */
function isDamaged(value: unknown, expected: (value: object) => string): boolean {
  if (typeof value !== 'object' || value === null || !('checksum' in value)) return false;
  return value.checksum !== expected(value);
}

/** @param text the file's content; undefined where there is no file */
export function parseRecord(text: string | undefined): RecordState {
  if (text === undefined) return { kind: 'absent' };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { kind: 'invalid', message: 'it is not JSON' };
  }
  const version = (value as { recordVersion?: unknown } | null)?.recordVersion;
  if (typeof version === 'number' && version > RECORD_VERSION) return { kind: 'too-new', version };
  const result = recordSchema.safeParse(value);
  if (result.success && isDamaged(value, recordChecksum))
    return { kind: 'invalid', message: 'its checksum does not match: it was damaged or edited' };
  if (result.success) return { kind: 'readable', record: result.data };
  const issue = result.error.issues[0];
  return { kind: 'invalid', message: `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'unknown form'}` };
}

/** What we asked a QEMU process to do before it ends; written before the asking, so that its end is not guessed. */
const stopMarkerSchema = z.object({
  reason: z.enum(['StoppedByRequest', 'HostShutdown', 'GuestPanicked', 'InternalError']),
  /** The process it speaks of; a marker of an earlier process says nothing. */
  pid: z.number(),
  startTicks: z.number(),
  /** Host clock, ms: when the stop began, and when each step was last taken. */
  at: z.number(),
  powerdownAt: z.number().optional(),
  quitAt: z.number().optional(),
  terminateAt: z.number().optional(),
  /** The VM was wanted on again before it ended: a later stop begins anew. */
  withdrawn: z.boolean().optional(),
});
export type StopMarker = z.infer<typeof stopMarkerSchema>;

export function parseStopMarker(text: string | undefined): StopMarker | undefined {
  if (text === undefined) return undefined;
  try {
    return stopMarkerSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/** The marker of a vmDir: who claimed it, and the fence. */
const markerSchema = z.object({
  storeUID: z.string().min(1),
  hostUID: z.string().min(1),
  epoch: z.number().int().min(1),
  session: z.object({ pid: z.number(), startTicks: z.number() }).optional(),
});
export type Marker = z.infer<typeof markerSchema>;

export type MarkerState =
  | { readonly kind: 'absent' }
  /** `line` is the marker as it stands in the file: a claim replaces just that. */
  | { readonly kind: 'readable'; readonly marker: Marker; readonly line: string }
  | { readonly kind: 'invalid' };

/** The marker as its file holds it: one line, guarded against damage. */
export function markerText(marker: Marker): string {
  return JSON.stringify({ ...marker, checksum: markerChecksum(marker) });
}

/** Of all but the session, which the host fills in. */
function markerChecksum(marker: object): string {
  const { storeUID, hostUID, epoch } = marker as Partial<Marker>;
  return checksum([storeUID, hostUID, epoch]);
}

export function parseMarker(text: string | undefined): MarkerState {
  if (text === undefined) return { kind: 'absent' };
  try {
    const value: unknown = JSON.parse(text);
    const result = markerSchema.safeParse(value);
    return result.success && !isDamaged(value, markerChecksum)
      ? { kind: 'readable', marker: result.data, line: text }
      : { kind: 'invalid' };
  } catch {
    return { kind: 'invalid' };
  }
}
