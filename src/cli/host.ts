/** host: the machines that run VMs. What it changes are objects and Secrets; the controller does the rest. */
import { type Command, Help, Option } from 'commander';
import type { Context, Declare, Globals } from './context.ts';
import { examples, withSession } from './context.ts';
import { describeAll } from './describe.ts';
import { getAll } from './get.ts';
import { type AddOptions, addHost } from './host-add.ts';
import { type ClaimOptions, claimHost } from './host-claim.ts';
import { addCredentialOptions, type CredentialOptions } from './host-credentials.ts';
import { replaceCredentials, type TrustOptions, trustKey } from './host-login.ts';
import { type RemoveOptions, removeHost } from './host-remove.ts';
import { addWaitOptions } from './wait-options.ts';

export const declareHost: Declare = (command, context) => {
  declareAdd(command, context);
  declareShow(command, context);
  declareLogin(command, context);
  const remove = command
    .command('remove')
    .argument('<name>', 'name of the Host')
    .description('Delete a Host, and the Secret made with it, once no machine names it; VMs and their files stay')
    .option('--orphan', 'do not wait for a host that cannot be reached: its marker stays there');
  addWaitOptions(remove, 'wait until it is gone (default: true)');
  remove.action(async (name: string, _options, self: Command) =>
    removeHost(context, name, self.optsWithGlobals<RemoveOptions>()),
  );
  const claim = command
    .command('claim')
    .argument('<name>', 'name of the Host')
    .description('Settle whose a VM folder is, or which machine the Host means')
    .option('--take-over', 'take the VM folder over from another store, or although its marker was lost')
    .option('--accept-machine', 'the machine behind the address is another one, and is meant');
  addWaitOptions(claim, 'wait until it is ready (default: only where no controller runs)');
  claim.action(async (name: string, _options, self: Command) =>
    claimHost(context, name, self.optsWithGlobals<ClaimOptions>()),
  );
  for (const one of command.commands) one.configureHelp({ showGlobalOptions: true, visibleGlobalOptions });
  examples(command, [
    ['A second machine, by your agent or the keys of ~/.ssh', 'host add rack1 ops@10.0.0.5'],
    ['An alias of ~/.ssh/config', 'host add bastion'],
    ['With a password, asked for on the terminal', 'host add rack2 ops@10.0.0.6 --password'],
    ['The host was installed anew: look at its key, and accept it', 'host trust rack1'],
  ]);
};

/** What a command says itself of an option, such as --vm-dir, stands alone. */
function visibleGlobalOptions(command: Command): Option[] {
  const help = Object.assign(new Help(), { showGlobalOptions: true });
  return help.visibleGlobalOptions(command).filter(({ long }) => !command.options.some((own) => own.long === long));
}

function declareAdd(command: Command, context: Context): void {
  const add = command
    .command('add')
    .argument('<name>', 'how the machine is to be called')
    .argument(
      '[address]',
      '[USER@]ADDRESS, ssh://[USER@]ADDRESS[:PORT], or an alias of ~/.ssh/config (default: the name)',
    )
    .description('Add a machine that is reached over SSH: logs in, shows its key, and makes the Host')
    .option('--user <name>', 'who logs in and runs QEMU (default: as ~/.ssh/config has it, else your own name)')
    .option('--port <number>', 'port of sshd (default: as ~/.ssh/config has it, else 22)')
    .option('--jump <host>', 'another Host, through which it is reached')
    .option('--vm-dir <dir>', "where VMs lie there (default: /var/lib/qemu, or below the user's ~/.local/share)")
    .addOption(
      new Option('--host-key-policy <policy>', 'what becomes of a key that is not known (default: AcceptNew)').choices([
        'Strict',
        'AcceptNew',
      ]),
    );
  addCredentialOptions(add);
  addWaitOptions(add, 'wait until it is ready (default: true)');
  add.action(async (name: string, address: string | undefined, _options, self: Command) =>
    addHost(context, { name, address }, self.optsWithGlobals<AddOptions>()),
  );
}

function declareShow(command: Command, context: Context): void {
  command
    .command('list')
    .description('List the Hosts, as get qhost')
    .action(async (_options, self: Command) => getAll(context, 'Host', self.optsWithGlobals<Globals>()));
  command
    .command('describe')
    .argument('<name>', 'name of the Host')
    .description('Show all that is known of a Host, as describe qhost')
    .action(async (name: string, _options, self: Command) => {
      const options = self.optsWithGlobals<Globals>();
      await withSession(context, options, (session) =>
        describeAll(context, session, { kinds: ['Host'], targets: [{ kind: 'Host', ref: { name } }] }, options),
      );
    });
}

function declareLogin(command: Command, context: Context): void {
  command
    .command('trust')
    .argument('<name>', 'name of the Host')
    .description('Show the key that a host has now, and accept it in place of the known one')
    .option('--fingerprint <words>', 'accept this one and no other, without a question: SHA256:...')
    .action(async (name: string, _options, self: Command) =>
      trustKey(context, name, self.optsWithGlobals<TrustOptions>()),
    );
  const credentials = command
    .command('credentials')
    .argument('<name>', 'name of the Host')
    .description('Replace the credentials of a host, once it has let you in with the new ones');
  addCredentialOptions(credentials);
  credentials.action(async (name: string, _options, self: Command) =>
    replaceCredentials(context, name, self.optsWithGlobals<CredentialOptions & Globals>()),
  );
}
