/** Hosts that are made for an address over SSH which a call names, and live from use to use. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type Manifest, parseManifest } from '../api/admission.ts';
import { AlreadyExistsError, ForbiddenError, messageOf, oneLine, quoteValue } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import type { Attempt, Credentials, SshSpec, Welcome } from '../api/host-ssh.ts';
import { ANNOTATIONS, API_VERSION } from '../api/meta.ts';
import { withOwnCredentials } from '../store/host-credentials.ts';
import type { SecretStore, Store } from '../store/store.ts';
import { firstVersion } from '../store/watching.ts';
import { Refusal } from './envelope.ts';
import type { HostArguments } from './hosts.ts';
import { now, unlessForbidden } from './looks.ts';
import { absolute, DEFAULT_PORT, requireSameLogin, type SshField } from './registered-hosts.ts';
import type { ToolContext } from './tool.ts';

export interface Remotes {
  readonly secrets: SecretStore;
  /** Port and user of a login, as ~/.ssh/config has them where nothing is said. */
  readonly loginOf: (ssh: SshSpec) => Promise<{ readonly port: number; readonly user: string }>;
  /** Whether a call may name the file of a key. Over HTTP it may not: that would be one of the server's machine. */
  readonly keyFiles: boolean;
  /** A first login; absent in a server that may make no Host. */
  readonly welcome?: ((attempt: Omit<Attempt, 'onNewKey'>, signal: AbortSignal) => Promise<Welcome>) | undefined;
}

const FIRST_LOOK_MS = 20_000;
/** The time of the last use is written no more often. */
const USED_EVERY_MS = 60_000;

/** A Host that tools made lives from use to use. */
export async function noteUse(store: Store, { metadata }: Host): Promise<void> {
  const usedAt = metadata.annotations?.[ANNOTATIONS.lastUsedAt];
  if (usedAt === undefined || Date.now() - Date.parse(usedAt) < USED_EVERY_MS) return;
  const annotations = { [ANNOTATIONS.lastUsedAt]: now() };
  // Whoever may only see a Host does not prolong its life.
  await unlessForbidden(store.patch('Host', metadata, { metadata: { annotations } }, { uid: metadata.uid }));
}

/** @throws Refusal where the machine is not reached, or does not let us in: then nothing is kept */
export async function makeHost(context: ToolContext, address: string, args: HostArguments): Promise<Host> {
  const { store, say, remotes, signal } = context;
  const user = args.ssh_user ?? '';
  const credentials = credentialsOf(context, args);
  const ssh = { address, ...(args.ssh_port === undefined ? {} : { port: args.ssh_port }), user };
  // A wrong address or user is refused before anything is tried.
  parseManifest(documentOf(nameFor(address, DEFAULT_PORT, user), { ssh }));
  if (remotes.welcome === undefined) throw new Refusal(say.readOnly(), { code: 'ReadOnly', field: 'host' });
  const name = nameFor(address, (await remotes.loginOf(ssh)).port, user);
  const found = await remotes.welcome({ name, ssh, credentials }, signal).catch((error: unknown) => {
    signal.throwIfAborted();
    if (error instanceof ForbiddenError) throw error;
    throw notLetIn(context, error, { address, args });
  });
  const hostKeys = found.newKeys.length === 0 ? {} : { hostKeys: found.newKeys };
  const spec = {
    ssh: { ...ssh, ...hostKeys, credentialsSecretRef: { name } },
    vmDir: found.vmDir,
    allowedPaths: ['/'],
  };
  const manifest = parseManifest(documentOf(name, spec)) as Manifest<'Host'>;
  // Another call may have made it since: its credentials stay.
  const other = await store.get('Host', { name });
  if (other !== undefined) await requireSameLogin(context, other, args);
  const make = () => createOrGet(store, manifest, spec);
  const place = { store, secrets: remotes.secrets };
  const made = other ?? (await withOwnCredentials(place, { host: name, credentials }, make));
  await firstVersion(store, 'Host', {
    ref: made.metadata,
    forMs: FIRST_LOOK_MS,
    signal,
    accept: (host) =>
      host?.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') || undefined,
  });
  return (await store.get('Host', { name })) ?? made;
}

async function createOrGet(
  store: Store,
  manifest: Manifest<'Host'>,
  asWritten: Readonly<Record<string, unknown>>,
): Promise<Host> {
  try {
    return await store.create(manifest, { asWritten });
  } catch (error) {
    const other = error instanceof AlreadyExistsError ? await store.get('Host', manifest.metadata) : undefined;
    if (other === undefined) throw error;
    return other;
  }
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

/** The same for the same machine and user, however often it is made. */
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

function notLetIn(
  { say }: ToolContext,
  error: unknown,
  { address, args }: { readonly address: string; readonly args: HostArguments },
): Refusal {
  const code = (error instanceof Error ? CODES[error.name] : undefined) ?? 'HostUnreachable';
  // The sentence goes on.
  const message = oneLine(messageOf(error), 500).replace(/\.$/, '');
  const said = say.notLetIn(oneLine(address, 64), say.why(code, message));
  if (code !== 'CredentialsInvalid') return new Refusal(said, { code, field: 'host', value: quoteValue(address) });
  const field: SshField = args.ssh_key === undefined ? 'ssh_pwd' : 'ssh_key';
  const { ssh_port, ssh_user } = args;
  const next = { tool: 'list_vms', arguments: { host: address, ssh_port, ssh_user, [field]: '...' } };
  return new Refusal(said, { code, field, next });
}
