/** The streams of a VM through the API server, with the rights of whoever asks: neither Host nor Secrets are read. */
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf, NotFoundError } from '../api/errors.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { OpenConsole } from './console.ts';
import { LogAbsentError } from './logs.ts';
import { logQuery, type StreamName, streamPath } from './paths.ts';
import { errorOf } from './status.ts';
import type { GuestPort, LogRequest, OpenScreen, VmStreams } from './vm-streams.ts';
import { type ChannelStream, dialChannel, type Way } from './web-socket.ts';

type Query = Readonly<Record<string, string>>;

/** The API server, asked as this user. */
export interface StreamServer {
  /** The body as it comes. @throws RefusedError for an answer that is none of success */
  body(path: string, query: Query, signal: AbortSignal): Promise<AsyncIterable<Buffer>>;
  /** Calls it with the way there; again where the credentials were outdated. */
  connect<T>(path: string, query: Query, dial: (way: Way) => Promise<T>): Promise<T>;
}

const NOTE_MS = 10_000;
const MAX_PICTURE_BYTES = 256 * 1024 * 1024;

export class ClusterStreams implements VmStreams {
  readonly #server: StreamServer;
  readonly #vm: VirtualMachine;

  constructor(server: StreamServer, vm: VirtualMachine) {
    this.#server = server;
    this.#vm = vm;
  }

  async console(signal: AbortSignal): Promise<OpenConsole> {
    const stream = await this.#dial('console', {}, signal);
    return { stream, close: async () => void stream.destroy() };
  }

  /** The operator has connected to it already: there is one viewer, and this is its connection. */
  async screen(signal: AbortSignal): Promise<OpenScreen> {
    const stream = await this.#dial('vnc', {}, signal);
    const note = await Promise.race([stream.note, sleep(NOTE_MS, undefined, { ref: false })]);
    const { password, expiresInSeconds } = (note ?? {}) as Partial<OpenScreen>;
    if (typeof password !== 'string' || typeof expiresInSeconds !== 'number') {
      stream.destroy();
      throw new Error(stream.errored?.message ?? `the operator does not tell the password of the screen`);
    }
    return { password, expiresInSeconds, dial: async () => stream, close: async () => void stream.destroy() };
  }

  async *log(request: LogRequest): AsyncIterable<string> {
    const { source, follow, previous, raw, lines, signal } = request;
    const query = logQuery({
      ...{ console: source === 'console' },
      ...(follow !== undefined && { follow }),
      ...(previous !== undefined && { previous }),
      ...(raw !== undefined && { raw }),
      ...(lines !== undefined && { tailLines: lines }),
    });
    const body = await this.#body('log', query, signal).catch((error: unknown) => {
      throw error instanceof NotFoundError ? new LogAbsentError(error.message) : error;
    });
    try {
      for await (const text of Readable.from(body, { objectMode: false }).setEncoding('utf8')) yield String(text);
    } catch (error) {
      if (!signal.aborted) throw new Error(`the log broke off: ${messageOf(error)}`, { cause: error });
    }
  }

  async screenshot(signal: AbortSignal): Promise<Buffer> {
    const pieces: Buffer[] = [];
    let bytes = 0;
    for await (const piece of await this.#body('screenshot', {}, signal)) {
      bytes += piece.length;
      if (bytes > MAX_PICTURE_BYTES) throw new Error(`the picture has more than ${MAX_PICTURE_BYTES} bytes`);
      pieces.push(piece);
    }
    return Buffer.concat(pieces);
  }

  /** Whether it leads anywhere is asked once without a connection. */
  async guestPort(port: number, signal: AbortSignal): Promise<GuestPort> {
    const query = { port: String(port) };
    for await (const _ of await this.#body('portforward', query, signal));
    return { dial: (until) => this.#dial('portforward', query, until), close: async () => undefined };
  }

  #path(stream: StreamName): string {
    const { namespace = '', name } = this.#vm.metadata;
    return streamPath({ namespace, name, stream });
  }

  async #body(stream: StreamName, query: Query, signal: AbortSignal): Promise<AsyncIterable<Buffer>> {
    try {
      return await this.#server.body(this.#path(stream), query, signal);
    } catch (error) {
      throw errorOf(error);
    }
  }

  async #dial(stream: StreamName, query: Query, signal: AbortSignal): Promise<ChannelStream> {
    try {
      return await this.#server.connect(this.#path(stream), query, (way) => dialChannel(way, signal));
    } catch (error) {
      throw errorOf(error);
    }
  }
}
