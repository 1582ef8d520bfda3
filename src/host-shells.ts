/**
 * The shells of a process: one per Host, shared by its loop and its streams. What a Host says of SSH is read anew
 * at each use, so a changed spec or Secret serves at once, whoever changed it.
 */
import { createHash } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { isDeepStrictEqual } from 'node:util';
import { Subject } from 'rxjs';
import type { Host } from './api/host.ts';
import { type Attempt, type Credentials, hostKeyWords, type SshSpec } from './api/host-ssh.ts';
import type { Login } from './cli/session.ts';
import { LocalShell } from './host/local-shell.ts';
import { HostUnreachableError, type RunOptions, type RunResult, type Shell, type TcpAddress } from './host/shell.ts';
import { CredentialsInvalidError, type SshConnection } from './host/ssh-route.ts';
import type { SshJump } from './host/ssh-config.ts';
import type { SshShell } from './host/ssh-shell.ts';
import type { SeenConnection } from './reconcile/observed.ts';
import { JumpHostInvalidError, type Remote, routeOf, secretCredentials } from './ssh-routes.ts';
import type { SecretReader, Store } from './store/store.ts';

const CONFIG_MS = 10_000;

type DialOptions = Parameters<Shell['dial']>[1];

export class HostShells {
  readonly #store: Store;
  readonly #secrets: SecretReader;
  readonly #local = new LocalShell();
  readonly #remote = new Map<string, RemoteShell>();

  constructor(store: Store, secrets: SecretReader) {
    this.#store = store;
    this.#secrets = secrets;
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
      if (host === undefined) throw new JumpHostInvalidError(`jumpHostName of Host ${passed.at(-1)}: there is no Host ${next}`);
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

/** Where a RemoteShell learns what it needs, at each use. */
interface Source {
  remote(): Promise<Remote>;
  credentials(remote: Remote): Promise<Credentials | undefined>;
  accept(key: string): Promise<void>;
  readonly forgetKeys?: boolean | undefined;
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
    return { name, ssh: host.spec.ssh };
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
    return this.#attempt;
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
    return { name: this.#jump.address, ssh: { ...this.#jump, hostKeyPolicy: 'Strict' } };
  }

  async credentials(): Promise<undefined> {
    return undefined;
  }

  async accept(): Promise<void> {
    throw new Error(`nothing keeps the key of ${this.#jump.address}`);
  }
}

interface Link {
  readonly shell: SshShell;
  state: SshConnection;
  readonly user: string;
  /** What it was made from. */
  readonly made: SshSpec;
}

/** A Host behind SSH, whatever connection serves it now. */
export class RemoteShell implements Shell, Login {
  /** Emits when the connection came or went. */
  readonly connection$ = new Subject<void>();
  readonly #source: Source;
  readonly #shells: HostShells;
  readonly #through: Shell | undefined;
  #link: Promise<Link> | undefined;
  #open: Link | undefined;
  /** The key that was accepted by itself, and is in the spec from then on. */
  #accepted: string | undefined;
  /** Of the credentials that were last tried. */
  #tried: string | undefined;

  /** @param through the hop before it, where no Host says so */
  constructor(source: Source, shells: HostShells, through?: Shell) {
    this.#source = source;
    this.#shells = shells;
    this.#through = through;
  }

  get shell(): Shell {
    return this;
  }

  async user(): Promise<string> {
    return (await this.#current()).user;
  }

  /** Undefined while there is no connection. */
  seen(): SeenConnection | undefined {
    const link = this.#open;
    if (link?.state.kind !== 'connected') return undefined;
    return { hostKey: hostKeyWords(link.state.hostKey), user: link.user };
  }

  async run(script: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
    const link = await this.#current();
    return link.shell.run(script, args, options).catch((error: unknown) => {
      // Why it was lost stays the same; when it is tried again changes from look to look.
      throw link.state.kind === 'lost' && error instanceof HostUnreachableError ? link.state.error : error;
    });
  }

  async dial(socketPath: string, options: DialOptions): Promise<Duplex> {
    return (await this.#current()).shell.dial(socketPath, options);
  }

  async dialTcp(address: TcpAddress, options: DialOptions): Promise<Duplex> {
    return (await this.#current()).shell.dialTcp(address, options);
  }

  /** It may be used again: then it connects anew. */
  async close(): Promise<void> {
    const link = this.#link;
    this.#link = undefined;
    this.#open = undefined;
    await link?.then(({ shell }) => shell.close()).catch(() => undefined);
  }

  /** @throws HostUnreachableError and its kin */
  async #current(): Promise<Link> {
    const remote = await this.#source.remote();
    const jump = await this.#shells.jumpOf(remote);
    const known = this.#link;
    if (known !== undefined) {
      const link = await known.catch(() => undefined);
      if (link !== undefined && this.#link === known && this.#isSame(link.made, remote.ssh)) {
        await this.#hurry(link, remote);
        return link;
      }
      if (this.#link === known) await this.close();
    }
    this.#link ??= this.#make(remote, jump);
    const made = this.#link;
    made.catch(() => {
      if (this.#link === made) this.#link = undefined;
    });
    return made;
  }

  /** Our own acceptance of a key changes the spec, and nothing else. */
  #isSame(made: SshSpec, now: SshSpec): boolean {
    const isOurs = (keys: SshSpec['hostKeys']) => keys?.length === 1 && keys[0] === this.#accepted;
    const plain = ({ hostKeys, ...rest }: SshSpec) => ({ ...rest, hostKeys: isOurs(hostKeys) ? undefined : hostKeys });
    return isDeepStrictEqual(plain(made), plain(now));
  }

  async #make(remote: Remote, jump: Shell | undefined): Promise<Link> {
    // Loaded when they are needed: most commands reach no other machine.
    const [{ SshShell: Made }, { readSshConfig }] = await Promise.all([
      import('./host/ssh-shell.ts'),
      import('./host/ssh-config.ts'),
    ]);
    const config = await readSshConfig(remote.ssh.address, AbortSignal.timeout(CONFIG_MS));
    const route = routeOf({
      remote,
      config,
      jump: jump ?? this.#through ?? this.#shells.hops(config?.jumps ?? []),
      forgetKeys: this.#source.forgetKeys,
      credentials: () => this.#credentials(remote),
      accept: async (key) => {
        this.#accepted = key;
        await this.#source.accept(key);
      },
    });
    const shell = new Made(route);
    const link: Link = { shell, state: { kind: 'unopened' }, user: route.user, made: remote.ssh };
    shell.connection$.subscribe((state) => {
      link.state = state;
      if (state.kind !== 'unopened') this.connection$.next();
    });
    this.#open = link;
    return link;
  }

  async #credentials(remote: Remote): Promise<Credentials | undefined> {
    this.#tried = await this.#digest(remote);
    return this.#source.credentials(remote);
  }

  /** Credentials that were refused wait long; others are tried at once. */
  async #hurry({ shell, state }: Link, remote: Remote): Promise<void> {
    if (!wasRefused(state)) return;
    if ((await this.#digest(remote)) !== this.#tried) shell.retryNow();
  }

  async #digest(remote: Remote): Promise<string> {
    const values = await this.#source.credentials(remote).catch(() => undefined);
    const hash = createHash('sha256');
    for (const [key, value] of Object.entries(values ?? {})) hash.update(key).update(value);
    return hash.digest('hex');
  }
}

function wasRefused(state: SshConnection): boolean {
  return state.kind === 'lost' && state.error instanceof CredentialsInvalidError;
}
