/** Credentials as a person gives them: a file by its path, all else from stdin or a question, never from the command line. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { messageOf } from '../api/errors.ts';
import type { Credentials } from '../api/host-ssh.ts';
import type { Context } from './context.ts';
import { usageError } from './exit-codes.ts';
import { promptHidden } from './prompt.ts';
import { stdinUpTo } from './stdin.ts';

export interface CredentialOptions {
  readonly identity?: string;
  readonly key?: boolean;
  readonly password?: boolean;
  readonly passphrase?: boolean;
}

/** Far more than a key has. */
const MAX_STDIN = 65_536;

export function addCredentialOptions(command: Command): void {
  command
    .option('-i, --identity <file>', 'private key on this machine; its path is kept, in a cluster the key itself')
    .option('--key', 'private key from stdin; it is kept in a Secret')
    .option('--password', 'password, from stdin or asked for; it is kept in a Secret')
    .option('--passphrase', 'passphrase of the --identity, from stdin or asked for; it is kept in a Secret');
}

/** undefined: none were given. @throws CliError usage */
export async function credentialsOf(context: Context, options: CredentialOptions): Promise<Credentials | undefined> {
  const { identity, key = false, password = false, passphrase = false } = options;
  if ([key, password, passphrase].filter(Boolean).length > 1)
    throw usageError('--key, --password and --passphrase each read stdin: give one of them');
  if (key && identity !== undefined) throw usageError('--key and --identity are both private keys: give one of them');
  if (passphrase && identity === undefined) throw usageError('--passphrase is of an --identity: give it too');
  if (key && context.stdin.isTTY === true) throw usageError('--key reads the private key from stdin: --key < FILE');
  const file = identity === undefined ? undefined : readableFile(identity);
  if (file === undefined && !key && !password) return undefined;
  return {
    ...(file === undefined ? {} : { 'ssh-privatekey-path': Buffer.from(file) }),
    ...(key ? { 'ssh-privatekey': await stdinOf(context) } : {}),
    ...(password ? { password: await lineOf(context, 'Password: ') } : {}),
    ...(passphrase ? { passphrase: await lineOf(context, 'Passphrase: ') } : {}),
  };
}

function readableFile(path: string): string {
  try {
    readFileSync(path);
    return resolve(path);
  } catch (error) {
    throw usageError(`--identity: ${messageOf(error)}`);
  }
}

async function lineOf(context: Context, question: string): Promise<Buffer> {
  const text = context.stdin.isTTY === true ? await promptHidden(context, question) : await stdinOf(context);
  const line = Buffer.from(text.toString('utf8').replace(/\r?\n$/, ''));
  if (line.length === 0) throw usageError('stdin is empty');
  return line;
}

async function stdinOf(context: Context): Promise<Buffer> {
  const text = await stdinUpTo(context, MAX_STDIN);
  if (text.length > MAX_STDIN) throw usageError(`stdin has more than ${MAX_STDIN} bytes: that is no credential`);
  if (text.length === 0) throw usageError('stdin is empty');
  return text;
}
