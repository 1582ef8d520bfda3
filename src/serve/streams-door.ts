/** The door for an API server that passes on what its users ask of VMs: TLS both ways, and nobody else comes in. */
import { once } from 'node:events';
import { createServer } from 'node:https';
import { messageOf } from '../api/errors.ts';
import { type BindAddress, type Door, listening } from './door.ts';
import { type FrontProxy, frontProxyIn } from './front-proxy.ts';
import { type StreamsLog, type StreamsPlace, StreamsService } from './streams-service.ts';
import { followKeyPair, type KeyPair, readKeyPair, type TlsFiles } from './tls-files.ts';

/** The API server in front. */
export interface FrontServer {
  /** Calls with what it publishes of itself, at first and when it changes, until the signal aborts. Never rejects. */
  follow(
    onChange: (data: Readonly<Record<string, string>> | undefined) => void,
    onFailure: (error: unknown) => void,
    signal: AbortSignal,
  ): Promise<void>;
  readonly review: StreamsPlace['review'];
}

export interface StreamsDoorOptions {
  readonly bind: BindAddress;
  readonly files: TlsFiles;
}

const CLOSING_MS = 2_000;
/** Longer than the API server keeps a connection: it must not find it closed. Source: net/http, DefaultTransport. */
const KEEP_ALIVE_MS = 120_000;
const HEADERS_MS = 10_000;

type Published = Readonly<Record<string, string>> | undefined;

/** By what the door is known, and whom it lets in: both change while it is open. */
class Keys {
  front: FrontProxy | undefined;
  readonly #files: TlsFiles;
  readonly #tell: StreamsLog;
  #pair: KeyPair;

  /** @throws DoorError */
  constructor(files: TlsFiles, tell: StreamsLog) {
    this.#files = files;
    this.#tell = tell;
    this.#pair = readKeyPair(files);
  }

  /** Of the server. An absent CA would be all that Node knows of; none in a list is none. */
  context(): { cert: string; key: string; ca: string | string[] } {
    return { ...this.#pair, ca: this.front === undefined ? [] : this.front.ca };
  }

  /** Calls after each change. @returns what ends it */
  follow(server: FrontServer, onChange: () => void): () => Promise<void> {
    const stop = new AbortController();
    const failed = (error: unknown) => this.#warn(error, 'the API server does not tell by what its proxies are known');
    const published = (data: Published) => {
      try {
        if (this.#trust(data)) onChange();
      } catch (error) {
        failed(error);
      }
    };
    const following = server.follow(published, failed, stop.signal);
    const endFiles = followKeyPair(this.#files, this.#pair, {
      onChange: (pair) => {
        this.#pair = pair;
        onChange();
        this.#tell('info', { file: this.#files.certFile }, 'the certificate was read again');
      },
      onFailure: (error) => this.#warn(error, 'a new certificate cannot be used'),
    });
    return async () => {
      stop.abort();
      endFiles();
      await following;
    };
  }

  /** Whether anything is new. */
  #trust(data: Published): boolean {
    const next = data === undefined ? undefined : frontProxyIn(data);
    if (next === undefined) this.#tell('warn', {}, 'the API server publishes no CA of its proxies: no streams');
    if (JSON.stringify(next) === JSON.stringify(this.front)) return false;
    this.front = next;
    return true;
  }

  #warn(error: unknown, what: string): void {
    this.#tell('warn', { message: messageOf(error) }, what);
  }
}

/** @throws DoorError where the address or the files do not serve */
export async function openStreamsDoor(
  { front, ...place }: Omit<StreamsPlace, 'review'> & { readonly front: FrontServer },
  { bind, files }: StreamsDoorOptions,
): Promise<Door> {
  const keys = new Keys(files, place.tell);
  const service = new StreamsService({ ...place, review: front.review }, () => keys.front);
  const limits = { keepAliveTimeout: KEEP_ALIVE_MS, headersTimeout: HEADERS_MS, keepAlive: true };
  // Whoever has no certificate of it is told so, in HTTP.
  const server = createServer({ ...keys.context(), ...limits, requestCert: true, rejectUnauthorized: false });
  server.on('request', (request, response) => void service.answer(request, response));
  server.on('upgrade', (request, _socket, head) => void service.upgrade(request, head));
  server.on('tlsClientError', () => undefined);
  const address = await listening(server, bind);
  const unfollow = keys.follow(front, () => server.setSecureContext(keys.context()));
  return {
    flag: bind.flag,
    address,
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      await Promise.all([unfollow(), service.close()]);
      server.closeIdleConnections();
      const timer = setTimeout(() => server.closeAllConnections(), CLOSING_MS);
      await closed;
      clearTimeout(timer);
    },
  };
}
