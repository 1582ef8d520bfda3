/** import: a QEMU process that was started by hand gets an object that takes over its disks at its next start. */
import { basename } from 'node:path/posix';
import { type Command, Option } from 'commander';
import { parseManifest } from '../api/admission.ts';
import { AlreadyExistsError, ConflictError, NotFoundError, nearNames } from '../api/errors.ts';
import { DEFAULT_NAMESPACE } from '../api/meta.ts';
import {
  claimsIn,
  type Known,
  lookAtAll,
  type Managed,
  managedIn,
  ownerOf,
  type WholeSight,
} from '../takeover/claims.ts';
import { type Imported, imported, type Stranger, strangerOf } from '../takeover/import.ts';
import { afterChange } from './after-change.ts';
import { type Context, type Declare, examples, type Globals, print, tell, withSession } from './context.ts';
import { CliError, EXIT, usageError } from './exit-codes.ts';
import { jsonText, yamlText } from './output.ts';
import { nameOf, requireObject, type Target } from './resources.ts';
import { addWaitOptions, type WaitOptions } from './wait-options.ts';

interface ImportOptions extends Globals, WaitOptions {
  readonly host: string;
  readonly as?: string;
  readonly output?: 'yaml' | 'json';
  readonly dryRun?: boolean;
}

export const declareImport: Declare = (command, context) => {
  command
    .argument('<process>', 'name or process id, as describe qhost lists it')
    .option('--host <name>', 'Host on which it runs', 'localhost')
    .option('--as <name>', "name of the virtual machine (default: the process' own)")
    .addOption(new Option('-o, --output <format>', 'print the manifest and write nothing').choices(['yaml', 'json']))
    .option('--dry-run', 'the same as -o yaml');
  addWaitOptions(command, 'wait until its disks are noted (default: only where no controller runs)');
  command.action(async (word: string, _options, self: Command) =>
    importOne(context, word, self.optsWithGlobals<ImportOptions>()),
  );
  examples(command, [
    ['What a process that was started by hand would become', 'import 4242 --dry-run'],
    ['Take it over: its guest goes on; afterwards shut it down, and start it here', 'import db --as db-1'],
  ]);
};

async function importOne(context: Context, word: string, options: ImportOptions): Promise<void> {
  const { host: hostName, as } = options;
  const { signal } = context;
  const namespace = options.namespace ?? DEFAULT_NAMESPACE;
  await withSession(context, options, async (session) => {
    const { store } = session;
    const host = await requireObject(store, { kind: 'Host', ref: { name: hostName } });
    const { items: vms } = await store.list('VirtualMachine');
    const shell = session.shellFor(host);
    const known = { storeUID: store.uid, hosts: (await store.list('Host')).items, vms };
    const sight = await lookAtAll(shell, host, known, signal);
    const stranger = chosen(sight, known, word, hostName);
    const name = as ?? objectName(stranger);
    const claims = claimsIn(sight, known);
    const found = await imported(stranger, { host, shell, name, namespace, claims }, signal);
    for (const warning of found.warnings) tell(context, `Warning: ${warning}`);
    refuse(stranger, found);
    const manifest = parseManifest(found.manifest);
    if (options.output !== undefined || options.dryRun === true) {
      context.stdout.write(options.output === 'json' ? jsonText(found.manifest) : yamlText(found.manifest));
      return;
    }
    if (vms.some(({ metadata }) => metadata.name === name && metadata.namespace === namespace))
      throw new AlreadyExistsError(`virtual machine ${name} exists: give another name with --as`);
    const vm = await store.create(manifest, { asWritten: found.manifest.spec, undeclared: ['powerState'] });
    const target: Target = { kind: 'VirtualMachine', ref: vm.metadata };
    print(context, `${nameOf(target)} created`);
    await afterChange(context, session, [target], options);
    tellHowToGoOn(context, stranger, name);
  });
}

function tellHowToGoOn(context: Context, { process }: Stranger, name: string): void {
  tell(
    context,
    `process ${process.pid} runs on untouched, and keeps its disks: shut its guest down, then ${context.invokedAs} start ${name}`,
  );
}

/** @throws NotFoundError with names that come near, ConflictError for one of ours, CliError where the name is of several */
function chosen(sight: WholeSight, known: Known, word: string, hostName: string): Stranger {
  const managed = managedIn(sight);
  const own = managed.find(({ process, path }) => [basename(path), String(process.pid)].includes(word));
  const ours = new Set(managed.map(({ process }) => process.pid));
  const strangers = sight.processes.filter(({ pid }) => !ours.has(pid)).map(strangerOf);
  const byPid = strangers.filter(({ process }) => String(process.pid) === word);
  const [first, ...more] = byPid.length > 0 ? byPid : strangers.filter(({ vm }) => vm.name === word);
  if (more.length > 0) {
    const pids = [first, ...more].map((one) => one?.process.pid).join(', ');
    throw new CliError(EXIT.conflict, `several processes are called ${word}: say which by its process id: ${pids}`);
  }
  if (first !== undefined) return first;
  if (own !== undefined)
    throw new ConflictError(
      `${word} runs from ${own.path}, a VM folder of qemu-operator: ${whyManaged(own, sight, known)}`,
    );
  const names = strangers.flatMap(({ vm }) => vm.name ?? []);
  const near = nearNames(word, names);
  const all = strangers
    .slice(0, 10)
    .map(({ process, vm }) => `${process.pid}${vm.name === undefined ? '' : ` ${vm.name}`}`);
  const there = all.length === 0 ? 'no QEMU process runs there that is not ours' : `there are ${all.join(', ')}`;
  const advice = near.length > 0 ? `did you mean ${near.join(' or ')}?` : there;
  throw new NotFoundError(`no QEMU process "${word}" on Host ${hostName}; ${advice}`);
}

function whyManaged(own: Managed, sight: WholeSight, known: Known): string {
  const { kind, owner } = ownerOf(own, sight, known);
  switch (kind) {
    case 'managed':
      return `it is ${owner} already`;
    case 'gone':
      return `no import, but adopt ${basename(own.path)} takes it over, as its object is gone`;
    case 'another-store':
      return `it is ${owner}, of another store, which manages it`;
    case 'unknown':
      return 'this user cannot read whose it is; ask as the user that runs it, or as root';
  }
}

/** Lower case, and what is no letter or digit a dash. @throws CliError where nothing is left of it */
function objectName({ process, vm }: Stranger): string {
  const name = (vm.name ?? '')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 63)
    .replace(/^-+|-+$/g, '');
  if (name === '') throw usageError(`process ${process.pid} has no name to go by: give one with --as`);
  return name;
}

function refuse({ process }: Stranger, { refusals }: Imported): void {
  if (refusals.length === 0) return;
  throw new CliError(EXIT.failed, `process ${process.pid} cannot be taken over: ${refusals.join('; ')}`);
}
