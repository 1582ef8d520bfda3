/**
 * What one connection to a host carries: scripts, each in a session of its own, and streams to sockets and ports. A
 * server counts sessions (sshd's MaxSessions is 10) and not streams, unless it forbids forwarding: then a relay there
 * stands in, which is a session too.
 */
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { ChannelStream } from './channel-stream.ts';
import { unlessAborted } from './deadline.ts';
import { Places } from './places.ts';
import { DialError, type DialOptions, HostUnreachableError, type RunResult, type TcpAddress } from './shell.ts';
import { ChannelRefusedError, type SshClient } from './ssh-client.ts';
import { connectRelay } from './ssh-relay.ts';
import { type ScriptOptions, SESSION_COMMAND, SshSession } from './ssh-session.ts';

/** Two less than sshd has: one to end a script, one for what it has not yet noticed to have ended. */
const MAX_SESSIONS = 8;
/** Relays last as long as their VM is watched: without a bound no script would ever run. */
const MAX_RELAYS = 6;
/** How often those who hold a relay are asked for it while somebody waits for one. */
const YIELD_MS = 20;

/** The server has no room for a session now: asked again after this time. */
const REFUSED_MS = 200;
const MAX_FIRST_REFUSALS = 5;

/** Opening takes two round trips and whatever the login shell does, running then one: scripts that follow each other wait for none. */
const SPARES = 3;

interface Held {
  readonly session: SshSession;
  /** Gives its place back. */
  readonly release: () => void;
}

export class HostConnection {
  readonly client: SshClient;
  readonly #name: string;
  readonly #user: string;
  readonly #sessions = new Places(MAX_SESSIONS);
  readonly #relays = new Places(MAX_RELAYS);
  /** Holders of relays that may yield them, the oldest first. */
  readonly #yielding = new Set<() => boolean>();
  /** Whether the server forwards to sockets; undefined until it is seen. */
  #forwards: boolean | undefined;
  #hasOpened = false;
  /** Opened ahead: opening takes two round trips and whatever the login shell does, running then one. */
  readonly #spares: Promise<Held | undefined>[] = [];

  constructor(client: SshClient, { name, user }: { readonly name: string; readonly user: string }) {
    this.client = client;
    this.#name = name;
    this.#user = user;
  }

