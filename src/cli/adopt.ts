/** adopt: VM folders whose object is gone get one again, made from their records; what runs there notices nothing. */
import type { Command } from 'commander';
import { parseManifest } from '../api/admission.ts';
import { findCondition } from '../api/conditions.ts';
import { vmNameOf } from '../api/effective-spec.ts';
import { AlreadyExistsError, ConflictError, NotFoundError, nearNames } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import { DEFAULT_NAMESPACE, keyOf } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import { vmDirsOf } from '../reconcile/same-machine.ts';
import { withoutDefaults } from '../store/merge.ts';
import type { Adoption } from '../takeover/adopt.ts';
import { adoption } from '../takeover/adopt.ts';
import { lookAtMachine, type VmFolder } from '../takeover/machine.ts';
import { afterChange } from './after-change.ts';
import { type Context, type Declare, examples, type Globals, print, tell, withSession } from './context.ts';
import { CliError, EXIT, Judge, usageError } from './exit-codes.ts';
import { yamlText } from './output.ts';
import { nameOf, requireObject, type Target } from './resources.ts';
import type { Session } from './session.ts';
import { addWaitOptions, type WaitOptions } from './wait-options.ts';

interface AdoptOptions extends Globals, WaitOptions {
  readonly host: string;
  readonly all?: boolean;
  readonly dryRun?: boolean;
}

export const declareAdopt: Declare = (command, context) => {
  command
    .argument('[folder...]', 'folders that describe qhost lists without an object')
    .option('--host <name>', 'Host on which it lies', 'localhost')
    .option('--all', 'all of them that are of the namespace')
    .option('--dry-run', 'print the manifest, say what would change, and write nothing');
  addWaitOptions(command, 'wait until it is taken over (default: only where no controller runs)');
  command.action(async (names: string[], _options, self: Command) =>
    adopt(context, names, self.optsWithGlobals<AdoptOptions>()),
  );
  examples(command, [
    ['What would be written, and what happens to the machine', 'adopt web-1 --dry-run'],
    ['Take web-1 over as it runs', 'adopt web-1'],
    ['Everything on a host that lost its objects', 'adopt --all --host rack1-h3 -n prod'],
  ]);
};

/** What is on the host, beside what the store has. */
interface Around {
  readonly host: Host;
  readonly vms: readonly VirtualMachine[];
  readonly folders: readonly VmFolder[];
}

interface Found extends Adoption {
  readonly folder: VmFolder;
}

async function adopt(context: Context, names: readonly string[], options: AdoptOptions): Promise<void> {
  if ((names.length === 0) !== (options.all === true)) throw usageError('give either names or --all');
  const namespace = options.namespace ?? DEFAULT_NAMESPACE;
  await withSession(context, options, async (session) => {
    const around = await lookAround(session, options.host, context.signal);
    tellIfAnothers(context, around.host);
    const judge = new Judge();
    const found: Found[] = [];
    const asked = options.all === true ? unclaimedIn(around, namespace) : [...new Set(names)];
    for (const folder of asked) {
      const one = await judge.judge(() =>
        adoptable(around, typeof folder === 'string' ? chosen(around, folder) : folder, namespace),
      );
      if (one !== undefined) found.push(one);
    }
    judge.throwIfRefused();
    if (found.length === 0)
      tell(context, `no folder of namespace ${namespace} on ${options.host} is without an object`);
    for (const one of found) {
      tellOf(context, one);
      if (options.dryRun === true) context.stdout.write(`${found.length > 1 ? '---\n' : ''}${manifestText(one)}`);
    }
    const targets: Target[] = [];
    for (const { manifest } of found) targets.push(await write(session, manifest, options.dryRun === true));
    if (options.dryRun === true) return;
    for (const target of targets) print(context, `${nameOf(target)} created`);
    if (targets.length > 0) await afterChange(context, session, targets, options);
  });
}

async function lookAround({ store, shellFor }: Session, hostName: string, signal: AbortSignal): Promise<Around> {
  const host = await requireObject(store, { kind: 'Host', ref: { name: hostName } });
  const { items: vms } = await store.list('VirtualMachine');
  const { folders } = await lookAtMachine(shellFor(host), vmDirsOf(host, vms), signal);
  return { host, vms, folders };
}

/** As last seen: nothing is taken over in a vmDir that is another store's. */
function tellIfAnothers(context: Context, { metadata, status }: Host): void {
  const claimed = findCondition(status?.conditions, 'Claimed');
  if (claimed?.status === 'False') tell(context, `Warning: Host ${metadata.name}: ${claimed.message}`);
}

function ownerOf({ vms }: Around, { record }: VmFolder): VirtualMachine | undefined {
  return record.kind === 'readable' ? vms.find(({ metadata }) => metadata.uid === record.record.uid) : undefined;
}

