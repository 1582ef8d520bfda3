/** Hosts over SSH as a call names them: by a registered name or address, else one that is made for the address. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { type Manifest, parseManifest } from '../api/admission.ts';
import { AlreadyExistsError, messageOf, oneLine, quoteValue } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import type { Attempt, Credentials, Welcome } from '../api/host-ssh.ts';
import { ANNOTATIONS, API_VERSION } from '../api/meta.ts';
import { keepCredentials, readCredentials } from '../store/host-credentials.ts';
import type { SecretStore, Store } from '../store/store.ts';
import { firstVersion } from '../store/watching.ts';
import { Refusal } from './envelope.ts';
import type { HostArguments } from './hosts.ts';
import { now } from './looks.ts';
import type { ToolContext } from './tool.ts';

export interface Remotes {
  readonly secrets: SecretStore;
  /** A first login; absent in a server that may make no Host. */
  readonly welcome?: ((attempt: Omit<Attempt, 'onNewKey'>, signal: AbortSignal) => Promise<Welcome>) | undefined;
}

const DEFAULT_PORT = 22;
const SSH_FIELDS = ['ssh_port', 'ssh_user', 'ssh_pwd', 'ssh_key'] as const;
type SshField = (typeof SSH_FIELDS)[number];
const FIRST_LOOK_MS = 20_000;
/** The time of the last use is written no more often. */
const USED_EVERY_MS = 60_000;

/** A registered Host by name, else by address, as far as the call says more of it. */
export function registered(hosts: readonly Host[], wanted: string, args: HostArguments): Host | undefined {
  const named = hosts.find(({ metadata }) => metadata.name === wanted);
  if (named !== undefined) return named;
  const there = hosts.filter(({ spec: { ssh } }) => {
    if (ssh?.address !== wanted) return false;
    const samePort = args.ssh_port === undefined || args.ssh_port === (ssh.port ?? DEFAULT_PORT);
    return samePort && (args.ssh_user === undefined || args.ssh_user === ssh.user);
  });
  return there.length === 1 ? there[0] : undefined;
}

/** @throws Refusal where the call says otherwise than the Host does */
export async function requireSameLogin(context: ToolContext, host: Host, args: HostArguments): Promise<void> {
  const { say, remotes } = context;
  const { name } = host.metadata;
  const given = SSH_FIELDS.filter((field) => args[field] !== undefined);
  if (given.length === 0) return;
  const refuse = (field: SshField, message: string) =>
    new Refusal(message, { code: 'InvalidArgument', field, allowed: [] });
  const { ssh } = host.spec;
  if (ssh === undefined) {
    const [field = 'ssh_user'] = given;
    // Port 22 of this machine is what a careful caller may write out.
    if (given.length === 1 && field === 'ssh_port' && args.ssh_port === DEFAULT_PORT) return;
    throw refuse(field, say.hostIsLocal(name, field));
  }
  const kept = await keptOf(remotes.secrets, ssh.credentialsSecretRef?.name);
  const differing = given.find((field) => !sameAs(field, args, { port: ssh.port, user: ssh.user, kept }));
  if (differing !== undefined) throw refuse(differing, say.loginDiffers(name, differing));
}

async function keptOf(secrets: SecretStore, secret: string | undefined): Promise<Credentials> {
  return secret === undefined ? {} : readCredentials(secrets, secret);
}

interface Known {
  readonly port: number | undefined;
  readonly user: string | undefined;
  readonly kept: Credentials;
}

function sameAs(field: SshField, args: HostArguments, { port = DEFAULT_PORT, user, kept }: Known): boolean {
  switch (field) {
    case 'ssh_port':
      return args.ssh_port === port;
    case 'ssh_user':
      return args.ssh_user === user;
    case 'ssh_key':
      return textOf(kept['ssh-privatekey-path']) === absolute(args.ssh_key ?? '');
    case 'ssh_pwd':
      // The key wins over the password, so that one given beside it says nothing.
      return args.ssh_key !== undefined || textOf(kept.password) === args.ssh_pwd;
  }
}

function textOf(value: Uint8Array | undefined): string | undefined {
  return value && Buffer.from(value).toString('utf8');
}

function absolute(path: string): string {
  return path.startsWith('~/') ? join(homedir(), path.slice(2)) : path;
}

