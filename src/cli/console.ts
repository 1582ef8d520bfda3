/** console: a VM's serial console on this terminal. One client at a time; a second one is told who holds it. */
import type { Command } from 'commander';
import { attachTerminal, DEFAULT_ESCAPE, escapeByte } from '../streams/terminal.ts';
import {
  type Context,
  type Declare,
  examples,
  type Globals,
  tell,
  throwIfInterrupted,
  withSession,
} from './context.ts';
import { CliError, EXIT, usageError } from './exit-codes.ts';
import { placeOf } from './place.ts';

interface ConsoleOptions extends Globals {
  readonly escape: string;
}

export const declareConsole: Declare = (command, context) => {
  command
    .argument('<name>', 'name of the virtual machine')
    .option('-e, --escape <key>', 'key that leaves the console: ^ and a letter, or one character', DEFAULT_ESCAPE)
    .action(async (name: string, _options, self: Command) =>
      attach(context, name, self.optsWithGlobals<ConsoleOptions>()),
    );
  examples(command, [
    ['Attach; Ctrl-] leaves, and the machine runs on', 'console web-1'],
    ['Leave with Ctrl-a instead', 'console web-1 --escape ^a'],
  ]);
};

async function attach(context: Context, name: string, options: ConsoleOptions): Promise<void> {
  const { escape: key, namespace } = options;
  try {
    escapeByte(key);
  } catch (error) {
    throw usageError(error instanceof Error ? error.message : String(error));
  }
  await withSession(context, options, async (session) => {
    const { streams } = await placeOf(session, name, namespace);
    const console = await streams.console(context.signal);
    const close = () => void console.close();
    context.signal.addEventListener('abort', close, { once: true });
    try {
      tell(context, `Connected to the console of ${name}. The escape key is ${key}.`);
      const { stdin, stdout } = context;
      const end = await attachTerminal(console.stream, { stdin, stdout, escape: key });
      throwIfInterrupted(context);
      const { errored } = console.stream;
      if (errored !== null) throw new CliError(EXIT.failed, `the console of ${name} broke off: ${errored.message}`);
      tell(context, end === 'ended' ? `\nThe console of ${name} has ended.` : `\nDisconnected from ${name}.`);
    } finally {
      context.signal.removeEventListener('abort', close);
      await console.close();
    }
  });
}
