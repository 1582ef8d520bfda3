/**
 * The shells of a process: one per Host, shared by its loop and its streams. What a Host says of SSH is read anew
 * at each use, so a changed spec or Secret serves at once, whoever changed it.
 */
import type { Host } from '../api/host.ts';
import type { Attempt, Credentials, SshSpec } from '../api/host-ssh.ts';
import { LocalShell } from '../host/local-shell.ts';
import { HostUnreachableError, type Login, type Shell } from '../host/shell.ts';
import type { SshJump } from '../host/ssh-config.ts';
import type { SecretReader, Store } from '../store/store.ts';
import { RemoteShell, type Source, type Ways } from './remote-shell.ts';
import { JumpHostInvalidError, type Remote, secretCredentials } from './ssh-routes.ts';

/** This machine is no host: the operator of a cluster runs wherever the cluster puts it. */
class LocalNotAllowedError extends HostUnreachableError {
  override name = 'LocalNotAllowedError';
}

class NoLocalShell extends LocalShell {
  override async run(): Promise<never> {
    throw new LocalNotAllowedError(
      'spec.local is the machine that the operator runs on: reach the host by spec.ssh, or start the operator with --allow-local-host',
    );
  }
}

export interface HostShellsOptions {
  /**
   * For the operator of a cluster: of its own machine nothing serves, neither as a Host nor its user's keys, agent and
   * ssh_config.
   */
  readonly isolated?: boolean;
  /** Whether this machine may be a Host all the same. */
  readonly allowLocal?: boolean;
}

export class HostShells implements Ways {
  readonly #store: Store;
  readonly #secrets: SecretReader;
  readonly #local: LocalShell;
  readonly isolated: boolean;
  readonly #remote = new Map<string, RemoteShell>();

  constructor(
    store: Store,
    secrets: SecretReader,
    { isolated = false, allowLocal = !isolated }: HostShellsOptions = {},
  ) {
    this.#store = store;
    this.#secrets = secrets;
    this.isolated = isolated;
    this.#local = allowLocal ? new LocalShell() : new NoLocalShell();
  }

  of(host: Host): Shell {
    return this.remote(host) ?? this.#local;
  }

  /** Undefined: the Host is this machine. */
  remote({ metadata, spec }: Host): RemoteShell | undefined {
    if (spec.ssh === undefined) return undefined;
    const known = this.#remote.get(metadata.uid);
    if (known !== undefined) return known;
    const made = new RemoteShell(new StoredRemote(this.#store, this.#secrets, metadata), this);
    this.#remote.set(metadata.uid, made);
    return made;
  }

  /** A login of its own, with nothing kept. */
  attempt(attempt: Attempt): Login {
    return new RemoteShell(new AttemptedRemote(attempt, this.#secrets), this);
  }

  /** The hops that ~/.ssh/config names, the nearest first. Their keys must be known: nothing keeps new ones. */
  hops(jumps: readonly SshJump[]): Shell | undefined {
    let through: Shell | undefined;
    for (const [at, jump] of jumps.entries()) {
      const key = JSON.stringify(jumps.slice(0, at + 1));
      const known = this.#remote.get(key) ?? new RemoteShell(new ConfiguredHop(jump), this, through);
      this.#remote.set(key, known);
      through = known;
    }
    return through;
  }

  /**
   * The shell of the Host through which another one is reached.
   * @throws JumpHostInvalidError where the way is none
   */
  async jumpOf({ name, ssh }: Remote): Promise<Shell | undefined> {
    let first: Shell | undefined;
    const passed = [name];
    for (let next = ssh.jumpHostName; next !== undefined; ) {
      const host = await this.#store.get('Host', { name: next });
      const shell = host && this.remote(host);
      const words = [...passed, next].join(' → ');
      if (passed.includes(next)) throw new JumpHostInvalidError(`jumpHostName leads in a circle: ${words}`);
      if (host === undefined)
        throw new JumpHostInvalidError(`jumpHostName of Host ${passed.at(-1)}: there is no Host ${next}`);
      if (shell === undefined)
        throw new JumpHostInvalidError(`jumpHostName of Host ${passed.at(-1)}: Host ${next} is not behind SSH`);
      first ??= shell;
      passed.push(next);
      next = host.spec.ssh?.jumpHostName;
    }
    return first;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#remote.values()].map((shell) => shell.close()));
    this.#remote.clear();
  }
}

class StoredRemote implements Source {
  readonly #store: Store;
  readonly #secrets: SecretReader;
  readonly #ref: { readonly name: string; readonly uid: string };

  constructor(store: Store, secrets: SecretReader, { name, uid }: Host['metadata']) {
    this.#store = store;
    this.#secrets = secrets;
    this.#ref = { name, uid };
  }

  async remote(): Promise<Remote> {
    const { name, uid } = this.#ref;
    const host = await this.#store.get('Host', { name });
    if (host?.metadata.uid !== uid || host.spec.ssh === undefined)
      throw new HostUnreachableError(`Host ${name} is not behind SSH any more`);
    return { name, ssh: host.spec.ssh, trust: `qemu-operator host trust ${name}` };
  }

  async credentials({ ssh }: Remote): Promise<Credentials | undefined> {
    const secret = ssh.credentialsSecretRef?.name;
    return secret === undefined ? undefined : secretCredentials(this.#secrets, secret);
  }

  async accept(key: string): Promise<void> {
    const { name, uid } = this.#ref;
    await this.#store.patch('Host', { name }, { spec: { ssh: { hostKeys: [key] } } }, { uid });
  }
}

class AttemptedRemote implements Source {
  readonly forgetKeys: boolean | undefined;
  readonly #attempt: Attempt;
  readonly #secrets: SecretReader;

  constructor(attempt: Attempt, secrets: SecretReader) {
    this.#attempt = attempt;
    this.#secrets = secrets;
    this.forgetKeys = attempt.forgetKeys;
  }

  async remote(): Promise<Remote> {
    const { name, ssh, credentials, trust = byHand(ssh) } = this.#attempt;
    return { name, ssh, trust, areGiven: credentials !== undefined };
  }

  async credentials(): Promise<Credentials | undefined> {
    const { credentials, ssh } = this.#attempt;
    const secret = ssh.credentialsSecretRef?.name;
    if (credentials !== undefined || secret === undefined) return credentials;
    return secretCredentials(this.#secrets, secret);
  }

  async accept(key: string): Promise<void> {
    this.#attempt.onNewKey(key);
  }
}

class ConfiguredHop implements Source {
  readonly #jump: SshJump;

  constructor(jump: SshJump) {
    this.#jump = jump;
  }

  async remote(): Promise<Remote> {
    const { address } = this.#jump;
    return { name: address, ssh: { ...this.#jump, hostKeyPolicy: 'Strict' }, trust: `ssh ${address}` };
  }

  async credentials(): Promise<undefined> {
    return undefined;
  }

  async accept(): Promise<void> {
    throw new Error(`nothing keeps the key of ${this.#jump.address}`);
  }
}

/** Where no Host keeps keys: ssh keeps them in known_hosts, or says which line there is in its way. */
function byHand({ address, port, user, jumpHostName, hostKeyPolicy }: SshSpec): string {
  const login = `ssh ${port === undefined ? '' : `-p ${port} `}${user === undefined ? '' : `${user}@`}${address}`;
  // Behind a Host, ssh itself may not get there.
  const once = jumpHostName === undefined ? `${login} once` : 'enter it in known_hosts';
  return hostKeyPolicy === 'Strict' ? `${once}; or take --host-key-policy AcceptNew, where it is new` : once;
}
