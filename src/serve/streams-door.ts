/** The door for an API server that passes on what its users ask of VMs: TLS both ways, and nobody else comes in. */
import { once } from 'node:events';
import { createServer } from 'node:https';
import { messageOf } from '../api/errors.ts';
import { type BindAddress, type Door, listening } from './door.ts';
import { type FrontProxy, frontProxyIn } from './front-proxy.ts';
import { type StreamsPlace, StreamsService } from './streams-service.ts';
import { followKeyPair, readKeyPair, type TlsFiles } from './tls-files.ts';

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

/** @throws DoorError where the address or the files do not serve */
export async function openStreamsDoor(
  place: Omit<StreamsPlace, 'review'> & { readonly front: FrontServer },
  { bind, files }: StreamsDoorOptions,
): Promise<Door> {
  const { front, tell } = place;
  let pair = readKeyPair(files);
  let trusted: FrontProxy | undefined;
  const service = new StreamsService({ ...place, review: front.review }, () => trusted);
  // An absent CA would be all that Node knows of; none in a list is none.
  const context = () => ({ ...pair, ca: trusted === undefined ? [] : trusted.ca });
  const limits = { keepAliveTimeout: KEEP_ALIVE_MS, headersTimeout: HEADERS_MS, keepAlive: true };
  // Whoever has no certificate of it is told so, in HTTP.
  const server = createServer({ ...context(), ...limits, requestCert: true, rejectUnauthorized: false });
  server.on('request', (request, response) => void service.answer(request, response));
  server.on('upgrade', (request, _socket, head) => void service.upgrade(request, head));
  server.on('tlsClientError', () => undefined);
  const address = await listening(server, bind);
  const stop = new AbortController();
  const trust = (data: Readonly<Record<string, string>> | undefined) => {
    try {
      const next = data === undefined ? undefined : frontProxyIn(data);
      if (JSON.stringify(next) === JSON.stringify(trusted) && next !== undefined) return;
      trusted = next;
      server.setSecureContext(context());
      if (next === undefined) tell('warn', {}, 'the API server publishes no CA of its proxies: no streams');
    } catch (error) {
      tell('warn', { message: messageOf(error) }, 'what the API server publishes of its proxies cannot be used');
    }
  };
  const failed = (error: unknown) =>
    tell('warn', { message: messageOf(error) }, 'kube-system/extension-apiserver-authentication cannot be read');
  const following = front.follow(trust, failed, stop.signal);
  const endFiles = followKeyPair(files, pair, {
    onChange: (next) => {
      pair = next;
      server.setSecureContext(context());
      tell('info', { file: files.certFile }, 'the certificate was read again');
    },
    onFailure: (error) => tell('warn', { message: messageOf(error) }, 'a new certificate cannot be used'),
  });
  return {
    flag: bind.flag,
    address,
    close: async () => {
      stop.abort();
      endFiles();
      const closed = once(server, 'close');
      server.close();
      await service.close();
      server.closeIdleConnections();
      const timer = setTimeout(() => server.closeAllConnections(), CLOSING_MS);
      await Promise.all([closed, following]);
      clearTimeout(timer);
    },
  };
}
