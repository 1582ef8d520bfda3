/** Which registered Host a call means, and whether the login that it names is that Host's. */
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { oneLine, quoteValue } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import type { Credentials } from '../api/host-ssh.ts';
import { readCredentials } from '../store/host-credentials.ts';
import { Refusal } from './envelope.ts';
import type { HostArguments } from './hosts.ts';
import { listed, MAX_NAMED } from './names.ts';
import type { ToolContext } from './tool.ts';

export const DEFAULT_PORT = 22;
const SSH_FIELDS = ['ssh_port', 'ssh_user', 'ssh_pwd', 'ssh_key'] as const;
export type SshField = (typeof SSH_FIELDS)[number];

interface Asked {
  readonly wanted: string;
  readonly args: HostArguments;
}

/**
 * By name, else by address, as far as the call says more of it.
 * @throws Refusal where several have the address, or the call says otherwise than the Host does
 */
export async function registered(
  context: ToolContext,
  hosts: readonly Host[],
  { wanted, args }: Asked,
): Promise<Host | undefined> {
  const named = hosts.find(({ metadata }) => metadata.name === wanted);
  const there = named === undefined ? await allThere(context, hosts, { wanted, args }) : [named];
  const [only] = there;
  if (only === undefined) return undefined;
  if (there.length > 1) return theOne(context, there, { wanted, args });
  await requireSameLogin(context, only, args);
  return only;
}

async function allThere(context: ToolContext, hosts: readonly Host[], { wanted, args }: Asked): Promise<Host[]> {
  const found: Host[] = [];
  for (const host of hosts) {
    if (host.spec.ssh?.address !== wanted) continue;
    const { port, user } = await context.remotes.loginOf(host.spec.ssh);
    const isSame = (args.ssh_port ?? port) === port && (args.ssh_user ?? user) === user;
    if (isSame) found.push(host);
  }
  return found;
}

/** The machine is registered: nothing else is made for it. */
async function theOne(context: ToolContext, there: readonly Host[], { wanted, args }: Asked): Promise<Host> {
  const same: Host[] = [];
  for (const host of there) if ((await differing(context, host, args)) === undefined) same.push(host);
  const [only] = same;
  if (only !== undefined && same.length === 1) return only;
  const names = there.map(({ metadata }) => metadata.name).sort();
  throw new Refusal(context.say.ambiguousAddress(oneLine(wanted, 64), listed(names)), {
    code: 'InvalidArgument',
    field: 'host',
    value: quoteValue(wanted),
    allowed: names.slice(0, MAX_NAMED),
    next: { tool: 'list_vms', arguments: { host: names[0] } },
  });
}

/** @throws Refusal where the call says otherwise than the Host does */
export async function requireSameLogin(context: ToolContext, host: Host, args: HostArguments): Promise<void> {
  const { say } = context;
  const { name } = host.metadata;
  const field = await differing(context, host, args);
  if (field === undefined) return;
  const message =
    host.spec.ssh === undefined
      ? say.hostIsLocal(name, field)
      : say.loginDiffers(name, field, `qemu-operator ${CHANGES[field](name)}`);
  const next = { tool: 'list_vms', arguments: { host: name } };
  throw new Refusal(message, { code: 'InvalidArgument', field, allowed: [], next });
}

/** The command of people that changes what a Host has of a field. */
const CHANGES: Readonly<Record<SshField, (host: string) => string>> = {
  ssh_port: (host) => `patch qhost ${host} -p '{spec: {ssh: {port: PORT}}}'`,
  ssh_user: (host) => `patch qhost ${host} -p '{spec: {ssh: {user: USER}}}'`,
  ssh_pwd: (host) => `host credentials ${host} --password`,
  ssh_key: (host) => `host credentials ${host} --identity FILE`,
};

/** The first argument that says otherwise than the Host does. */
async function differing(context: ToolContext, host: Host, args: HostArguments): Promise<SshField | undefined> {
  const given = SSH_FIELDS.filter((field) => args[field] !== undefined);
  if (given.length === 0) return undefined;
  const { ssh } = host.spec;
  // Port 22 of this machine is what a careful caller may write out.
  if (ssh === undefined) return given.find((field) => field !== 'ssh_port' || args.ssh_port !== DEFAULT_PORT);
  const { secrets, loginOf } = context.remotes;
  const isAsked = args.ssh_pwd !== undefined || args.ssh_key !== undefined;
  const secret = isAsked ? ssh.credentialsSecretRef?.name : undefined;
  const kept = secret === undefined ? {} : await readCredentials(secrets, secret);
  const known = { ...(await loginOf(ssh)), kept };
  return given.find((field) => !sameAs(field, args, known));
}

interface Known {
  readonly port: number;
  readonly user: string;
  readonly kept: Credentials;
}

function sameAs(field: SshField, args: HostArguments, { port, user, kept }: Known): boolean {
  switch (field) {
    case 'ssh_port':
      return args.ssh_port === port;
    case 'ssh_user':
      return args.ssh_user === user;
    case 'ssh_key':
      return isKept(kept, absolute(args.ssh_key ?? ''));
    case 'ssh_pwd':
      // The key wins over the password, so that one given beside it says nothing.
      return args.ssh_key !== undefined || textOf(kept.password) === args.ssh_pwd;
  }
}

/** By its path; where another machine reads the Secret, by what is in the file. */
function isKept(kept: Credentials, path: string): boolean {
  if (textOf(kept['ssh-privatekey-path']) === path) return true;
  const key = kept['ssh-privatekey'];
  return key !== undefined && existsSync(path) && readFileSync(path).equals(key);
}

function textOf(value: Uint8Array | undefined): string | undefined {
  return value && Buffer.from(value).toString('utf8');
}

export function absolute(path: string): string {
  return path.startsWith('~/') ? join(homedir(), path.slice(2)) : path;
}
