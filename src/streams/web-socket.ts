/**
 * Bytes both ways through an API server: a WebSocket whose messages begin with the number of a channel, as kubectl exec
 * has them. One way ends while the other goes on, a reader that is slow holds its writer up, and at the end it is said
 * why it ended. Source: k8s.io/apimachinery/pkg/util/remotecommand, protocol v5.channel.k8s.io.
 */
import type { Agent, IncomingMessage } from 'node:http';
import { Duplex } from 'node:stream';
import { WebSocket, WebSocketServer } from 'ws';
import { oneLine } from '../api/errors.ts';
import { parseStatus, RefusedError, type Status, SUCCESS } from './status.ts';

export const PROTOCOL = 'v5.channel.k8s.io';

/** From the client, from the server, how it ended (a Status), what else is to be known (JSON), end of another channel. */
const CHANNEL = { stdin: 0, stdout: 1, error: 3, note: 4, close: 255 };

const MAX_MESSAGE_BYTES = 1024 * 1024;
const MAX_PIECE_BYTES = 256 * 1024;
const MAX_REFUSAL_BYTES = 64 * 1024;
const HANDSHAKE_MS = 45_000;
const CLOSING_MS = 2_000;

export interface ChannelTimes {
  /** Each side sends one so often. */
  readonly pingMs: number;
  /** Whoever reads and has heard nothing for so long is alone. */
  readonly silentMs: number;
  /** Neither side has sent a byte for so long: forgotten. As the kubelet has it for exec. */
  readonly idleMs: number;
}

const TIMES: ChannelTimes = { pingMs: 15_000, silentMs: 60_000, idleMs: 4 * 3_600_000 };

export class ChannelStream extends Duplex {
  /** The first note of the other side. */
  readonly note: Promise<unknown>;
  readonly #socket: WebSocket;
  readonly #reads: number;
  readonly #writes: number;
  readonly #beat: NodeJS.Timeout;
  #heardAt = performance.now();
  #movedAt = performance.now();
  #tellNote: (note: unknown) => void = () => undefined;
  #status: Status | undefined;
  #failure: Error | undefined;

