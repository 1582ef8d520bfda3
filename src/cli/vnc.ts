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
import { placeOf } from './place.ts';

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
    const { streams } = await placeOf(session, name, namespace);
    const wanted = port === undefined ? {} : { port };
    const proxy = await vncProxy((signal) => streams.screen(signal), { signal: context.signal, ...wanted });
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
