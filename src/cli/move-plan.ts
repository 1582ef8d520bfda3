/** What a move would do. All that can refuse it is asked here, before anything is written. */
import { isDeepStrictEqual } from 'node:util';
import { type Manifest, parseManifest } from '../api/admission.ts';
import { AlreadyExistsError, ConflictError, namespaceMissing } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import type { Credentials } from '../api/host-ssh.ts';
import { ANNOTATIONS, DEFAULT_NAMESPACE, type Kind, keyOf } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { Shell } from '../host/shell.ts';
import { isOrphaned, isPaused } from '../reconcile/decide.ts';
import { vmDirsOf } from '../reconcile/same-machine.ts';
import { withoutDefaults } from '../store/merge.ts';
import type { Applied, WriteOptions } from '../store/store.ts';
import { lookAtMachine } from '../takeover/machine.ts';
import { type Moved, movedHost, movedVm } from '../takeover/moved.ts';
import type { Context } from './context.ts';
import { CliError, EXIT, type Judge } from './exit-codes.ts';
import { whose } from './host-claim.ts';
import { hostCredentials, type SecretMove, secretOf } from './move-secrets.ts';
import { nameOf } from './resources.ts';
import { isFolder, type Session } from './session.ts';

export interface Sides {
  readonly from: Session;
  readonly to: Session;
}

export interface VmMove {
  readonly vm: VirtualMachine;
  readonly document: Moved<VirtualMachine['spec']>;
  readonly secret: SecretMove | undefined;
  /** What lies on the host is the other store's already. */
  readonly isTaken: boolean;
}

export interface HostMove {
  readonly host: Host;
  /** As the other store calls it. */
  readonly name: string;
  /** Where the other store has it already. */
  readonly there: Host | undefined;
  /** Of a Host that is to be made. */
  readonly credentials: Credentials | undefined;
  readonly vms: readonly VmMove[];
}

/** Written by verbs, and never into a manifest. */
const VERBS = ['powerState', 'restartedAt'];

/** Declares it in the other store; a second time, nothing changes. */
export function declareVm(
  { store }: Session,
  { document }: VmMove,
  dryRun: boolean,
): Promise<Applied<'VirtualMachine'>> {
  return store.apply(...written('VirtualMachine', document, { undeclared: VERBS, dryRun }));
}

export async function makeHost({ from, to }: Sides, move: HostMove, dryRun: boolean): Promise<void> {
  const secret = move.credentials === undefined ? undefined : move.name;
  const document = movedHost(move.host, { name: move.name, fromUID: from.store.uid, secret });
  await to.store.create(...written('Host', document, { dryRun }));
}

function written<K extends Kind>(
  kind: K,
  document: Moved<unknown>,
  options: WriteOptions,
): [Manifest<K>, WriteOptions] {
  const asWritten = withoutDefaults(kind, document.spec);
  return [parseManifest({ ...document, spec: asWritten }) as Manifest<K>, { ...options, asWritten }];
}

/** By uid, whose the VM folders are, as their records say. @throws CliError where one cannot be read */
export async function ownersOn(shell: Shell, host: Host, vms: readonly VirtualMachine[], signal: AbortSignal) {
  const { folders } = await lookAtMachine(shell, vmDirsOf(host, vms), signal);
  return new Set(
    folders.map(({ record, path }) => {
      if (record.kind === 'readable') return record.record.uid;
      throw new CliError(EXIT.failed, `${path}: its record cannot be read, so nobody knows whose it is: mend it first`);
    }),
  );
}

/** How this machine reaches the host: as the Host in the folder says, where there is one. */
export function shellTo({ from, to }: Sides, { host, there }: Pick<HostMove, 'host' | 'there'>): Shell {
  return there !== undefined && isFolder(to) ? to.shellFor(there) : from.shellFor(host);
}

export interface Naming {
  /** Its name in the other store. */
  readonly name: string;
  /** Names of all Hosts that move now. */
  readonly all: readonly string[];
}

