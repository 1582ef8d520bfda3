/** vnc: a VM's screen for one viewer, on a loopback port that lives as long as the command. */
import { type Command, InvalidArgumentError } from 'commander';
import { vncProxy } from '../streams/vnc.ts';
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
import { CliError, EXIT } from './exit-codes.ts';
import { notReachable, placeOf } from './place.ts';

interface VncCommandOptions extends Globals {
  readonly port?: number;
}

const MAX_PORT = 65_535;

export const declareVnc: Declare = (command, context) => {
  command
    .argument('<name>', 'name of the virtual machine')
    .option('--port <number>', 'on 127.0.0.1 (default: one that is free)', parsePort)
    .action(async (name: string, _options, self: Command) =>
      show(context, name, self.optsWithGlobals<VncCommandOptions>()),
    );
  examples(command, [
    ['Print address and one-time password, and serve one viewer', 'vnc web-1'],
    ['On a port of your choice', 'vnc web-1 --port 5901'],
  ]);
};

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port > MAX_PORT) throw new InvalidArgumentError('it must be 0 to 65535.');
  return port;
}

async function show(context: Context, name: string, options: VncCommandOptions): Promise<void> {
  const { port, namespace } = options;
  await withSession(context, options, async (session) => {
    const { vm, folder, shell } = await placeOf(session, name, namespace);
    const wanted = port === undefined ? {} : { port };
    const proxy = await vncProxy(shell, folder, { signal: context.signal, ...wanted }).catch((error: unknown) => {
      throw refusal(error, name, vm.status?.pid === undefined) ?? notReachable(name, vm, 'screen');
    });
    print(context, `Address:  127.0.0.1:${proxy.port}`);
    print(context, `Password: ${proxy.password}`);
    tell(
      context,
      `The password is good for one connection within ${proxy.expiresInSeconds} s. This command ends with the viewer; Ctrl-C ends both.`,
    );
    const end = await proxy.ended;
    throwIfInterrupted(context);
    if (end === 'expired') throw new CliError(EXIT.timedOut, 'no viewer came while the password was good');
    if (end === 'failed') throw new CliError(EXIT.failed, `the screen of ${name} could not be reached`);
    tell(context, 'The viewer has left.');
  });
}

/** undefined: nobody answers there. */
function refusal(error: unknown, name: string, absent: boolean): Error | undefined {
  if (!(error instanceof Error)) return new Error(String(error));
  if (error.name === 'DialError') return undefined;
  if (error.name !== 'UserMonitorError' || absent) return error;
  const hint = `Has ${name} a screen? spec.graphics: {vnc: {}} gives it one at its next restart.`;
  return new CliError(EXIT.failed, `${error.message}. ${hint}`);
}
