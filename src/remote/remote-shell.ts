/** A Host behind SSH as a shell, whatever connection serves it now: one that is made again where the Host has changed. */
import { createHash } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { isDeepStrictEqual } from 'node:util';
import { Subject } from 'rxjs';
import { type Credentials, hostKeyWords, type SshSpec } from '../api/host-ssh.ts';
import {
  type DialOptions,
  HostUnreachableError,
  type Login,
  type RunOptions,
  type RunResult,
  type Shell,
  type TcpAddress,
} from '../host/shell.ts';
import type { SshJump } from '../host/ssh-config.ts';
import { CredentialsInvalidError, type SshConnection } from '../host/ssh-route.ts';
import type { SshShell } from '../host/ssh-shell.ts';
import type { SeenConnection } from '../reconcile/observed.ts';
import { JumpHostInvalidError, type Remote, routeOf } from './ssh-routes.ts';

const CONFIG_MS = 10_000;

/** Where a RemoteShell learns what it needs, at each use. */
export interface Source {
  remote(): Promise<Remote>;
  credentials(remote: Remote): Promise<Credentials | undefined>;
  accept(key: string): Promise<void>;
  readonly forgetKeys?: boolean | undefined;
}

/** The hosts on the way to another one. */
export interface Ways {
  /** The Host through which it is reached. @throws JumpHostInvalidError where the way is none */
  jumpOf(remote: Remote): Promise<Shell | undefined>;
  /** Nothing of this machine's user serves: neither keys, nor an agent, nor ssh_config. */
  readonly isolated: boolean;
  /** The hops that ~/.ssh/config names, the nearest first. */
  hops(jumps: readonly SshJump[]): Shell | undefined;
}

interface Link {
  readonly shell: SshShell;
  state: SshConnection;
  readonly user: string;
  /** What it was made from. */
  readonly made: SshSpec;
}

export class RemoteShell implements Shell, Login {
  /** Emits when the connection came or went. */
  readonly connection$ = new Subject<void>();
  readonly #source: Source;
  readonly #ways: Ways;
  readonly #through: Shell | undefined;
  #link: Promise<Link> | undefined;
  #open: Link | undefined;
  /** The key that was accepted by itself, and is in the spec from then on. */
  #accepted: string | undefined;
  /** Of the credentials that were last tried. */
  #tried: string | undefined;

  /** @param through the hop before it, where no Host says so */
  constructor(source: Source, ways: Ways, through?: Shell) {
    this.#source = source;
    this.#ways = ways;
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
    const jump = await this.#ways.jumpOf(remote);
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
      import('../host/ssh-shell.ts'),
      import('../host/ssh-config.ts'),
    ]);
    const { isolated } = this.#ways;
    const config = isolated ? undefined : await readSshConfig(remote.ssh.address, AbortSignal.timeout(CONFIG_MS));
    const nearer = jump ?? this.#through;
    if (nearer === undefined && config?.hasProxyCommand === true)
      throw new JumpHostInvalidError(
        `~/.ssh/config gives ${remote.ssh.address} a ProxyCommand, which is not run. Use ProxyJump there, or make the machine in between a Host and name it: host add --jump, spec.ssh.jumpHostName`,
      );
    const route = routeOf({
      remote,
      isolated,
      config,
      jump: nearer ?? this.#ways.hops(config?.jumps ?? []),
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