/** A Host that tools made lives from use to use. */
export async function noteUse(store: Store, { metadata }: Host): Promise<void> {
  const usedAt = metadata.annotations?.[ANNOTATIONS.lastUsedAt];
  if (usedAt === undefined || Date.now() - Date.parse(usedAt) < USED_EVERY_MS) return;
  const annotations = { [ANNOTATIONS.lastUsedAt]: now() };
  await store.patch('Host', metadata, { metadata: { annotations } }, { uid: metadata.uid });
}

/** @throws Refusal where the machine is not reached, or does not let us in: then nothing is kept */
export async function makeHost(context: ToolContext, address: string, args: HostArguments): Promise<Host> {
  const { store, say, remotes, signal } = context;
  const user = args.ssh_user ?? '';
  const credentials = credentialsOf(context, args);
  const port = args.ssh_port ?? DEFAULT_PORT;
  const name = nameFor(address, port, user);
  const ssh = { address, port, user };
  // A wrong address or user is refused before anything is tried.
  parseManifest(documentOf(name, { ssh }));
  if (remotes.welcome === undefined) throw new Refusal(say.readOnly(), { code: 'ReadOnly', field: 'host' });
  const found = await remotes.welcome({ name, ssh, credentials }, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    throw notLetIn(context, address, error);
  });
  await keepCredentials(remotes.secrets, name, credentials);
  const hostKeys = found.newKeys.length === 0 ? {} : { hostKeys: found.newKeys };
  const spec = {
    ssh: { ...ssh, ...hostKeys, credentialsSecretRef: { name } },
    vmDir: found.vmDir,
    allowedPaths: ['/'],
  };
  const manifest = parseManifest(documentOf(name, spec)) as Manifest<'Host'>;
  const made = await store.create(manifest, { asWritten: spec }).catch(async (error: unknown) => {
    const other = error instanceof AlreadyExistsError ? await store.get('Host', { name }) : undefined;
    if (other === undefined) throw error;
    return other;
  });
  await firstVersion(store, 'Host', {
    ref: made.metadata,
    forMs: FIRST_LOOK_MS,
    signal,
    accept: (host) =>
      host?.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') || undefined,
  });
  return (await store.get('Host', { name })) ?? made;
}

function documentOf(name: string, spec: object): object {
  const annotations = { [ANNOTATIONS.lastUsedAt]: now() };
  return { apiVersion: API_VERSION, kind: 'Host', metadata: { name, annotations }, spec };
}

function credentialsOf({ say }: ToolContext, args: HostArguments): Credentials {
  const missing = (field: SshField) => new Refusal(say.loginNeeded(field), { code: 'InvalidArgument', field });
  if (args.ssh_user === undefined) throw missing('ssh_user');
  if (args.ssh_key !== undefined) {
    const path = absolute(args.ssh_key);
    try {
      readFileSync(path);
    } catch (error) {
      throw new Refusal(say.keyUnreadable(messageOf(error)), { code: 'InvalidArgument', field: 'ssh_key' });
    }
    return { 'ssh-privatekey-path': Buffer.from(path) };
  }
  if (args.ssh_pwd === undefined) throw missing('ssh_pwd');
  return { password: Buffer.from(args.ssh_pwd) };
}

/** What remote/passing-hosts.ts knows them by. */
function nameFor(address: string, port: number, user: string): string {
  const digest = createHash('sha256').update([address, port, user].join('\n')).digest('hex').slice(0, 6);
  const slug = address
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+/, '')
    .slice(0, 48)
    .replace(/-+$/, '');
  return `host-${slug}-${digest}`;
}

const CODES: Readonly<Record<string, string>> = {
  CredentialsInvalidError: 'CredentialsInvalid',
  HostKeyRefusedError: 'HostKeyChanged',
};

function notLetIn({ say }: ToolContext, address: string, error: unknown): Refusal {
  const code = (error instanceof Error ? CODES[error.name] : undefined) ?? 'HostUnreachable';
  const field = code === 'CredentialsInvalid' ? 'ssh_user' : 'host';
  const why = say.why(code, oneLine(messageOf(error), 500));
  return new Refusal(say.notLetIn(oneLine(address, 64), why), { code, field, value: quoteValue(address) });
}