/** Undefined where it is refused: why is with the judge. */
export async function planHost(
  { signal }: Context,
  sides: Sides,
  host: Host,
  { naming, judge }: { readonly naming: Naming; readonly judge: Judge },
): Promise<HostMove | undefined> {
  const { from, to } = sides;
  const there = await to.store.get('Host', { name: naming.name });
  const plan = await judge.judge(async () => {
    refuseState(host, host.metadata.name);
    if (there !== undefined) refuseOther(host, there);
    const credentials = there === undefined ? await hostCredentials(sides, host, naming) : undefined;
    await refuseOtherMarker(sides, host, shellTo(sides, { host, there }), signal);
    return { host, name: naming.name, there, credentials };
  });
  if (plan === undefined) return undefined;
  if (there === undefined) await judge.judge(() => makeHost(sides, { ...plan, vms: [] }, true));
  const items = (await from.store.list('VirtualMachine')).items.filter(
    ({ spec }) => spec.hostName === host.metadata.name,
  );
  const owners = await judge.judge(() => ownersOn(shellTo(sides, plan), host, items, signal));
  const vms: VmMove[] = [];
  for (const vm of owners === undefined ? [] : items) {
    const one = await judge.judge(() => planVm(sides, vm, naming.name, owners ?? new Set()));
    if (one !== undefined) vms.push(one);
  }
  return { ...plan, vms };
}

async function planVm(
  { from, to }: Sides,
  vm: VirtualMachine,
  hostName: string,
  owners: ReadonlySet<string>,
): Promise<VmMove> {
  const { metadata } = vm;
  const { namespace = DEFAULT_NAMESPACE, uid } = metadata;
  const name = keyOf(metadata);
  if (!(await to.store.hasNamespace(namespace))) throw namespaceMissing(namespace);
  refuseState(vm, name);
  const problem = from.store
    .problems()
    .find(({ kind, ref }) => kind === vm.kind && isDeepStrictEqual(keyOf(ref), name));
  if (problem !== undefined) throw new CliError(EXIT.failed, `${name}: ${problem.message}: mend it first`);
  const there = await to.store.get('VirtualMachine', metadata);
  const isTaken = there !== undefined && owners.has(there.metadata.uid);
  if (there !== undefined && !isTaken && there.metadata.annotations?.[ANNOTATIONS.adopt] !== uid)
    throw new AlreadyExistsError(`${nameOf({ kind: vm.kind, ref: metadata })} in ${namespace} is another one there`);
  // Who may not let it go here had better not begin.
  const annotations = { [ANNOTATIONS.orphan]: 'true' };
  await from.store.patch('VirtualMachine', metadata, { metadata: { annotations } }, { uid, dryRun: true });
  const move = { vm, document: movedVm(vm, hostName), isTaken };
  if (isTaken) return { ...move, secret: undefined };
  const secret = await secretOf({ from, to }, vm);
  await declareVm(to, { ...move, secret }, true);
  return { ...move, secret };
}

/** What was left in the middle of a move may go on. */
function refuseState({ metadata }: Host | VirtualMachine, name: string): void {
  if (isPaused(metadata))
    throw new CliError(EXIT.conflict, `${name} is paused: nothing of it is touched. Remove the annotation first`);
  if (metadata.deletionTimestamp !== undefined && !isOrphaned(metadata))
    throw new ConflictError(`${name} is being deleted`);
}

/** The Host that the other store has by this name is to be the same place. */
function refuseOther(host: Host, there: Host): void {
  const name = `host/${there.metadata.name}`;
  refuseState(there, `${name} in the other store`);
  if (there.spec.vmDir !== host.spec.vmDir)
    throw new ConflictError(`${name} in the other store has vmDir ${there.spec.vmDir}, not ${host.spec.vmDir}`);
  const [here, other] = [host, there].map(({ metadata }) => metadata.annotations?.[ANNOTATIONS.claimed]);
  if (here !== undefined && other !== undefined && here !== other)
    throw new ConflictError(`${name} in the other store is another machine: ${other}, not ${here}`);
}

/** A vmDir that cannot be seen, or is a third store's, is not moved. */
async function refuseOtherMarker({ from, to }: Sides, host: Host, shell: Shell, signal: AbortSignal): Promise<void> {
  const claimed = host.metadata.annotations?.[ANNOTATIONS.claimed];
  if (claimed === undefined) return;
  const name = host.metadata.name;
  const { storeUID, machineID } = await whose({ signal }, { shellFor: () => shell }, host);
  if (machineID !== claimed) throw new ConflictError(`host/${name} is machine ${machineID} now, and was ${claimed}`);
  if (storeUID !== from.store.uid && storeUID !== to.store.uid)
    throw new ConflictError(
      storeUID === 'none'
        ? `host/${name}: ${host.spec.vmDir} has no marker: a file system that is not mounted looks like this`
        : `host/${name}: ${host.spec.vmDir} is claimed by another store (uid ${storeUID})`,
    );
}
