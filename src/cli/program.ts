/**
 * The command line. Only the names are known at start-up; a command's file is loaded when it is called, so that
 * help comes at once.
 */
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { OPERATOR_NAMESPACE } from '../api/host-ssh.ts';
import type { Context, Declare, Globals } from './context.ts';
import { EndedWith, EXIT, exitCodeOf, InterruptedError, sentenceOf } from './exit-codes.ts';

interface Entry {
  readonly summary: string;
  readonly group: string;
  readonly load: () => Promise<Declare>;
}

const BEGIN = 'To begin:';
const OBJECTS = 'Objects:';
const MACHINES = 'Machines:';
const SERVERS = 'Servers:';

const COMMANDS: Readonly<Record<string, Entry>> = {
  quickstart: {
    summary: 'Create and start a small Linux machine, and show it; --remove takes it away',
    group: BEGIN,
    load: async () => (await import('./quickstart.ts')).declareQuickstart,
  },
  completion: {
    summary: 'Print a script that completes words in bash, zsh or fish',
    group: BEGIN,
    load: async () => (await import('./completion.ts')).declareCompletion,
  },
  get: {
    summary: 'Display one or many objects',
    group: OBJECTS,
    load: async () => (await import('./get.ts')).declareGet,
  },
  describe: {
    summary: 'Show all that is known of an object',
    group: OBJECTS,
    load: async () => (await import('./describe.ts')).declareDescribe,
  },
  apply: {
    summary: 'Declare objects by files, folders or stdin',
    group: OBJECTS,
    load: async () => (await import('./apply.ts')).declareApply,
  },
  create: {
    summary: 'Create a virtual machine from options, without a manifest',
    group: OBJECTS,
    load: async () => (await import('./create.ts')).declareCreate,
  },
  plan: {
    summary: 'Foretell what apply would do: live, with a restart, or refused',
    group: OBJECTS,
    load: async () => (await import('./plan.ts')).declarePlan,
  },
  edit: {
    summary: 'Edit an object in your editor',
    group: OBJECTS,
    load: async () => (await import('./edit.ts')).declareEdit,
  },
  patch: {
    summary: 'Change fields of an object with a merge patch',
    group: OBJECTS,
    load: async () => (await import('./patch.ts')).declarePatch,
  },
  annotate: {
    summary: 'Set or remove annotations',
    group: OBJECTS,
    load: async () => (await import('./annotate.ts')).declareAnnotate,
  },
  delete: {
    summary: 'Delete objects, and wait until they are gone',
    group: OBJECTS,
    load: async () => (await import('./delete.ts')).declareDelete,
  },
  events: {
    summary: 'Show what happened to virtual machines',
    group: OBJECTS,
    load: async () => (await import('./events.ts')).declareEvents,
  },
  secret: {
    summary: 'Keep values that no manifest should hold, such as user data with passwords',
    group: OBJECTS,
    load: async () => (await import('./secret.ts')).declareSecret,
  },
  host: {
    summary: 'Add, show and remove the machines that run virtual machines',
    group: OBJECTS,
    load: async () => (await import('./host.ts')).declareHost,
  },
  adopt: {
    summary: 'Take over virtual machines whose object is gone, as they run',
    group: OBJECTS,
    load: async () => (await import('./adopt.ts')).declareAdopt,
  },
  import: {
    summary: 'Make a virtual machine of a QEMU process that was started by hand',
    group: OBJECTS,
    load: async () => (await import('./import.ts')).declareImport,
  },
  push: {
    summary: 'Move Hosts with their virtual machines from this folder to a cluster, as they run',
    group: OBJECTS,
    load: async () => (await import('./push.ts')).declarePush,
  },
  pull: {
    summary: 'Move Hosts with their virtual machines from a cluster to this folder, as they run',
    group: OBJECTS,
    load: async () => (await import('./push.ts')).declarePull,
  },
  start: {
    summary: 'Start virtual machines',
    group: MACHINES,
    load: async () => (await import('./start.ts')).declareStart,
  },
  stop: {
    summary: 'Stop virtual machines',
    group: MACHINES,
    load: async () => (await import('./stop.ts')).declareStop,
  },
  restart: {
    summary: 'Restart virtual machines',
    group: MACHINES,
    load: async () => (await import('./restart.ts')).declareRestart,
  },
  console: {
    summary: 'Attach to the serial console of a virtual machine',
    group: MACHINES,
    load: async () => (await import('./console.ts')).declareConsole,
  },
  vnc: {
    summary: 'Open the screen of a virtual machine to one VNC viewer',
    group: MACHINES,
    load: async () => (await import('./vnc.ts')).declareVnc,
  },
  top: {
    summary: 'Show what running virtual machines use now',
    group: MACHINES,
    load: async () => (await import('./top.ts')).declareTop,
  },
  'port-forward': {
    summary: 'Forward ports of this machine to ports of a virtual machine',
    group: MACHINES,
    load: async () => (await import('./port-forward.ts')).declarePortForward,
  },
  ssh: {
    summary: 'Log in to a virtual machine, or run a command there',
    group: MACHINES,
    load: async () => (await import('./ssh.ts')).declareSsh,
  },
  screenshot: {
    summary: 'Save what a virtual machine draws as a PNG picture',
    group: MACHINES,
    load: async () => (await import('./screenshot.ts')).declareScreenshot,
  },
  logs: {
    summary: "Print what happened to a virtual machine and QEMU's log, or its console's",
    group: MACHINES,
    load: async () => (await import('./logs.ts')).declareLogs,
  },
  run: {
    summary: 'Run the controller: it brings every machine to what its object says, and keeps it there',
    group: SERVERS,
    load: async () => (await import('./run.ts')).declareRun,
  },
  doctor: {
    summary: 'Say what is well on this machine, what is not, and how to mend it',
    group: SERVERS,
    load: async () => (await import('./doctor.ts')).declareDoctor,
  },
  service: {
    summary: 'Install the controller as a systemd service, and stop guests in order when the machine shuts down',
    group: SERVERS,
    load: async () => (await import('./service.ts')).declareService,
  },
  mcp: {
    summary: 'Serve the MCP tools on stdin and stdout',
    group: SERVERS,
    load: async () => (await import('./mcp.ts')).declareMcp,
  },
};

