/** mcp: the tools for models, on stdin and stdout. */
import type { Command } from 'commander';
import { type Declare, examples, type Globals, withSession } from './context.ts';

interface Options extends Globals {
  readonly readOnly?: boolean;
  /** commander's name for --no-delete. */
  readonly delete?: boolean;
}

export const declareMcp: Declare = (command, context) => {
  command
    .option('--read-only', 'offer only the tools that read')
    .option('--no-delete', 'refuse to delete virtual machines')
    .action(async (_options, self: Command) => {
      const options = self.optsWithGlobals<Options>();
      const { readOnly = false, delete: mayDelete = true, namespace } = options;
      const limits = { readOnly, noDelete: !mayDelete, namespace };
      await withSession(context, options, (session) => context.serveMcp(session, limits, context.signal), 'mcp');
    });
  examples(command, [
    ['As a client starts it', 'mcp'],
    ['For a client that shall only look', 'mcp --read-only'],
  ]);
};
