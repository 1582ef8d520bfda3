/**
 * One authenticated connection: all that we know of the ssh2 package. The host's key is verified before anything is
 * sent to it; the connection is given up when nothing at all was heard for a while.
 */
import type { Duplex } from 'node:stream';
import ssh2, { type AnyAuthMethod, type ClientChannel, type NextAuthHandler } from 'ssh2';
import type { HostKeys } from './host-keys.ts';
import { hostText } from './host-text.ts';
import { HostUnreachableError, type TcpAddress } from './shell.ts';
import { AuthAttempts, type ParsedKey } from './ssh-auth.ts';
import type { SshCredentials, SshRoute } from './ssh-route.ts';

export type { ClientChannel } from 'ssh2';

const READY_MS = 20_000;
/** A ping at each interval without an answer; any byte is a sign of life, so that bulk output on a slow link is none of death. */
const PING_MS = 5_000;
const TICK_MS = 1_000;
/** Two pings unanswered, and what their answers may take. */
const SILENT_TICKS = 11;

/** Without SHA-1; what Node's crypto is fastest at comes first. */
const ALGORITHMS = {
  kex: [
    'curve25519-sha256',
    'curve25519-sha256@libssh.org',
    'ecdh-sha2-nistp256',
    'ecdh-sha2-nistp384',
    'ecdh-sha2-nistp521',
    'diffie-hellman-group-exchange-sha256',
    'diffie-hellman-group16-sha512',
    'diffie-hellman-group18-sha512',
    'diffie-hellman-group14-sha256',
  ],
  cipher: [
    'aes128-gcm@openssh.com',
    'aes256-gcm@openssh.com',
    'aes128-ctr',
    'aes192-ctr',
    'aes256-ctr',
    'chacha20-poly1305@openssh.com',
  ],
  hmac: ['hmac-sha2-256-etm@openssh.com', 'hmac-sha2-512-etm@openssh.com', 'hmac-sha2-256', 'hmac-sha2-512'],
  compress: ['none'],
} as const;

/** The server refused a channel: of its own accord, with the connection intact. */
export class ChannelRefusedError extends Error {
  override name = 'ChannelRefusedError';
}

export class SshClient {
  /** The verified key. */
  readonly hostKey: Buffer;
  readonly #life: Life;
  readonly #client: ssh2.Client;
  readonly #stream: Duplex;

  private constructor(client: ssh2.Client, stream: Duplex, known: { hostKey: Buffer; life: Life }) {
    this.#client = client;
    this.#stream = stream;
    this.hostKey = known.hostKey;
    this.#life = known.life;
  }

  /**
   * Over a stream that is connected to the host's SSH port; it is destroyed with the connection.
   * @throws HostUnreachableError, HostKeyRefusedError, CredentialsInvalidError
   */
  static async connect(
    { route, keys, stream }: { route: SshRoute; keys: HostKeys; stream: Duplex },
    credentials: SshCredentials,
  ): Promise<SshClient> {
    const known = await keys.known();
    const attempts = new AuthAttempts(route, credentials, parsePrivateKey);
    const client = new ssh2.Client();
    let hostKey: Buffer | undefined;
    let refusal: Error | undefined;
    const verify = (key: Buffer, answer: (isTrusted: boolean) => void) => {
      keys.verify(key, known).then(
        () => {
          hostKey = key;
          answer(true);
        },
        (error: Error) => {
          refusal = error;
          answer(false);
        },
      );
    };
    const life = lifeOf(client, stream, route.name);
    const ready = new Promise<void>((resolve) => client.once('ready', resolve));
    client.connect({
      sock: stream,
      username: route.user,
      readyTimeout: READY_MS,
      keepaliveInterval: PING_MS,
      // Silence is judged by what is heard on the stream, see lifeOf.
      keepaliveCountMax: Number.MAX_SAFE_INTEGER,
      strictVendor: false,
      hostVerifier: verify,
      algorithms: { ...ALGORITHMS, serverHostKey: known.algorithms } as ssh2.ConnectConfig['algorithms'] & object,
      // The types lack `false` and the null of the first call.
      authHandler: (allowed: readonly string[] | null, partial: boolean | null, next: NextAuthHandler) =>
        next(attempts.next(allowed, partial) as AnyAuthMethod),
    } as ssh2.ConnectConfig);
    const reason = await Promise.race([ready, life.ended]);
    if (reason === undefined && hostKey !== undefined) return new SshClient(client, stream, { hostKey, life });
    stream.destroy();
    throw refusal ?? attempts.refusal(reason?.message ?? '') ?? reason;
  }

