/** logs: what happened to a VM and QEMU's own log, or what the guest printed on its console. */
import { type Command, InvalidArgumentError } from 'commander';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { LogRequest } from '../streams/vm-streams.ts';
import {
  type Context,
  type Declare,
  examples,
  type Globals,
  print,
  tell,
  throwIfInterrupted,
  withSession,
} from './context.ts';
import { placeOf } from './place.ts';

interface LogsOptions extends Globals {
  readonly console?: boolean;
  readonly follow?: boolean;
  readonly previous?: boolean;
  readonly raw?: boolean;
  readonly tail?: number;
}

export const declareLogs: Declare = (command, context) => {
  command
    .argument('<name>', 'name of the virtual machine')
    .option('--console', 'what the guest printed on its serial console')
    .option('-f, --follow', 'go on as lines are added')
    .option('-p, --previous', "QEMU's log of the process before this one")
    .option('--tail <lines>', 'only so many lines from the end', parseLines)
    .option('--raw', 'bytes as they were written, escape sequences included')
    .action(async (name: string, _options, self: Command) => logs(context, name, self.optsWithGlobals<LogsOptions>()));
  examples(command, [
    ["What happened to web-1, and QEMU's log", 'logs web-1'],
    ['The last lines of its console, and what follows', 'logs web-1 --console --tail 20 -f'],
  ]);
};

function parseLines(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('it must be a number of lines.');
  return Number(text);
}

async function logs(context: Context, name: string, options: LogsOptions): Promise<void> {
  await withSession(context, options, async (session) => {
    const { vm, streams } = await placeOf(session, name, options.namespace);
    const { tail: lines, previous, raw, follow } = options;
    const request: LogRequest = {
      source: options.console === true ? 'console' : 'qemu',
      signal: context.signal,
      ...(lines === undefined ? {} : { lines }),
      ...(previous === undefined ? {} : { previous }),
      ...(raw === undefined ? {} : { raw }),
      ...(follow === undefined ? {} : { follow }),
    };
    if (request.source === 'qemu' && previous !== true) printHistory(context, vm);
    try {
      for await (const text of streams.log(request)) context.stdout.write(text);
    } catch (error) {
      if (!(error instanceof Error) || error.name !== 'LogAbsentError') throw error;
      tell(context, error.message);
    }
    throwIfInterrupted(context);
  });
}

function printHistory(context: Context, { status }: VirtualMachine): void {
  const history = status?.history ?? [];
  if (history.length === 0) return;
  print(context, '==> history <==');
  for (const { at, reason, message } of history) print(context, `${at}  ${reason}  ${message}`);
  print(context, '');
  print(context, '==> qemu.log <==');
}
