/**
 * A QMP client over any duplex stream: greeting, capabilities, commands matched by id, events.
 * A QMP socket serves one client at a time, so a client that does not answer is given up with its connection.
 * Source: QEMU's docs/interop/qmp-spec.rst.
 */
import type { Duplex } from 'node:stream';

export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
  /** Host clock, ms. */
  readonly at: number;
}

/** QEMU refused a command; `errorClass` is QMP's. */
export class QmpError extends Error {
  override name = 'QmpError';
  readonly errorClass: string;
  constructor(command: string, errorClass: string, description: string) {
    super(`${command}: ${description}`);
    this.errorClass = errorClass;
  }
}

/** No answer in time, or the connection ended: whether the command ran is unknown. */
export class QmpTimeoutError extends Error {
  override name = 'QmpTimeoutError';
}

const MAX_LINE_BYTES = 16 * 1024 * 1024;
const DEFAULT_TIMEOUT_MS = 5_000;

interface Pending {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly deadline: NodeJS.Timeout;
}

export class QmpClient {
  readonly #stream: Duplex;
  readonly #pending = new Map<number, Pending>();
  readonly #onEvent: (event: QmpEvent) => void;
  readonly #onEnd: () => void;
  #nextId = 1;
  #rest: Buffer[] = [];
  #restBytes = 0;
  #ended = false;
  #greeted: ((error?: Error) => void) | undefined;

  private constructor(stream: Duplex, listeners: QmpListeners) {
    this.#stream = stream;
    this.#onEvent = listeners.onEvent;
    this.#onEnd = listeners.onEnd;
    stream.on('data', (chunk: Buffer) => this.#read(chunk));
    stream.on('error', () => this.close());
    stream.on('close', () => this.close());
    stream.on('end', () => this.close());
  }

  /** Takes the stream over. @throws QmpTimeoutError without a greeting; the stream is then destroyed */
  static async connect(stream: Duplex, listeners: QmpListeners, timeoutMs = DEFAULT_TIMEOUT_MS): Promise<QmpClient> {
    const client = new QmpClient(stream, listeners);
    const deadline = setTimeout(() => client.close(), timeoutMs);
    try {
      await new Promise<void>((resolve, reject) => {
        client.#greeted = (error) => (error === undefined ? resolve() : reject(error));
        if (client.#ended) reject(new QmpTimeoutError('the monitor closed the connection'));
      });
      // Not awaited: what is asked next follows it in the same connection, in order.
      client.execute('qmp_capabilities', undefined, timeoutMs).catch(() => client.close());
      return client;
    } catch (error) {
      client.close();
      throw error;
    } finally {
      clearTimeout(deadline);
    }
  }

  /** Whether an answer is waited for. */
  get busy(): boolean {
    return this.#pending.size > 0;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** @throws QmpError where QEMU refuses, QmpTimeoutError where it does not answer (the connection is then given up) */
  execute(command: string, args?: object, timeoutMs = DEFAULT_TIMEOUT_MS): Promise<unknown> {
    if (this.#ended) return Promise.reject(new QmpTimeoutError(`${command}: the monitor connection has ended`));
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise((resolve, reject) => {
      const deadline = setTimeout(() => {
        this.#pending.delete(id);
        reject(new QmpTimeoutError(`${command}: no answer within ${timeoutMs} ms`));
        this.close();
      }, timeoutMs);
      this.#pending.set(id, { command, resolve, reject, deadline });
      this.#stream.write(
        `${JSON.stringify({ execute: command, ...(args === undefined ? {} : { arguments: args }), id })}\n`,
      );
    });
  }

  close(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#stream.destroy();
    this.#greeted?.(new QmpTimeoutError('no greeting from the monitor'));
    for (const { command, reject, deadline } of this.#pending.values()) {
      clearTimeout(deadline);
      reject(new QmpTimeoutError(`${command}: the monitor connection ended`));
    }
    this.#pending.clear();
    this.#onEnd();
  }

  #read(chunk: Buffer): void {
    let from = 0;
    for (let end = chunk.indexOf(10, from); end >= 0; end = chunk.indexOf(10, from)) {
      this.#line(Buffer.concat([...this.#rest, chunk.subarray(from, end)]).toString('utf8'));
      this.#rest = [];
      this.#restBytes = 0;
      from = end + 1;
    }
    if (from < chunk.length) {
      this.#rest.push(Buffer.from(chunk.subarray(from)));
      this.#restBytes += chunk.length - from;
      if (this.#restBytes > MAX_LINE_BYTES) this.close();
    }
  }

  #line(line: string): void {
    if (line.trim() === '') return;
    let message: QmpMessage;
    try {
      message = parseMessage(line);
    } catch {
      this.close();
      return;
    }
    if (message.QMP !== undefined) {
      this.#greeted?.();
      this.#greeted = undefined;
    } else if (message.event !== undefined) {
      this.#onEvent({ event: message.event, data: message.data ?? {}, at: eventTime(message) });
    } else if (typeof message.id === 'number') this.#answer(message.id, message);
  }

  #answer(id: number, message: QmpMessage): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    clearTimeout(pending.deadline);
    if (message.error === undefined) pending.resolve(message.return);
    else pending.reject(new QmpError(pending.command, message.error.class, message.error.desc));
  }
}

export interface QmpListeners {
  readonly onEvent: (event: QmpEvent) => void;
  /** Called once, whatever ended the connection. */
  readonly onEnd: () => void;
}

interface QmpMessage {
  readonly QMP?: unknown;
  readonly event?: string;
  readonly data?: Record<string, unknown>;
  readonly timestamp?: { readonly seconds: number; readonly microseconds: number };
  readonly id?: unknown;
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
}

/** 64-bit figures lose their last bits as numbers; values from 2^63 on mean "unknown" in QEMU and are dropped by their readers. */
function parseMessage(line: string): QmpMessage {
  const value: unknown = JSON.parse(line);
  if (typeof value !== 'object' || value === null) throw new SyntaxError('a QMP message is an object');
  return value;
}

function eventTime({ timestamp }: QmpMessage): number {
  return timestamp === undefined ? Date.now() : timestamp.seconds * 1000 + Math.floor(timestamp.microseconds / 1000);
}
