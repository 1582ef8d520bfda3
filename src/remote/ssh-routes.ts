/** From what a Host says of SSH to the way there: whom to call, with which credentials, by which keys. */
import { readFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { ForbiddenError, messageOf } from '../api/errors.ts';
import type { Credentials, SshSpec } from '../api/host-ssh.ts';
import { HostUnreachableError, type Shell } from '../host/shell.ts';
import type { SshConfig } from '../host/ssh-config.ts';
import { CredentialsInvalidError, type SshCredentials, type SshIdentity, type SshRoute } from '../host/ssh-route.ts';
import { readCredentials } from '../store/host-credentials.ts';
import type { SecretReader } from '../store/store.ts';

/** spec.jumpHostName leads nowhere, or back. */
export class JumpHostInvalidError extends HostUnreachableError {
  override name = 'JumpHostInvalidError';
}

export interface Remote {
  readonly name: string;
  readonly ssh: SshSpec;
  /** The command by which a person trusts another key. */
  readonly trust?: string;
  /** Its credentials are in no Secret yet. */
  readonly areGiven?: boolean;
}

export interface RouteOptions {
  readonly remote: Remote;
  /** What ~/.ssh/config says of the address; undefined where OpenSSH is not installed. */
  readonly config: SshConfig | undefined;
  /** What is kept of its credentials; undefined: the agent and the identity files of ~/.ssh/config serve. */
  readonly credentials: () => Promise<Credentials | undefined>;
  readonly accept: (key: string) => Promise<void>;
  readonly jump?: Pick<Shell, 'dialTcp'> | undefined;
  readonly forgetKeys?: boolean | undefined;
  /** Files and the agent of this machine's user are not for this Host. */
  readonly isolated?: boolean | undefined;
}

const DEFAULT_PORT = 22;

export function routeOf({ remote, config, credentials, accept, jump, forgetKeys, isolated }: RouteOptions): SshRoute {
  const { name, ssh, areGiven = false } = remote;
  if (isolated === true && ssh.user === undefined)
    throw new CredentialsInvalidError('spec.ssh.user is absent: in a cluster nobody has a name of their own there', []);
  const from = areGiven ? 'the given credentials' : `Secret ${ssh.credentialsSecretRef?.name ?? name}`;
  return {
    name,
    ...loginOf(ssh, config),
    credentials: async () => {
      const kept = await credentials();
      if (isolated === true) refuseFiles(kept, from);
      return kept === undefined ? ownCredentials(config) : keptCredentials(kept, from);
    },
    hostKeys: {
      pinned: ssh.hostKeys ?? [],
      policy: ssh.hostKeyPolicy ?? (config?.isStrict === true ? 'Strict' : 'AcceptNew'),
      ...(forgetKeys === true || config === undefined ? {} : { knownHosts: config.knownHosts }),
      ...(config?.hostKeyAlias === undefined ? {} : { knownAs: config.hostKeyAlias }),
      accept,
      ...(remote.trust === undefined ? {} : { trust: remote.trust }),
    },
    ...(jump === undefined ? {} : { jump }),
  };
}

/** @throws CredentialsInvalidError where only this machine would have what is needed */
function refuseFiles(kept: Credentials | undefined, from: string): void {
  if (kept === undefined)
    throw new CredentialsInvalidError(
      'spec.ssh.credentialsSecretRef is absent: in a cluster the operator has no keys of its own',
      [],
    );
  if (kept['ssh-privatekey-path'] !== undefined && kept['ssh-privatekey'] === undefined)
    throw new CredentialsInvalidError(
      `ssh-privatekey-path of ${from} names a file of the operator's: put the key itself in ssh-privatekey`,
      [],
    );
}

/** For who has rights to the objects of a cluster and none to its Hosts' credentials. */
const ONLY_OBJECTS =
  'this asks the host itself, with its credentials. What needs none: get, describe, events, top, and all that changes objects';

/** @throws CredentialsInvalidError where the Secret has none, ForbiddenError where it is not for this person */
export async function secretCredentials(secrets: SecretReader, name: string): Promise<Credentials> {
  const found = await readCredentials(secrets, name).catch((error: unknown) => {
    if (!(error instanceof ForbiddenError)) throw error;
    throw new ForbiddenError(`${error.message}; ${ONLY_OBJECTS}`, { cause: error });
  });
  if (Object.keys(found).some((key) => key !== 'passphrase')) return found;
  const ref = { namespace: secrets.operatorNamespace, name, key: 'ssh-privatekey' };
  throw new CredentialsInvalidError(
    `Secret ${name} in namespace ${ref.namespace} is not there, or has neither password nor ssh-privatekey; set one: ${secrets.setCommand(ref)}`,
    [],
  );
}

/** Where a login goes, and whose it is. */
export function loginOf(ssh: SshSpec, config: SshConfig | undefined): Pick<SshRoute, 'address' | 'port' | 'user'> {
  return {
    address: config?.hostName ?? ssh.address,
    port: ssh.port ?? config?.port ?? DEFAULT_PORT,
    user: ssh.user ?? config?.user ?? userInfo().username,
  };
}

/** @param from where they are kept, for messages */
async function keptCredentials(kept: Credentials, from: string): Promise<SshCredentials> {
  const { password, passphrase } = kept;
  const identity = await keptIdentity(kept, from);
  return {
    ...(identity === undefined
      ? {}
      : {
          identities: [{ ...identity, ...(passphrase === undefined ? {} : { passphrase: lineOf(passphrase) }) }],
        }),
    ...(password === undefined ? {} : { password: lineOf(password) }),
    from,
  };
}

async function keptIdentity(kept: Credentials, from: string): Promise<SshIdentity | undefined> {
  const key = kept['ssh-privatekey'];
  if (key !== undefined) return { privateKey: key, from: `ssh-privatekey of ${from}` };
  const path = kept['ssh-privatekey-path'];
  if (path === undefined) return undefined;
  const file = lineOf(path);
  const privateKey = await readFile(file).catch((error: unknown) => {
    throw new CredentialsInvalidError(`the private key of ${from} cannot be read: ${messageOf(error)}`, []);
  });
  return { privateKey, from: file };
}

/** What a person keeps for ssh itself. A file that is not there is none. */
async function ownCredentials(config: SshConfig | undefined): Promise<SshCredentials> {
  const agentSocket = config === undefined ? process.env['SSH_AUTH_SOCK'] : config.agentSocket;
  const files = config?.identityFiles ?? [];
  const identities = await Promise.all(
    files.map(async (from): Promise<SshIdentity | undefined> => {
      const privateKey = await readFile(from).catch(() => undefined);
      return privateKey && { privateKey, from };
    }),
  );
  return {
    identities: identities.filter((identity) => identity !== undefined),
    ...(agentSocket === undefined ? {} : { agentSocket }),
    from: 'the SSH agent and the identity files of ~/.ssh/config',
  };
}

/** Text editors end a file with a line break. */
function lineOf(value: Uint8Array): string {
  return Buffer.from(value)
    .toString('utf8')
    .replace(/\r?\n$/, '');
}