  /** @throws the signal's reason, HostUnreachableError */
  async run(script: string, args: readonly string[], options: ScriptOptions): Promise<RunResult> {
    const { session, release } = await this.#session(options.signal);
    try {
      return await session.run(script, args, options, (pid) => this.#kill(pid));
    } catch (error) {
      if (!(error instanceof HostUnreachableError)) throw error;
      const why = this.client.lost?.message ?? `${this.#name} closed its channel`;
      throw new HostUnreachableError(`${why}, in the middle of a script: what it did is unknown`);
    } finally {
      release();
    }
  }

  /** @throws DialError, HostUnreachableError, the signal's reason */
  async dial(path: string, options: Pick<DialOptions, 'signal' | 'yields'>): Promise<Duplex> {
    const { signal } = options;
    const direct = this.#forwards === false ? undefined : await this.#forward(path, signal);
    if (direct !== undefined) return direct;
    if (this.#forwards === true) throw new DialError(`${path} on ${this.#name}: nobody answers`);
    const relayed = await this.#relay(path, options);
    if (this.#forwards !== undefined) return relayed;
    // It may be that somebody answers since a moment ago: then forwarding was never at fault.
    const second = await this.#forward(path, signal);
    this.#forwards = second !== undefined;
    if (second === undefined) return relayed;
    relayed.destroy();
    return second;
  }

  /** @throws DialError, HostUnreachableError, the signal's reason */
  async dialTcp(address: TcpAddress, signal: AbortSignal): Promise<Duplex> {
    try {
      const opening = this.client.forwardToPort(address);
      const channel = await unlessAborted(opening, signal, (late) => late.close());
      return new ChannelStream(channel, () => this.client.lost);
    } catch (error) {
      if (!(error instanceof ChannelRefusedError)) throw error;
      throw new DialError(`${address.host}:${address.port} as seen from ${this.#name}: ${error.message}`);
    }
  }

  async #forward(path: string, signal: AbortSignal): Promise<Duplex | undefined> {
    try {
      const opening = this.client.forwardToSocket(path);
      const channel = await unlessAborted(opening, signal, (late) => late.close());
      this.#forwards = true;
      return new ChannelStream(channel, () => this.client.lost, { allowHalfOpen: false });
    } catch (error) {
      // Every reason looks the same: no such socket, nobody listening, no right, forbidden.
      if (error instanceof ChannelRefusedError) return undefined;
      throw error;
    }
  }

  async #relay(path: string, { signal, yields }: Pick<DialOptions, 'signal' | 'yields'>): Promise<Duplex> {
    const releaseRelay = await this.#relayPlace(signal);
    const held = await this.#session(signal).catch((error: unknown) => {
      releaseRelay();
      throw error;
    });
    const release = () => {
      releaseRelay();
      held.release();
    };
    try {
      const stream = await connectRelay(held.session, { path, name: this.#name, signal }, () => this.client.lost);
      stream.once('close', release);
      if (yields !== undefined) {
        this.#yielding.add(yields);
        stream.once('close', () => this.#yielding.delete(yields));
      }
      return stream;
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Where all are taken, the holder of the oldest that is idle yields it; while none is, they are asked again. */
  async #relayPlace(signal: AbortSignal): Promise<() => void> {
    const place = this.#relays.take(signal);
    const taken = place.then(
      () => true,
      () => true,
    );
    while (!(await Promise.race([taken, sleep(YIELD_MS, false)]))) this.#makeRoom();
    return place;
  }

  #makeRoom(): void {
    [...this.#yielding].some((yields) => yields());
  }

  /** A spare one, else a new one; and new spares, where there is room. */
  async #session(signal: AbortSignal): Promise<Held> {
    const spare = this.#spares.shift();
    const ready = spare === undefined ? undefined : await unlessAborted(spare, signal, dismiss);
    const isUsable = ready?.session.isOpen === true;
    if (!isUsable) dismiss(ready);
    const opening = isUsable ? ready : this.#open(signal);
    while (this.#spares.length < SPARES && this.#sessions.isFree) this.#spares.push(this.#openAhead());
    const held = await opening;
    return held;
  }

  async #open(signal: AbortSignal): Promise<Held> {
    const release = await this.#sessions.take(signal);
    try {
      for (let refusals = 0; ; refusals += 1) {
        const session = await this.#started(signal);
        if (session !== undefined) return { session, release };
        if (!this.#hasOpened && refusals >= MAX_FIRST_REFUSALS)
          throw new HostUnreachableError(`${this.#name} opens no session for ${this.#user}: is its MaxSessions 0?`);
        // It has fewer than we thought: a relay may hold what a script needs.
        this.#makeRoom();
        await unlessAborted(sleep(REFUSED_MS), signal);
      }
    } catch (error) {
      release();
      throw error;
    }
  }

  /** A session that nobody waits for is not worth asking twice. */
  async #openAhead(): Promise<Held | undefined> {
    const { signal } = new AbortController();
    const release = await this.#sessions.take(signal);
    const session = await this.#started(signal).catch(() => undefined);
    if (session !== undefined) return { session, release };
    release();
    return undefined;
  }

  /** undefined: the server has no room. It may have less than we thought, or still count one that has ended. */
  async #started(signal: AbortSignal): Promise<SshSession | undefined> {
    try {
      const session = await unlessAborted(this.#start(), signal, ({ channel }) => channel.close());
      this.#hasOpened = true;
      return session;
    } catch (error) {
      if (error instanceof ChannelRefusedError) return undefined;
      throw error;
    }
  }

  async #start(): Promise<SshSession> {
    return SshSession.start(await this.client.exec(SESSION_COMMAND), `${this.#user} at ${this.#name}`);
  }

  /** Through a session of its own: the script's has no way to be told. */
  async #kill(pid: number): Promise<void> {
    const channel = await this.client.exec(`exec sh -c 'kill -s KILL -- -${pid} || kill -s KILL ${pid}'`);
    channel.stderr.resume();
    await new Promise((resolve) => channel.resume().once('close', resolve));
  }
}

function dismiss(held: Held | undefined): void {
  held?.session.channel.close();
  held?.release();
}
