/**
 * ssh: the system's ssh to a guest, wherever its port 22 is reached. Guests come and go behind the same address of
 * the host, so each VM's host key is kept under the VM's uid, in a file of the store; a key that changed is refused.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import type { TcpAddress } from '../host/shell.ts';
import { forwardPort, LOOPBACK } from '../streams/port-forward.ts';
import type { GuestPort } from '../streams/vm-streams.ts';
import { untilAnswers } from './answering.ts';
import { type Context, type Declare, examples, type Globals, tell, withSession } from './context.ts';
import { parseDuration } from './duration.ts';
import { EndedWith } from './exit-codes.ts';

interface SshOptions extends Globals {
  /** ms. */
  readonly timeout: number;
  readonly loginName?: string;
  readonly identity?: string;
}

const SSH_PORT = 22;
const DEFAULT_TIMEOUT = '5m';
/** What ssh ends with where it did not get in, beside commands that end so. Source: ssh(1). */
const NO_ENTRY = 255;

export const declareSsh: Declare = (command, context) => {
  command
    .argument('<name>', 'name of the virtual machine, or USER@NAME')
    .argument('[command...]', 'after --: what to run there instead of a shell')
    .option('-l, --login-name <user>', 'user of the guest (default: spec.cloudInit.user, or else as ssh has it)')
    .option('-i, --identity <file>', 'private key')
    .addOption(
      new Option('--timeout <time>', 'how long to wait for a guest that is still booting; 0: not at all')
        .default(parseDuration(DEFAULT_TIMEOUT), DEFAULT_TIMEOUT)
        .argParser(parseDuration),
    )
    .action(async (name: string, words: readonly string[], _options, self: Command) =>
      connect(context, name, words, self.optsWithGlobals<SshOptions>()),
    );
  examples(command, [
    ['A shell, as soon as the guest has booted', 'ssh web-1'],
    ['As another user', 'ssh debian@web-1'],
    [
      'A command; its exit code is that of this command',
      'ssh web-1 -l root -i ~/.ssh/lab -- systemctl is-active nginx',
    ],
  ]);
};

async function connect(context: Context, word: string, words: readonly string[], options: SshOptions): Promise<void> {
  const at = word.lastIndexOf('@');
  const name = word.slice(at + 1);
  const said = options.loginName ?? (at < 0 ? undefined : word.slice(0, at));
  const wanted = { name, namespace: options.namespace, guestPort: SSH_PORT, timeoutMs: options.timeout };
  await withSession(context, options, async (session) => {
    const { place, target: there } = await untilAnswers(context, session, wanted);
    const target = there.address === undefined ? await brought(there) : { ...there.address, close: there.close };
    try {
      const { metadata, spec } = place.vm;
      const user = said ?? spec.cloudInit?.user;
      const login = { user, identity: options.identity, uid: metadata.uid, keys: keysFolder(session.storeDir) };
      const { code } = await context.runProgram('ssh', [...sshOptions(target, login), ...words], {
        as: 'terminal',
        signal: context.signal,
      });
      if (code === NO_ENTRY && user === undefined)
        tell(context, `the guest may know you by another name: ${context.invokedAs} ssh USER@${name}`);
      if (code !== 0) throw new EndedWith(code);
    } finally {
      await target.close();
    }
  });
}

/** A port of another machine, at one of this machine's own. */
async function brought(target: GuestPort): Promise<TcpAddress & Pick<GuestPort, 'close'>> {
  const forward = await forwardPort({
    localPort: 0,
    target,
    onConnection: () => undefined,
    onFailure: () => undefined,
  });
  const close = async () => {
    forward.close();
    await target.close();
  };
  return { host: LOOPBACK, port: forward.localPort, close };
}

function keysFolder(storeDir: string): string {
  const folder = join(storeDir, '.state', 'known_hosts');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return folder;
}

interface Login {
  readonly user: string | undefined;
  readonly identity: string | undefined;
  readonly uid: string;
  /** Folder of one known_hosts file per VM. */
  readonly keys: string;
}

/** Words before the command. The address is no guest's own, so what ~/.ssh says of it does not count. */
export function sshOptions({ host, port }: TcpAddress, { user, identity, uid, keys }: Login): string[] {
  return [
    ...['-o', `HostKeyAlias=${uid}`],
    ...['-o', `UserKnownHostsFile=${quoted(join(keys, uid))}`],
    ...['-o', 'GlobalKnownHostsFile=/dev/null'],
    ...['-o', 'StrictHostKeyChecking=accept-new'],
    ...['-p', String(port)],
    ...(user === undefined ? [] : ['-l', user]),
    ...(identity === undefined ? [] : ['-i', identity]),
    ...['--', host],
  ];
}

/** ssh splits at spaces and puts something in for a percent sign. Source: ssh_config(5). */
function quoted(path: string): string {
  return `"${path.replaceAll(/["\\]/g, '\\$&').replaceAll('%', '%%')}"`;
}