const EXIT_CODES = `
Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 timed out, 6 host unreachable,
7 plan: there are changes.
Help of one command: qemu-operator COMMAND --help`;

/** A variable that a script forgot to set must not mean another folder. */
function folder(text: string): string {
  if (text === '') throw new InvalidArgumentError('It must name a folder.');
  return text;
}

function program(context: Context, version: string): Command {
  const root = new Command('qemu-operator')
    .description('Plain QEMU virtual machines as objects, driven to what they say.')
    .version(version, '--version')
    .option(
      '--store <dir>',
      'folder of the objects, or kubernetes (QEMU_OPERATOR_STORE; else below your configuration folder)',
      folder,
    )
    .option('--vm-dir <dir>', 'where a Host localhost made now keeps its VMs (QEMU_OPERATOR_VM_DIR)', folder)
    .option('--kubeconfig <file>', 'in a cluster: which kubeconfig (KUBECONFIG; else ~/.kube/config)')
    .option('--context <name>', 'in a cluster: which context of the kubeconfig (else its current one)')
    .option(
      '--operator-namespace <name>',
      `in a cluster: where the credentials of Hosts are kept (default: ${OPERATOR_NAMESPACE}; run: that of the context)`,
    )
    .option('-n, --namespace <name>', 'namespace of the objects (default: "default")')
    .helpOption('-h, --help', 'show this help')
    .addHelpText('after', EXIT_CODES)
    .addHelpCommand(new Command('help').argument('[command]').description('Show help of a command').helpGroup(BEGIN))
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void context.stdout.write(text),
      writeErr: (text) => void context.stderr.write(text),
    })
    .showHelpAfterError('(--help shows how it is used)');
  for (const [name, { summary, group }] of Object.entries(COMMANDS)) {
    root.command(name).description(summary).helpGroup(group).configureHelp({ showGlobalOptions: true });
  }
  root.hook('preAction', async () => {
    const { namespace, ...options } = root.opts<Globals>();
    if (namespace === undefined) root.setOptionValue('namespace', await context.defaultNamespace(options));
  });
  root.hook('preSubcommand', (_root, command) => declare(command, context, version));
  return root;
}

/** Adds what a command takes: each is loaded when it is called. */
async function declare(command: Command, context: Context, version: string): Promise<void> {
  const declaration = await COMMANDS[command.name()]?.load();
  declaration?.(command, context, version);
  const names = command.commands.map((one) => one.name());
  if (names.length > 0) command.showHelpAfterError(`(there are ${names.join(', ')}; --help shows how they are used)`);
}

/** With all that each command takes, for the reference. */
export async function wholeProgram(context: Context, version: string): Promise<Command> {
  const root = program(context, version);
  for (const command of root.commands) await declare(command, context, version);
  return root;
}

/** What the completion scripts call; no command of people. */
const COMPLETE = '__complete';

/** Flags that kubectl's users also write as --flag=true and --flag=false; commander knows them bare. */
const FLAG =
  /^--(wait|watch|all|all-namespaces|force|recursive|overwrite|ignore-not-found|dry-run|follow|previous)=(true|false)$/;

function withBareFlags(argv: readonly string[]): string[] {
  const end = argv.indexOf('--');
  return argv.flatMap((word, i) => {
    const [, flag, value] = (end < 0 || i < end ? FLAG.exec(word) : null) ?? [];
    if (flag === undefined) return [word];
    if (value === 'true') return [`--${flag}`];
    return flag === 'wait' ? ['--no-wait'] : [];
  });
}

/** Runs one command. Returns the exit code; errors have been told on stderr. */
export async function runCli(argv: readonly string[], context: Context, version: string): Promise<number> {
  const root = program(context, version);
  if (argv.length === 0) {
    root.outputHelp();
    return EXIT.done;
  }
  if (argv[0] === COMPLETE) {
    const { complete } = await import('./complete.ts');
    await complete(context, argv.slice(1), { root, declare: (command) => declare(command, context, version) });
    return EXIT.done;
  }
  try {
    await root.parseAsync(withBareFlags(argv), { from: 'user' });
    return EXIT.done;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
    const silent = error instanceof InterruptedError || error instanceof EndedWith;
    const sentence = silent ? '' : sentenceOf(error);
    if (sentence !== '') context.stderr.write(`${sentence}\n`);
    return exitCodeOf(error);
  }
}
