/** secret: keeps values that no manifest should hold. They come from stdin, and are never shown again. */
import type { Command } from 'commander';
import { MAX_SECRET_BYTES } from '../api/cloud-init.ts';
import { NotFoundError } from '../api/errors.ts';
import { DEFAULT_NAMESPACE } from '../api/meta.ts';
import { handOver } from '../store/host-credentials.ts';
import { type Context, type Declare, examples, type Globals, print, withSession } from './context.ts';
import { usageError } from './exit-codes.ts';
import { promptHidden } from './prompt.ts';
import { stdinUpTo } from './stdin.ts';
import { Table } from './table.ts';

interface ListOptions extends Globals {
  readonly allNamespaces?: boolean;
}

/** The words themselves are not repeated: one of them is a value. */
const NOT_HERE = 'a value comes from stdin, never from the command line: secret set NAME KEY < FILE';

export const declareSecret: Declare = (command, context) => {
  command
    .command('set <name> <key>')
    .description('Set one value of a Secret: what stdin holds, byte by byte; on a terminal one line, without echo')
    .allowExcessArguments()
    .action(async (name: string, key: string, _options, self: Command) => {
      if (self.args.length > 2 || key.includes('=')) throw usageError(NOT_HERE);
      await setSecret(context, { name, key }, self.optsWithGlobals<Globals>());
    });
  command
    .command('list')
    .description('List names, keys and sizes; never values')
    .option('-A, --all-namespaces', 'of all namespaces')
    .action(async (_options, self: Command) => listSecrets(context, self.optsWithGlobals<ListOptions>()));
  command
    .command('delete <name> [key]')
    .description('Delete a Secret, or one key of it')
    .action(async (name: string, key: string | undefined, _options, self: Command) =>
      deleteSecret(context, { name, key }, self.optsWithGlobals<Globals>()),
    );
  for (const one of command.commands) one.configureHelp({ showGlobalOptions: true });
  examples(command, [
    ['Keep user data with a password for cloudInit.userDataSecretRef', 'secret set web-1 user-data < user-data.yaml'],
    ['What there is', 'secret list'],
    ['Take it away', 'secret delete web-1'],
  ]);
};

async function setSecret(
  context: Context,
  { name, key }: { readonly name: string; readonly key: string },
  options: Globals,
): Promise<void> {
  const prompt = `Value of ${key} in Secret ${name} (one line, not shown): `;
  const value =
    context.stdin.isTTY === true ? await promptHidden(context, prompt) : await stdinUpTo(context, MAX_SECRET_BYTES);
  await withSession(context, options, async ({ store, secrets }) => {
    const namespace = options.namespace ?? DEFAULT_NAMESPACE;
    const outcome = await secrets.set({ namespace, name, key }, value);
    if (namespace === secrets.operatorNamespace) await handOver({ store, secrets }, name);
    print(context, `secret/${name} ${outcome} (key ${key}, ${value.length} bytes)`);
  });
}

async function listSecrets(context: Context, { allNamespaces = false, ...options }: ListOptions): Promise<void> {
  await withSession(context, options, async ({ secrets }) => {
    const entries = await secrets.list(allNamespaces ? undefined : (options.namespace ?? DEFAULT_NAMESPACE));
    const header = ['NAME', 'KEY', 'BYTES'];
    const rows = entries.map(({ namespace, name, key, bytes }) => [
      ...(allNamespaces ? [namespace] : []),
      ...[name, key, String(bytes)],
    ]);
    for (const line of new Table().lines([allNamespaces ? ['NAMESPACE', ...header] : header, ...rows]))
      print(context, line);
  });
}

async function deleteSecret(
  context: Context,
  { name, key }: { readonly name: string; readonly key: string | undefined },
  options: Globals,
): Promise<void> {
  await withSession(context, options, async ({ secrets }) => {
    const namespace = options.namespace ?? DEFAULT_NAMESPACE;
    const gone = await secrets.delete({ namespace, name }, key);
    const what = key === undefined ? `secret/${name}` : `key ${key} of secret/${name}`;
    if (gone === 0) throw new NotFoundError(`${what} not found in namespace ${namespace}`);
    print(context, `${what} deleted`);
  });
}