function unclaimedIn(around: Around, namespace: string): VmFolder[] {
  return around.folders.filter((folder) => {
    const { record } = folder;
    if (ownerOf(around, folder) !== undefined) return false;
    return record.kind !== 'readable' || record.record.namespace === namespace;
  });
}

function namesOf({ name, record }: VmFolder): readonly string[] {
  return record.kind === 'readable' && record.record.name !== name ? [name, record.record.name] : [name];
}

/** @throws NotFoundError with names that come near, CliError where the name is of several */
function chosen(around: Around, name: string): VmFolder {
  const { host, folders } = around;
  const fitting = folders.filter((folder) => namesOf(folder).includes(name));
  const free = fitting.filter((folder) => ownerOf(around, folder) === undefined);
  const [first, ...more] = free.length > 0 ? free : fitting;
  if (first === undefined) {
    const unclaimed = folders.filter((folder) => ownerOf(around, folder) === undefined);
    const near = nearNames(name, unclaimed.flatMap(namesOf));
    const listed = unclaimed.slice(0, 10).map((folder) => folder.name);
    const advice =
      near.length > 0
        ? `; did you mean ${near.join(' or ')}?`
        : listed.length > 0
          ? `; without an object there are ${listed.join(', ')}`
          : '; none is without an object';
    throw new NotFoundError(`no VM folder "${name}" on Host ${host.metadata.name}${advice}`);
  }
  if (more.length > 0) {
    const paths = [first, ...more].map(({ path }) => path).join(', ');
    throw new CliError(EXIT.conflict, `${name} means several folders: ${paths}; name one by its folder's name`);
  }
  return first;
}

/** @throws what refuses it */
function adoptable(around: Around, folder: VmFolder, namespace: string): Found {
  const { record: state, path, name } = folder;
  if (state.kind === 'too-new')
    throw new CliError(
      EXIT.failed,
      `${path}: its record has version ${state.version}, written by a later qemu-operator; take it over with that one`,
    );
  if (state.kind === 'invalid')
    throw new CliError(
      EXIT.failed,
      `${path}/.qemu-operator.json cannot be read (${state.message}): restore it from a backup before it is taken over`,
    );
  const { record } = state;
  const owner = ownerOf(around, folder);
  if (owner !== undefined)
    throw new ConflictError(`${path} belongs to ${keyOf(owner.metadata)}, which exists: nothing is to be taken over`);
  if (record.namespace !== namespace)
    throw new CliError(
      EXIT.failed,
      `${path} is of ${keyOf(record)}: to take it over in its namespace, say -n ${record.namespace}`,
    );
  const taken = around.vms.find(({ metadata }) => keyOf(metadata) === keyOf(record));
  if (taken !== undefined)
    throw new AlreadyExistsError(
      `${keyOf(record)} exists, and is another VM than ${path} was of: delete it, or let it take the folder over ` +
        `with annotate qvm ${record.name} qemu-operator.dev/adopt=${record.uid}`,
    );
  const rival = around.vms.find((vm) => vm.spec.hostName === around.host.metadata.name && vmNameOf(vm) === name);
  if (rival !== undefined)
    throw new AlreadyExistsError(`${keyOf(rival.metadata)} has the name ${name} on Host ${around.host.metadata.name}`);
  const made = adoption(folder, record, around.host);
  if (made === undefined)
    throw new CliError(
      EXIT.failed,
      `${path}: its record is of an earlier version and of a VM that does not run: it holds no spec. Write a manifest ` +
        `with its disks and the annotation qemu-operator.dev/adopt: ${record.uid}`,
    );
  return { ...made, folder };
}

function tellOf(context: Context, { folder, manifest, waiting, warnings }: Found): void {
  const { process, path } = folder;
  const { name } = manifest.metadata;
  const fate =
    process === undefined
      ? 'it is off, and stays off until it is started'
      : `its QEMU process ${process.pid} runs on, and nothing of it changes`;
  tell(context, `${name} in ${path}: ${fate}`);
  if (waiting.length > 0)
    tell(context, `${name}: waits for a restart already: ${waiting.map((one) => one.path).join(', ')}`);
  for (const warning of warnings) tell(context, `Warning: ${name}: ${warning}`);
}

const VERBS = ['powerState', 'restartedAt'];

function manifestText({ manifest }: Adoption): string {
  return yamlText({ ...manifest, spec: withoutDefaults('VirtualMachine', manifest.spec) });
}

/** What verbs write stays out of the manifest, as always. */
async function write({ store }: Session, manifest: Adoption['manifest'], dryRun: boolean): Promise<Target> {
  const asWritten = withoutDefaults('VirtualMachine', manifest.spec);
  const admitted = parseManifest({ ...manifest, spec: asWritten });
  const vm = await store.create(admitted, { asWritten, undeclared: VERBS, dryRun });
  return { kind: 'VirtualMachine', ref: vm.metadata };
}
