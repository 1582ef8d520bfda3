/** host trust and host credentials: how a host is known, and how it knows us. */
import { quoteValue } from '../api/errors.ts';
import type { Host } from '../api/host.ts';
import { type Credentials, hostKeyWords, type SshSpec } from '../api/host-ssh.ts';
import { keepCredentials, usersOf, withOwnCredentials } from '../store/host-credentials.ts';
import { type Context, type Globals, print, tell, withSession } from './context.ts';
import { CliError, EXIT, usageError } from './exit-codes.ts';
import { type CredentialOptions, credentialsOf } from './host-credentials.ts';
import { promptLine } from './prompt.ts';
import { requireObject } from './resources.ts';
import type { Session } from './session.ts';

export interface TrustOptions extends Globals {
  readonly fingerprint?: string;
}

const TIMEOUT_MS = 30_000;

type RemoteHost = Host & { readonly spec: { readonly ssh: SshSpec } };

async function remoteHost({ store }: Session, name: string): Promise<RemoteHost> {
  const host = await requireObject(store, { kind: 'Host', ref: { name } });
  if (host.spec.ssh === undefined) throw usageError(`Host ${name} is this machine: nobody logs in there`);
  return host as RemoteHost;
}

/** A key was shown; nothing else is wanted of the host. */
class Shown extends Error {
  readonly key: string;
  constructor(key: string) {
    super('shown');
    this.key = key;
  }
}

export async function trustKey(context: Context, name: string, options: TrustOptions): Promise<void> {
  await withSession(context, options, async (session) => {
    const host = await remoteHost(session, name);
    const { hostKeys = [], ...ssh } = host.spec.ssh;
    const given = givenFingerprint(options);
    const key = await shownKey(context, session, { name, ssh });
    const words = hostKeyWords(key);
    if (given !== undefined && given !== words && given !== words.split(' ')[1])
      throw new CliError(EXIT.conflict, `host/${name} shows ${words}, not ${quoteValue(given)}: nothing was changed`);
    if (hostKeys.some((one) => hostKeyWords(one) === words)) {
      print(context, `host/${name}: ${words} is trusted already`);
      return;
    }
    for (const one of hostKeys) tell(context, `known so far: ${hostKeyWords(one)}`);
    tell(context, `shown now:    ${words}`);
    if (given === undefined) await confirm(context, name, words);
    await session.store.patch(
      'Host',
      host.metadata,
      { spec: { ssh: { hostKeys: [key] } } },
      { uid: host.metadata.uid },
    );
    print(context, `host/${name}: ${words} is trusted from now on`);
  });
}

/** As if nothing were known of the host: whatever it shows is new, and nothing is sent to it. */
async function shownKey(
  context: Context,
  session: Session,
  { name, ssh }: { readonly name: string; readonly ssh: SshSpec },
): Promise<string> {
  let shown: string | undefined;
  const login = session.tryLogin({
    name,
    ssh: { ...ssh, hostKeyPolicy: 'AcceptNew' },
    forgetKeys: true,
    onNewKey: (key) => {
      shown = key;
      throw new Shown(key);
    },
  });
  try {
    await login.shell.run(':', [], { timeoutMs: TIMEOUT_MS, signal: context.signal });
  } catch (error) {
    if (shown === undefined) throw error;
  } finally {
    await login.close();
  }
  if (shown === undefined) throw new CliError(EXIT.failed, `${name} showed no key`);
  return shown;
}

/** Whole, as `ssh-keygen -lf` shows it: a part of it could be anybody's. */
function givenFingerprint({ fingerprint }: TrustOptions): string | undefined {
  if (fingerprint === undefined || /^(\S+ )?SHA256:[\w+/]{43}$/.test(fingerprint)) return fingerprint;
  throw usageError(
    `--fingerprint ${quoteValue(fingerprint)}: it is SHA256: and 43 letters, as ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub shows it on the host`,
  );
}

async function confirm(context: Context, name: string, words: string): Promise<void> {
  if (context.stdin.isTTY !== true)
    throw usageError(
      `compare it with the host's own (ssh-keygen -lf), then: host trust ${name} --fingerprint ${words.split(' ')[1]}`,
    );
  const answer = await promptLine(context, `Is that the key of ${name}? [yes/no] `);
  if (answer.trim() !== 'yes') throw new CliError(EXIT.failed, 'nothing was changed');
}

export async function replaceCredentials(
  context: Context,
  name: string,
  options: CredentialOptions & Globals,
): Promise<void> {
  await withSession(context, options, async (session) => {
    const host = await remoteHost(session, name);
    const credentials = await credentialsOf(context, options);
    if (credentials === undefined) throw usageError('give --identity, --key or --password');
    const trust = `${context.invokedAs} host trust ${name}`;
    const login = session.tryLogin({ name, ssh: host.spec.ssh, credentials, trust, onNewKey: () => undefined });
    try {
      await login.shell.run(':', [], { timeoutMs: TIMEOUT_MS, signal: context.signal });
    } finally {
      await login.close();
    }
    const secret = await replaceIn(context, session, host, credentials);
    const { operatorNamespace } = session.secrets;
    print(context, `host/${name}: credentials replaced (Secret ${secret} in namespace ${operatorNamespace})`);
  });
}

/** @returns name of the Secret: the one that the Host names, which others may share, else one of its own */
async function replaceIn(
  context: Context,
  session: Session,
  { metadata, spec }: RemoteHost,
  credentials: Credentials,
): Promise<string> {
  const { name, uid } = metadata;
  const secret = spec.ssh.credentialsSecretRef?.name;
  if (secret === undefined) {
    const patch = { spec: { ssh: { credentialsSecretRef: { name } } } };
    await withOwnCredentials(session, { host: name, credentials }, () =>
      session.store.patch('Host', metadata, patch, { uid }),
    );
    return name;
  }
  await keepCredentials(session.secrets, secret, credentials);
  const others = (await usersOf(session, secret)).filter((host) => host.metadata.uid !== uid);
  if (others.length > 0)
    tell(context, `with them log in as well: ${others.map((host) => `host/${host.metadata.name}`).join(', ')}`);
  return secret;
}