  constructor(socket: WebSocket, side: 'server' | 'client', times: Partial<ChannelTimes> = {}) {
    // Both ways may have ended before it is told how.
    super({ allowHalfOpen: true, autoDestroy: false });
    this.#socket = socket;
    this.#reads = side === 'server' ? CHANNEL.stdin : CHANNEL.stdout;
    this.#writes = side === 'server' ? CHANNEL.stdout : CHANNEL.stdin;
    this.note = new Promise((resolve) => {
      this.#tellNote = resolve;
    });
    this.on('error', () => undefined);
    const heard = () => {
      this.#heardAt = performance.now();
    };
    socket
      .on('message', (data: Buffer) => this.#hear(data))
      .on('ping', heard)
      .on('pong', heard);
    socket.on('error', (error) => {
      this.#failure ??= error;
    });
    socket.on('close', () => this.#closed());
    const all = { ...TIMES, ...times };
    this.#beat = setInterval(() => this.#look(all), all.pingMs);
  }

  /** Of the server: what the client has to know beside the bytes. */
  tell(note: object): void {
    this.#send(CHANNEL.note, Buffer.from(JSON.stringify(note)));
  }

  /** Of the server: all has been sent, and this is why it ends. */
  finish(status: Status): void {
    this.#status = status;
    this.#send(CHANNEL.error, Buffer.from(JSON.stringify(status)), () => this.destroy());
    // One that does not read shall not hold up what ends.
    setTimeout(() => this.destroy(), CLOSING_MS).unref();
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#movedAt = performance.now();
    const first = chunk.subarray(0, MAX_PIECE_BYTES);
    const rest = chunk.subarray(MAX_PIECE_BYTES);
    this.#send(this.#writes, first, () => (rest.length === 0 ? done() : this._write(rest, encoding, done)));
  }

  override _final(done: () => void): void {
    this.#send(CHANNEL.close, Buffer.of(this.#writes), () => done());
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearInterval(this.#beat);
    this.#tellNote(undefined);
    // Nobody reads any more, and the end of the other side is still to be heard.
    this.#socket.resume();
    this.#socket.close();
    setTimeout(() => this.#socket.terminate(), CLOSING_MS).unref();
    done(error);
  }

  /** Where the other side is gone there is nobody to send to: its end tells that. */
  #send(channel: number, bytes: Buffer, done: () => void = () => undefined): void {
    if (this.#socket.readyState !== WebSocket.OPEN) done();
    else this.#socket.send(Buffer.concat([Buffer.of(channel), bytes]), { binary: true }, () => done());
  }

  #hear(data: Buffer): void {
    this.#heardAt = performance.now();
    const bytes = data.subarray(1);
    if (data[0] === this.#reads) this.#push(bytes);
    else if (data[0] === CHANNEL.close && bytes[0] === this.#reads) this.push(null);
    else if (data[0] === CHANNEL.error) this.#status ??= parseStatus(bytes.toString('utf8'));
    else if (data[0] === CHANNEL.note) this.#tellNote(parsed(bytes.toString('utf8')));
  }

  #push(bytes: Buffer): void {
    this.#movedAt = performance.now();
    if (bytes.length > 0 && !this.destroyed && !this.push(bytes)) this.#socket.pause();
  }

  #closed(): void {
    if (this.#status?.status === SUCCESS.status) {
      this.push(null);
      // What has come is still to be read.
      if (this.readableEnded) this.destroy();
      else this.once('end', () => this.destroy());
      return;
    }
    const message = this.#status?.message ?? `the connection broke: ${this.#failure?.message ?? 'the other side left'}`;
    this.destroy(new Error(oneLine(message, 900)));
  }

  #look({ silentMs, idleMs }: ChannelTimes): void {
    const now = performance.now();
    if (!this.#socket.isPaused && now - this.#heardAt > silentMs) {
      this.#failure ??= new Error(`nothing was heard for ${silentMs / 1000} s`);
      this.#socket.terminate();
    } else if (now - this.#movedAt > idleMs) {
      this.destroy(new Error(`nobody has sent anything for ${idleMs / 60_000} min`));
    } else if (this.#socket.readyState === WebSocket.OPEN) this.#socket.ping();
  }
}

/** Where the API server is, and who we are there. */
export interface Way {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly agent: Agent | undefined;
}

/** @throws RefusedError for any other answer; what the network does, as it is */
export function dialChannel({ url, headers, agent }: Way, signal: AbortSignal): Promise<ChannelStream> {
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const options = {
      headers,
      perMessageDeflate: false,
      handshakeTimeout: HANDSHAKE_MS,
      maxPayload: MAX_MESSAGE_BYTES,
    };
    const socket = new WebSocket(url, [PROTOCOL], { ...options, ...(agent !== undefined && { agent }) });
    const abort = () => {
      reject(signal.reason);
      socket.terminate();
    };
    signal.addEventListener('abort', abort, { once: true });
    const settled = () => signal.removeEventListener('abort', abort);
    socket.on('error', (error) => {
      settled();
      reject(error);
    });
    socket.on('unexpected-response', (_request, answer) => {
      settled();
      void refusalIn(answer).then((refusal) => {
        reject(refusal);
        socket.terminate();
      });
    });
    // The first messages may come with the answer: whoever reads them must be there at once.
    socket.once('open', () => {
      settled();
      resolve(new ChannelStream(socket, 'client'));
    });
  });
}

async function refusalIn(answer: IncomingMessage): Promise<RefusedError> {
  let text = '';
  try {
    for await (const chunk of answer) {
      text += String(chunk);
      if (text.length > MAX_REFUSAL_BYTES) break;
    }
  } catch {
    // What has come is enough.
  }
  return new RefusedError(answer.statusCode ?? 0, parseStatus(text)?.message ?? oneLine(text, 300));
}

/** Takes upgraded connections of clients. Never more than one message of each is kept. */
export class ChannelServer {
  readonly #server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    maxPayload: MAX_MESSAGE_BYTES,
    perMessageDeflate: false,
    handleProtocols: () => PROTOCOL,
  });

  /** Whether the client speaks our protocol. */
  speaks({ headers }: IncomingMessage): boolean {
    const offered = headers['sec-websocket-protocol']?.split(',').map((one) => one.trim()) ?? [];
    return headers.upgrade?.toLowerCase() === 'websocket' && offered.includes(PROTOCOL);
  }

  accept(request: IncomingMessage, head: Buffer): Promise<ChannelStream> {
    return new Promise((resolve, reject) => {
      request.socket.once('close', () => reject(new Error('the client left')));
      this.#server.handleUpgrade(request, request.socket, head, (socket) =>
        resolve(new ChannelStream(socket, 'server')),
      );
    });
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
