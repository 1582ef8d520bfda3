/** docs/reference/commands.md, from the program itself: every command with its arguments, options and examples. */
import { Readable, Writable } from 'node:stream';
import type { Argument, Command, Option } from 'commander';
import type { Context } from '../src/cli/context.ts';
import { wholeProgram } from '../src/cli/program.ts';

const INTRODUCTION = `# Commands

What each command takes, as \`qemu-operator COMMAND --help\` shows it. [The command line](cli.md) says what they mean,
how they wait and how they end.
`;

export async function commandReference(): Promise<string> {
  const root = await wholeProgram(nobody(), '0.0.0');
  const groups = new Map<string, Command[]>();
  for (const command of root.createHelp().visibleCommands(root)) {
    if (command.name() === 'help') continue;
    const group = command.helpGroup().replace(/:$/, '');
    groups.set(group, [...(groups.get(group) ?? []), command]);
  }
  const sections = [...groups].map(
    ([group, commands]) =>
      `## ${group}\n\n${commands.map((command) => commandPart(command, [root.name()])).join('\n')}`,
  );
  const everywhere = `## Of every command\n\n${optionTable(optionsOf(root))}`;
  return `${[INTRODUCTION, everywhere, ...sections].join('\n')}`;
}

function commandPart(command: Command, parents: readonly string[]): string {
  const words = [...parents, command.name()];
  const parts = [
    `### ${words.slice(1).join(' ')}\n`,
    `${command.description()}.\n`,
    `\`\`\`text\n${[...words, command.usage()].join(' ')}\n\`\`\`\n`,
  ];
  if (command.registeredArguments.length > 0) parts.push(argumentTable(command.registeredArguments));
  const options = optionsOf(command);
  if (options.length > 0) parts.push(optionTable(options));
  const examples = examplesOf(command);
  if (examples !== '') parts.push(`\`\`\`sh\n${examples}\n\`\`\`\n`);
  return [...parts, ...command.commands.map((one) => commandPart(one, words))].join('\n');
}

function argumentTable(list: readonly Argument[]): string {
  const rows = list.map((argument) => {
    const { description, argChoices, variadic, required } = argument;
    const name = `${argument.name()}${variadic ? '...' : ''}`;
    return `| \`${required ? name : `[${name}]`}\` | ${cell(description + choices(argChoices))} |`;
  });
  return table('argument', rows);
}

function optionsOf(command: Command): readonly Option[] {
  return command.options.filter(({ hidden }) => !hidden);
}

function optionTable(list: readonly Option[]): string {
  return table(
    'option',
    list.map(({ flags, description, argChoices, defaultValue, defaultValueDescription }) => {
      const otherwise = defaultValueDescription ?? defaultValue;
      const shown = otherwise === undefined ? '' : ` (default: ${String(otherwise)})`;
      return `| \`${flags}\` | ${cell(description + choices(argChoices) + shown)} |`;
    }),
  );
}

function table(head: string, rows: readonly string[]): string {
  return `| ${head} | meaning |\n|---|---|\n${rows.join('\n')}\n`;
}

function choices(list: readonly string[] | undefined): string {
  return list === undefined ? '' : `: ${list.map((one) => `\`${one}\``).join(', ')}`;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;');
}

/** They stand behind the help, where only its output shows them. */
function examplesOf(command: Command): string {
  let text = '';
  command.configureOutput({
    writeOut: (more) => {
      text += more;
    },
  });
  command.outputHelp();
  const [, lines = ''] = /\nExamples:\n([\s\S]*)$/.exec(text) ?? [];
  return lines
    .trimEnd()
    .split('\n')
    .map((line) => line.replace(/^ {2}/, ''))
    .join('\n');
}

/** A context for declarations alone: nothing of it is used before a command runs. */
function nobody(): Context {
  const never = () => {
    throw new Error('a declaration does nothing');
  };
  return {
    openSession: never,
    machine: never,
    defaultNamespace: never,
    serveMcp: never,
    openDoors: never,
    openMcpDoor: never,
    openStreams: never,
    runProgram: never,
    stdin: Readable.from([]),
    stdout: new Writable({ write: (_chunk, _encoding, done) => done() }),
    stderr: new Writable({ write: (_chunk, _encoding, done) => done() }),
    env: {},
    invokedAs: 'qemu-operator',
    argv0: ['qemu-operator'],
    signal: new AbortController().signal,
  };
}