  /** Resolves with the reason when the connection is no more. */
  get ended(): Promise<HostUnreachableError> {
    return this.#life.ended;
  }

  /** That reason, before any channel of the connection tells of its end. */
  get lost(): HostUnreachableError | undefined {
    return this.#life.lost;
  }

  /** Runs a command line in the user's login shell. @throws ChannelRefusedError, HostUnreachableError */
  exec(command: string): Promise<ClientChannel> {
    return this.#open((opened) => this.#client.exec(command, opened));
  }

  /** @throws ChannelRefusedError where nobody listens there or forwarding is forbidden, HostUnreachableError */
  forwardToSocket(path: string): Promise<ClientChannel> {
    return this.#open((opened) => this.#client.openssh_forwardOutStreamLocal(path, opened));
  }

  /** @throws ChannelRefusedError where nobody listens there or forwarding is forbidden, HostUnreachableError */
  forwardToPort({ host, port }: TcpAddress): Promise<ClientChannel> {
    return this.#open((opened) => this.#client.forwardOut('127.0.0.1', 0, host, port, opened));
  }

  /** Says goodbye where the host still listens. */
  end(): void {
    this.#client.end();
    // A host that is silent answers no goodbye.
    setTimeout(() => this.#stream.destroy(), TICK_MS).unref();
  }

  async #open(request: (opened: (error: Error | undefined, channel: ClientChannel) => void) => void) {
    try {
      return await new Promise<ClientChannel>((resolve, reject) => {
        request((error, channel) => (error === undefined || error === null ? resolve(channel) : reject(error)));
      });
    } catch (error) {
      if (this.#stream.destroyed || !this.#stream.writable) throw await this.ended;
      throw new ChannelRefusedError(error instanceof Error ? hostText(error.message) : String(error));
    }
  }
}

interface Life {
  readonly ended: Promise<HostUnreachableError>;
  lost?: HostUnreachableError;
}

/** Watches over a connection, and ends it when it can be of no more use. */
function lifeOf(client: ssh2.Client, stream: Duplex, name: string): Life {
  let reason = 'the connection was closed';
  let silentTicks = 0;
  // Ticks, not times: a machine that slept has not heard nothing for hours, it has not listened.
  const watch = setInterval(() => {
    silentTicks += 1;
    if (silentTicks < SILENT_TICKS) return;
    reason = `nothing was heard for ${(SILENT_TICKS * TICK_MS) / 1000} s`;
    stream.destroy();
  }, TICK_MS);
  watch.unref();
  client.on('error', (error: Error & { level?: string }) => {
    // Of an agent or a key that does not serve: the next attempt follows.
    if (error.level === 'agent') return;
    reason = hostText(error.message);
    // Not all errors of ssh2 end it, but none leaves a connection that can be used.
    stream.destroy();
  });
  // After ssh2 has paused the stream: a listener by itself would make it flow.
  client.on('connect', () =>
    stream.on('data', () => {
      silentTicks = 0;
    }),
  );
  client.on('end', () => stream.destroy());
  const life: Life = {
    ended: new Promise((resolve) => {
      client.on('close', () => {
        clearInterval(watch);
        life.lost = new HostUnreachableError(`${name} cannot be reached: ${reason}`);
        resolve(life.lost);
      });
    }),
  };
  return life;
}

/** @throws Error where it is none, or the passphrase does not open it */
function parsePrivateKey(privateKey: Uint8Array, passphrase: string | undefined): ParsedKey {
  const parsed = ssh2.utils.parseKey(Buffer.from(privateKey), passphrase);
  const key = Array.isArray(parsed) ? parsed[0] : parsed;
  if (key === undefined) throw new Error('it holds no key');
  if (key instanceof Error) throw key;
  if (!key.isPrivateKey()) throw new Error('it is a public key');
  return key;
}
