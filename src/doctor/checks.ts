/** All that the doctor says of a machine, its store and its service. Pure: what was seen goes in, checks come out. */
import { findCondition } from '../api/conditions.ts';
import { oneLine } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { HostFacts } from '../reconcile/observed.ts';
import { type Check, ok, problem, warning } from './check.ts';
import { storeFolderCheck, vmDirChecks } from './folder-checks.ts';
import type { MachineFacts } from './machine.ts';
import { nodeCheck } from './node-version.ts';
import { qemuChecks } from './qemu-checks.ts';
import type { ServiceState } from './service.ts';
import { type Holder, serviceChecks } from './service-checks.ts';

/** QEMU opens one file per disk and socket; the controller a few per VM. */
const FEW_FILES = 4_096;
const MOST_MESSAGE = 500;

/** What a store says; a store that cannot be opened says why. */
export interface StoreView {
  readonly hosts: readonly Host[];
  readonly vms: readonly VirtualMachine[];
  /** Manifests and objects that do not count, a sentence each. */
  readonly problems: readonly string[];
}

export interface Examined {
  /** How a person calls qemu-operator. */
  readonly invokedAs: string;
  readonly nodeVersion: string;
  readonly machine: MachineFacts;
  readonly facts: HostFacts;
  readonly service: ServiceState;
  readonly holder: Holder | undefined;
  readonly storeDir: string;
  /** Of the Host of this machine. */
  readonly vmDir: string;
  /** Undefined: there is none yet. */
  readonly store: StoreView | { readonly failure: string } | undefined;
}

export const LOCALHOST = 'localhost';

export function examine(examined: Examined): Check[] {
  const { machine, facts, service, holder, storeDir, vmDir, store, invokedAs } = examined;
  const view = store === undefined || 'failure' in store ? undefined : store;
  const host = view?.hosts.find(({ metadata }) => metadata.name === LOCALHOST);
  const vms = (view?.vms ?? []).filter(({ spec }) => spec.hostName === LOCALHOST);
  return [
    nodeCheck(examined.nodeVersion),
    ...qemuChecks({ machine, facts, host, vms }),
    ...vmDirChecks(vmDir, machine),
    store !== undefined && 'failure' in store
      ? problem('store', store.failure, 'do what the message says, or choose another store with --store')
      : storeFolderCheck(storeDir, machine),
    ...(view === undefined ? [] : objectChecks(view, invokedAs)),
    ...serviceChecks(service, holder, { store: storeDir, invokedAs }),
    ...groupCheck(vms, examined),
    ...limitChecks(machine),
  ];
}

/** A host behind SSH: what of a machine counts where nothing of ours runs but QEMU. */
export interface ExaminedRemote extends Pick<Examined, 'machine' | 'facts'> {
  readonly host: Host;
  readonly vms: readonly VirtualMachine[];
  readonly user: string;
}

export function examineRemote({ machine, facts, host, vms, user }: ExaminedRemote): Check[] {
  const { name } = host.metadata;
  return [
    ok('ssh', `logged in to ${name} as ${user}, and scripts run`),
    ...qemuChecks({ machine, facts, host, vms }),
    ...vmDirChecks(host.spec.vmDir, machine),
    ...hostsChecks([host], 'qemu-operator'),
  ];
}

/** What the controller says of Hosts that are not ready. */
function hostsChecks(hosts: readonly Host[], invokedAs: string): Check[] {
  const away = hosts.flatMap(({ metadata, status }) => {
    const ready = findCondition(status?.conditions, 'Ready');
    if (ready === undefined)
      return [warning('hosts', `Host ${metadata.name} was never looked at: no controller ran`, `${invokedAs} run`)];
    if (ready.status === 'True') return [];
    const message = `Host ${metadata.name}: ${ready.reason}: ${oneLine(ready.message, MOST_MESSAGE)}`;
    return [problem('hosts', message, `${invokedAs} describe qhost ${metadata.name}`)];
  });
  return away.length > 0 ? away : [ok('hosts', `${hosts.length} ready`)];
}

function objectChecks({ hosts, vms, problems }: StoreView, invokedAs: string): Check[] {
  const manifests = problems.map((sentence) =>
    problem('manifests', oneLine(sentence, MOST_MESSAGE), 'correct the file'),
  );
  const stalled = vms.flatMap(({ metadata, status }) => {
    const found = findCondition(status?.conditions, 'Stalled');
    if (found?.status !== 'True') return [];
    const message = `machine ${metadata.namespace}/${metadata.name}: ${found.reason}: ${oneLine(found.message, MOST_MESSAGE)}`;
    return [problem('machines', message, `${invokedAs} describe qvm ${metadata.name} -n ${metadata.namespace}`)];
  });
  return [
    ...(manifests.length > 0 ? manifests : [ok('manifests', 'every manifest counts')]),
    ...hostsChecks(hosts, invokedAs),
    ...(stalled.length > 0 ? stalled : [ok('machines', `${vms.length}, none stalled`)]),
  ];
}

/** QEMU in the control group of a login ends with it, and at shutdown before it could be stopped in order. */
function groupCheck(vms: readonly VirtualMachine[], { machine, service, invokedAs }: Examined): Check[] {
  if (!service.systemd) return [];
  const astray = vms.filter(({ status }) => {
    const group = status?.pid === undefined ? undefined : machine.groups.get(status.pid);
    return group !== undefined && /\.scope(\/|$)/.test(group) && !group.includes('/qemu-operator.service');
  });
  if (astray.length === 0) return [];
  const names = astray.map(({ metadata }) => metadata.name).join(' ');
  return [
    warning(
      'logins',
      `machines that were started from a login may end with it, and are not stopped in order at shutdown: ${names}`,
      `once the service is active: ${invokedAs} restart ${names}`,
    ),
  ];
}

function limitChecks({ openFiles, oomdUnits }: MachineFacts): Check[] {
  const files =
    openFiles !== undefined && openFiles < FEW_FILES
      ? [
          warning(
            'open-files',
            `the controller may open ${openFiles} files, too few for many machines`,
            'systemctl edit qemu-operator, and set LimitNOFILE=65536 below [Service]',
          ),
        ]
      : [];
  const oomd =
    oomdUnits.length > 0
      ? [
          warning(
            'oomd',
            `where memory runs short systemd-oomd may end all machines at once (${oomdUnits.join(', ')})`,
            'set ManagedOOMMemoryPressure=auto and ManagedOOMSwap=auto there with systemctl edit',
          ),
        ]
      : [];
  return [...files, ...oomd];
}
