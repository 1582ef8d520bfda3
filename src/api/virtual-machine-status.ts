/** What was last seen of a VM. Output only: nothing reads it back to decide. */
import { z } from 'zod';
import { conditions, lenient, listMap, type ObjectFactory, observedGeneration, text, timestamp } from './schema.ts';
import { sampleSchema } from './virtual-machine-monitor.ts';

const PHASES = [
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
] as const;

const disk = (object: ObjectFactory) =>
  object({
    name: text(32).describe("The disk's name in the spec."),
    path: text(1024).describe('The file or block device on the host.'),
    format: text(16).optional().describe('As the record on the host says.'),
    virtualSize: text(32).optional().describe('Capacity as the guest sees it.'),
    state: z
      .enum(['Pending', 'Creating', 'Created', 'Attached', 'Missing', 'Detached', 'Deleted', 'Kept'])
      .describe(
        'Created: made for this VM. Attached: existed before it. Missing: not to be found. Detached: no longer in the spec.',
      ),
    reclaim: z.enum(['Delete', 'Retain']).optional().describe('What deletion of the VM does with the file.'),
    sharedWith: text(128).optional().describe('Another VM that has the file as its disk too: so long it stays.'),
  });

const forward = (object: ObjectFactory) =>
  object({
    protocol: text(8).describe('TCP or UDP.'),
    hostAddress: text(15).describe("The host's address that listens."),
    hostPort: z.int().describe("The host's port."),
    guestPort: z.int().describe('The port of the guest that it leads to.'),
  });

const seen = (object: ObjectFactory) => ({
  uuid: text(36).optional().describe('SMBIOS uuid, as kept on the host.'),
  pid: z.int().optional().describe('Process id of QEMU on the host.'),
  startedAt: timestamp().optional().describe('When the QEMU process started.'),
  accelerator: text(16).optional().describe('KVM or TCG, as running.'),
  acceleratorReason: text(256).optional().describe('Why this accelerator.'),
  machine: text(64).optional().describe("QEMU's versioned machine type, as running."),
  qemuVersion: text(32).optional().describe('Version of the running QEMU.'),
  folder: text(1024).optional().describe("The VM's own folder on the host."),
  vcpus: z.int().optional().describe('vCPUs of the running process.'),
  memory: text(32).optional().describe('Memory of the running process.'),
  disks: z
    .array(disk(object))
    .max(64)
    .optional()
    .meta(listMap('name'))
    .describe('Disks of the spec, and those that were taken out of it.'),
  interfaces: z
    .array(
      object({
        name: text(32).describe("The network's name in the spec."),
        mac: text(17).describe('MAC address that the guest sees.'),
        ips: z
          .array(text(45))
          .max(16)
          .optional()
          .describe('Addresses that the guest has there; absent where unknown: see docs/concepts/guest-agent.md.'),
        bridge: text(15).optional().describe('The bridge of the host that it is joined to.'),
        forwards: z
          .array(forward(object))
          .max(32)
          .optional()
          .describe('Ports of the host that lead to the guest, those that were chosen included.'),
      }),
    )
    .max(16)
    .optional()
    .meta(listMap('name'))
    .describe('Network interfaces of the running process.'),
  ports: text(256).optional().describe('The forwards in short, as 127.0.0.1:2222->22/TCP; cut where they are many.'),
});

const guest = (object: ObjectFactory) =>
  object({
    os: text(128).optional().describe('Operating system, in its own words.'),
    kernel: text(128).optional().describe('Version of its kernel.'),
    hostname: text(128).optional().describe('Name that the guest gives itself.'),
    clockOffsetSeconds: z
      .int()
      .optional()
      .describe("How far the guest's clock is ahead of the host's, in steps of 10; absent where it is nearer."),
  });

const pendingChange = (object: ObjectFactory) =>
  object({
    path: text(256).describe('The field, as in spec.disks[root].'),
    from: text(256).optional().describe('Value of the running process; absent where it has none.'),
    to: text(256).optional().describe('Value of the spec; absent where it was taken out.'),
  });

const historyLine = (object: ObjectFactory) =>
  object({
    at: timestamp().describe("When, by the host's clock."),
    reason: text(64).describe("Ready's reason from then on."),
    message: text(512).describe("Ready's message from then on."),
  });

const lastExit = (object: ObjectFactory) =>
  object({
    reason: text(64).describe('What ended it, from evidence on the host: see docs/concepts/ends.md.'),
    message: text(1024).describe('The evidence in one sentence.'),
    at: timestamp().describe('When the end was found.'),
  });

const status = (object: ObjectFactory) =>
  object({
    observedGeneration: observedGeneration(),
    phase: z.enum(PHASES).optional().describe('One word for people; read the conditions in programs.'),
    message: text(1024).optional().describe('Why the VM is as it is, in one sentence.'),
    conditions: conditions(object),
    ...seen(object),
    guest: guest(object).optional().describe("What the guest's agent says of it; a guest may say anything."),
    pendingChanges: z
      .array(pendingChange(object))
      .max(64)
      .optional()
      .describe('What the running process lacks of the spec until its next start.'),
    lastExit: lastExit(object).optional().describe('How the last QEMU process ended.'),
    restarts: z.int().min(0).optional().describe('How often restartPolicy started the VM again.'),
    nextAttemptAt: timestamp().optional().describe('When the back-off ends.'),
    leftBehind: z
      .array(text(1024))
      .max(64)
      .optional()
      .describe("Files that stay in the VM's folder after a deletion: not made for it, or kept."),
    history: z.array(historyLine(object)).max(20).optional().describe('The last changes of Ready, newest last.'),
    metrics: sampleSchema(object).optional().describe("The last sample at the Host's interval."),
  });

export const virtualMachineStatus = status(lenient);
