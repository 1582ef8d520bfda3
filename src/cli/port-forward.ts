/** port-forward: ports of this machine's loopback that lead to ports of a guest, for as long as the command runs. */
import type { Command } from 'commander';
import { forwardPort, LOOPBACK, type PortForward } from '../streams/port-forward.ts';
import type { GuestPort } from '../streams/vm-streams.ts';
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
import { usageError } from './exit-codes.ts';
import { placeOf } from './place.ts';

interface Pair {
  /** 0: one that is free. */
  readonly localPort: number;
  readonly guestPort: number;
}

const MAX_PORT = 65_535;

export const declarePortForward: Declare = (command, context) => {
  command
    .argument('<name>', 'name of the virtual machine')
    .argument('<port...>', '[LOCAL:]REMOTE; a LOCAL of 0 or none before the colon: one that is free')
    .action(async (name: string, words: readonly string[], _options, self: Command) =>
      serve(context, name, words.map(parsePair), self.optsWithGlobals<Globals>()),
    );
  examples(command, [
    ['Port 80 of the guest at port 8080 of this machine, until Ctrl-C', 'port-forward web-1 8080:80'],
    ['Several; the first at the same port, the second at one that is free', 'port-forward web-1 5432 :80'],
  ]);
};

function parsePair(word: string): Pair {
  const [, local, guest = ''] = /^(?:(\d{0,5}):)?(\d{1,5})$/.exec(word) ?? [];
  const guestPort = Number(guest);
  const localPort = local === undefined ? guestPort : Number(local);
  if (guestPort < 1 || guestPort > MAX_PORT || localPort > MAX_PORT)
    throw usageError(`"${word}": a port is [LOCAL:]REMOTE, each 1 to ${MAX_PORT}, as 8080:80`);
  return { localPort, guestPort };
}

async function serve(context: Context, name: string, pairs: readonly Pair[], options: Globals): Promise<void> {
  await withSession(context, options, async (session) => {
    const { streams } = await placeOf(session, name, options.namespace);
    const targets = new Map<number, GuestPort>();
    const forwards: PortForward[] = [];
    try {
      for (const { localPort, guestPort } of pairs) {
        const target = targets.get(guestPort) ?? (await streams.guestPort(guestPort, context.signal));
        targets.set(guestPort, target);
        forwards.push(await opened(context, { localPort, guestPort }, target));
      }
      await aborted(context.signal);
      throwIfInterrupted(context);
    } finally {
      for (const forward of forwards) forward.close();
      await Promise.all([...targets.values()].map((target) => target.close()));
    }
  });
}

async function opened(context: Context, pair: Pair, target: GuestPort): Promise<PortForward> {
  const { guestPort } = pair;
  const forward = await forwardPort({
    localPort: pair.localPort,
    target,
    onConnection: (port) => print(context, `Handling connection for ${port}`),
    onFailure: (message) => tell(context, `error: port ${guestPort} of the guest: ${message}`),
  });
  print(context, `Forwarding from ${LOOPBACK}:${forward.localPort} -> ${guestPort}`);
  return forward;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
