/**
 * The manifest of a VM whose object is gone, made again from the ownership record in its folder, so that its process
 * notices nothing. Pure.
 */
import { effectiveSpec, type LaunchSpec, type PendingChange, pendingChanges } from '../api/effective-spec.ts';
import type { Host } from '../api/host.ts';
import { ANNOTATIONS, API_VERSION } from '../api/meta.ts';
import { formatQuantity } from '../api/quantity.ts';
import type { VirtualMachine, VirtualMachineSpec } from '../api/virtual-machine.ts';
import type { OwnershipRecord } from '../reconcile/record.ts';
import { restoredSpec } from '../reconcile/recorded-spec.ts';
import type { VmFolder } from './machine.ts';

export interface Rebuilt {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly annotations: Readonly<Record<string, string>>;
  };
  readonly apiVersion: string;
  readonly kind: 'VirtualMachine';
  readonly spec: VirtualMachineSpec;
}

export interface Adoption {
  readonly manifest: Rebuilt;
  /** What the running process waits for a restart with, as before. */
  readonly waiting: readonly PendingChange[];
  /** What the host does not hold, one sentence each. */
  readonly warnings: readonly string[];
}

interface Source {
  readonly spec: VirtualMachineSpec;
  readonly warnings: readonly string[];
}

/** undefined where its record holds neither spec nor launch. */
export function adoption(folder: VmFolder, record: OwnershipRecord, host: Host): Adoption | undefined {
  const source = sourceOf(record);
  if (source === undefined) return undefined;
  const { powerState: _before, restartedAt: _asked, ...wanted } = source.spec;
  const { namespace, name } = record;
  const placed: VirtualMachineSpec = {
    ...wanted,
    hostName: host.metadata.name,
    ...(folder.name === name ? {} : { vmName: folder.name }),
    ...(folder.vmDir === host.spec.vmDir ? {} : { vmDir: folder.vmDir }),
    uuid: wanted.uuid ?? record.uuid,
    // What runs goes on, what does not stays off until somebody starts it.
    ...(folder.process === undefined ? { powerState: 'PoweredOff' as const } : {}),
    ...(record.nonce === undefined ? {} : { restartedAt: record.nonce }),
  };
  const whole = { ...placed, networks: networksWithMacs(placed, record, host) };
  const waiting = waitingFor(whole, folder, record, host);
  const held = waiting.length > 0 && whole.updateStrategy.type === 'Restart';
  const spec = held ? { ...whole, updateStrategy: { type: 'OnRestart' as const } } : whole;
  const annotations = { [ANNOTATIONS.adopt]: record.uid };
  return {
    manifest: { apiVersion: API_VERSION, kind: 'VirtualMachine', metadata: { name, namespace, annotations }, spec },
    waiting,
    warnings: [
      ...source.warnings,
      ...(held ? ['spec.updateStrategy was Restart, and would restart it now: it is left out'] : []),
    ],
  };
}

function waitingFor(
  spec: VirtualMachineSpec,
  folder: VmFolder,
  record: OwnershipRecord,
  host: Host,
): readonly PendingChange[] {
  if (folder.process === undefined || record.launch === undefined) return [];
  return pendingChanges(record.launch.spec as LaunchSpec, effectiveSpec(asVm(spec, record), host).launch);
}

function asVm(spec: VirtualMachineSpec, { name, namespace }: OwnershipRecord): VirtualMachine {
  const metadata = { name, namespace, uid: '', resourceVersion: '', generation: 1, creationTimestamp: '' };
  return { apiVersion: API_VERSION, kind: 'VirtualMachine', metadata, spec };
}

function sourceOf(record: OwnershipRecord): Source | undefined {
  const restored = record.spec && restoredSpec(record.spec);
  if (restored !== undefined) {
    const lost = restored.lost.map((path) => `${path} is not kept on the host: give it again before a restart`);
    return { spec: restored.spec, warnings: lost };
  }
  const launch = record.launch as { readonly spec: LaunchSpec } | undefined;
  return launch && fromLaunch(launch.spec, record);
}

/** Records of before they kept the spec: what the process was started from is all there is. */
function fromLaunch(launch: LaunchSpec, record: OwnershipRecord): Source {
  const { architecture, vcpus, memoryMiB, firmware, accelerator, cdroms, networks, vnc, cloudInit } = launch;
  const spec: VirtualMachineSpec = {
    uuid: launch.uuid,
    architecture,
    restartPolicy: 'OnFailure',
    vcpus,
    memory: `${memoryMiB}Mi`,
    firmware: { type: firmware },
    accelerator,
    disks: launch.disks.map((disk) => ({ ...disk, ...diskFields(record.disks[disk.name]) })),
    ...(cdroms.length === 0 ? {} : { cdroms: cdroms.map((one) => ({ ...one })) }),
    networks: networks.map(({ name, mac, bridge, forwards = [] }) => ({
      name,
      mac,
      ...(bridge === undefined
        ? { user: forwards.length === 0 ? {} : { hostForwards: forwards.map(askedForward) } }
        : { bridge: { name: bridge } }),
    })),
    graphics: vnc ? { vnc: {} } : {},
    powerOff: { mode: 'TrySoft', gracePeriodSeconds: 30 },
    updateStrategy: { type: 'OnRestart' },
    ...(cloudInit === undefined ? {} : { cloudInit: { hostname: cloudInit.hostname } }),
  };
  const fields = 'spec.restartPolicy, spec.powerOff and spec.updateStrategy';
  return {
    spec,
    warnings: [
      `${fields} are not kept in a record this old: the defaults hold`,
      ...(cloudInit === undefined
        ? []
        : ['what spec.cloudInit held is not kept on the host: give it again before a restart']),
    ],
  };
}

/** An existing file is as large as it is. */
function diskFields(noted: OwnershipRecord['disks'][string] | undefined) {
  const sized = noted?.state === 'created' && noted.sizeBytes !== undefined;
  return {
    ...(sized ? { size: formatQuantity(noted.sizeBytes ?? 0) } : {}),
    ...(noted?.reclaimPolicy === undefined ? {} : { reclaimPolicy: noted.reclaimPolicy }),
  };
}

type Forward = NonNullable<LaunchSpec['networks'][number]['forwards']>[number];

/** A port that was chosen is kept in the record, and asked for again as one to choose. */
function askedForward({ protocol, hostAddress, hostPort, guestPort, allocated }: Forward) {
  return {
    protocol,
    hostAddress,
    ...(allocated === true || hostPort === undefined ? {} : { hostPort }),
    guestPort,
  };
}

type Networks = NonNullable<VirtualMachineSpec['networks']>;

/** Addresses are written out: they would else follow the new object's names. */
function networksWithMacs(spec: VirtualMachineSpec, record: OwnershipRecord, host: Host): Networks {
  const { networks: wanted } = effectiveSpec(asVm(spec, record), host).launch;
  const running = record.launch?.spec.networks ?? [];
  const networks: Networks = spec.networks ?? wanted.map(({ name }) => ({ name, user: {} }));
  return networks.map((network) => {
    const named = ({ name }: { readonly name: string }) => name === network.name;
    const mac = network.mac ?? running.find(named)?.mac ?? wanted.find(named)?.mac;
    return mac === undefined ? network : { ...network, mac };
  });
}
