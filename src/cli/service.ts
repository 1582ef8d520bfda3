/** service: the controller as a systemd service, the machine's for root, the user's own for anybody else. */
import { realpathSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { nodeCheck } from '../doctor/node-version.ts';
import {
  enableLingering,
  removeUnit,
  type ServiceState,
  serviceState,
  systemctl,
  writeUnit,
} from '../doctor/service.ts';
import { controlWords, serviceChecks } from '../doctor/service-checks.ts';
import { CONTROLLER_UNIT, GUESTS_UNIT, type UnitFile, unitFiles } from '../doctor/unit-files.ts';
import type { Shell } from '../host/shell.ts';
import { type ChecksFormat, exitOf, printChecks } from './checks.ts';
import { type Context, type Declare, examples, type Globals, print, tell, withSession } from './context.ts';
import { CliError, EXIT } from './exit-codes.ts';
import { declareStartGuests, declareStopGuests } from './guests.ts';

interface InstallOptions extends Globals {
  readonly dryRun?: boolean;
}

interface StatusOptions extends Globals {
  readonly output: ChecksFormat;
}

/** For its first look at the machine the controller takes a moment. */
const LOOP_MS = 10_000;
const LOOK_MS = 200;

export const declareService: Declare = (command, context) => {
  const add = (name: string, summary: string) =>
    command.command(name).description(summary).configureHelp({ showGlobalOptions: true });
  const install = add('install', 'Write the units, enable and start them; a second time only what differs')
    .option('--dry-run', 'only print the units')
    .action(async (_options, self: Command) => installService(context, self.optsWithGlobals<InstallOptions>()));
  examples(install, [
    ['Run the controller from now on and at every boot', 'service install'],
    ['See the units first', 'service install --dry-run'],
  ]);
  add('uninstall', 'Stop the service and remove its units; machines run on').action(async () => uninstall(context));
  add('status', 'Show whether the service is well, and how to mend it')
    .addOption(new Option('-o, --output <format>').choices(['text', 'json']).default('text'))
    .action(async (_options, self: Command) => status(context, self.optsWithGlobals<StatusOptions>()));
  declareStartGuests(
    add('start-guests', 'Let machines run again after stop-guests (the service does so at boot)'),
    context,
  );
  declareStopGuests(
    add('stop-guests', 'Stop all machines of this host in order; they run again after its next boot'),
    context,
  );
  examples(command, [
    ['Run the controller from now on and at every boot', 'service install'],
    ['Whether it is well', 'service status'],
  ]);
};

async function installService(context: Context, options: InstallOptions): Promise<void> {
  const machine = await context.machine();
  const shell = machine.shell();
  const before = await serviceState(shell, context.signal);
  const store = machine.storeDir(options);
  const files = unitFiles({
    scope: before.scope,
    command: installedCommand(context),
    store,
    folders: before.toolFolders,
  });
  if (options.dryRun === true) {
    for (const { name, text } of files) print(context, `# ${before.folder}/${name}\n${text}`);
    return;
  }
  if (!before.systemd)
    throw new CliError(
      EXIT.failed,
      'systemd does not run this machine: have your init system run ' +
        `\`${context.invokedAs} run\`, and \`${context.invokedAs} service stop-guests\` at shutdown`,
    );
  // Makes the store and its Host with the options of today, and refuses what cannot hold one.
  await withSession(context, options, async () => undefined);
  const lingering = before.scope === 'system' || (await linger(context, shell, before));
  await writeAndStart(context, shell, before, files);
  const holder = await waitForLoop(context, shell, store);
  const after = await serviceState(shell, context.signal);
  printChecks(context, serviceChecks(after, holder, { store, invokedAs: context.invokedAs }), 'text');
  if (!lingering || after.controller.active !== 'active' || after.guests.active !== 'active')
    throw new CliError(EXIT.failed, 'the service is installed, and needs what is said above');
}

/** @throws CliError where the command is not one that stays, or its Node is too old */
function installedCommand({ argv0 }: Context): [string, string] {
  const node = nodeCheck(process.versions.node);
  if (node.state !== 'ok') throw new CliError(EXIT.failed, `${node.message}: ${node.mend}`);
  const [program = '', entry = ''] = argv0.map((path) => realpathSync(path));
  if (entry.includes('/_npx/'))
    throw new CliError(
      EXIT.failed,
      `this is a copy in npx's cache, which npm removes at will (${entry}): npm install --global qemu-operator`,
    );
  return [program, entry];
}

/** Whether the user's units run without a login. A refusal is told; the service works until the logout all the same. */
async function linger(context: Context, shell: Shell, { lingering, user }: ServiceState): Promise<boolean> {
  if (lingering) return true;
  print(context, `loginctl enable-linger   # units of ${user} run without a login`);
  try {
    await enableLingering(shell, context.signal);
    return true;
  } catch (error) {
    tell(
      context,
      `${error instanceof Error ? error.message : String(error)}; run: sudo loginctl enable-linger ${user}`,
    );
    return false;
  }
}

async function writeAndStart(
  context: Context,
  shell: Shell,
  before: ServiceState,
  files: readonly UnitFile[],
): Promise<void> {
  const ctl = async (...words: string[]) => {
    print(context, [controlWords(before), ...words].join(' '));
    await systemctl(shell, words, context.signal);
  };
  let written = false;
  for (const file of files) {
    const outcome = await writeUnit(shell, file, context.signal);
    print(context, `${before.folder}/${file.name} ${outcome === 'same' ? 'unchanged' : 'written'}`);
    written ||= outcome === 'written';
  }
  if (written || before.controller.stale || before.guests.stale) await ctl('daemon-reload');
  if (!before.controller.enabled || !before.guests.enabled) await ctl('enable', CONTROLLER_UNIT, GUESTS_UNIT);
  // Machines live on; so a new unit text counts at once.
  if (written && before.controller.active === 'active') await ctl('restart', CONTROLLER_UNIT);
  await ctl('start', CONTROLLER_UNIT, GUESTS_UNIT);
}

/** Undefined where nobody has the loop after some patience. */
async function waitForLoop(context: Context, shell: Shell, store: string) {
  const machine = await context.machine();
  for (const began = performance.now(); performance.now() - began < LOOP_MS; ) {
    const holder = machine.loopHolder(store);
    if (holder !== undefined) return holder;
    if ((await serviceState(shell, context.signal)).controller.active === 'failed') return undefined;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  return undefined;
}

async function uninstall(context: Context): Promise<void> {
  const shell = (await context.machine()).shell();
  const before = await serviceState(shell, context.signal);
  const units = [before.guests, before.controller].filter(({ installed }) => installed).map(({ name }) => name);
  if (units.length === 0) {
    print(context, `not installed: there is no ${before.folder}/${CONTROLLER_UNIT}`);
    return;
  }
  if (before.systemd) {
    print(context, `${controlWords(before)} disable --now ${units.join(' ')}`);
    await systemctl(shell, ['disable', '--now', ...units], context.signal);
  }
  for (const name of units) {
    await removeUnit(shell, name, context.signal);
    print(context, `${before.folder}/${name} removed`);
  }
  if (before.systemd) await systemctl(shell, ['daemon-reload'], context.signal);
  print(context, 'Machines that run go on, and nobody watches them until a controller runs. Store and disks stay.');
  if (before.lingering && before.scope === 'user')
    print(
      context,
      `Lingering of ${before.user} stays: without it they would end with the login. Undo: loginctl disable-linger`,
    );
}

async function status(context: Context, options: StatusOptions): Promise<void> {
  const machine = await context.machine();
  const store = machine.storeDir(options);
  const state = await serviceState(machine.shell(), context.signal);
  const checks = serviceChecks(state, machine.loopHolder(store), { store, invokedAs: context.invokedAs });
  printChecks(context, checks, options.output);
  const code = state.controller.installed ? exitOf(checks) : EXIT.failed;
  if (code !== EXIT.done) throw new CliError(code, 'the service is not as it should be');
}
