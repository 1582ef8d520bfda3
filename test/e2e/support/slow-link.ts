/** A network of the test's own before one port: a proxy that is slow, narrow, stuck or cut on command. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { OnFinished } from './rig.ts';

export interface LinkOptions {
  /** What each way takes: half a round trip. */
  readonly latencyMs?: number;
  /** Of each way of each connection; default: as many as come. */
  readonly bytesPerSecond?: number;
}

export class SlowLink {
  latencyMs: number;
  bytesPerSecond: number;
  readonly #server: Server;
  readonly #to: number;
  readonly #connections = new Set<Connection>();

  private constructor(to: number, { latencyMs = 0, bytesPerSecond = Number.POSITIVE_INFINITY }: LinkOptions) {
    this.#to = to;
    this.latencyMs = latencyMs;
    this.bytesPerSecond = bytesPerSecond;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#take(socket));
  }

  /** To a port of this machine's loopback. It ends with the test. */
  static async start(onFinished: OnFinished, to: number, options: LinkOptions = {}): Promise<SlowLink> {
    const link = new SlowLink(to, options);
    link.#server.listen(0, '127.0.0.1');
    await once(link.#server, 'listening');
    onFinished(async () => {
      link.reset();
      link.#server.close();
    });
    return link;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Nothing passes for this long, and nothing is lost. */
  async stall(ms: number): Promise<void> {
    const stalled = [...this.#connections];
    for (const connection of stalled) connection.hold(['up', 'down']);
    await new Promise((resolve) => setTimeout(resolve, ms));
    for (const connection of stalled) connection.go();
  }

  /** What the other side says from now on never comes. */
  holdAnswers(): void {
    for (const connection of this.#connections) connection.hold(['down']);
  }

  /** Bytes of answers that are held back. */
  get held(): number {
    return [...this.#connections].reduce((sum, { held }) => sum + held, 0);
  }

  /** Every connection ends at both sides; new ones are taken. */
  reset(): void {
    for (const connection of this.#connections) connection.reset();
  }

  #take(near: Socket): void {
    const far = connect({ port: this.#to, host: '127.0.0.1', allowHalfOpen: true });
    const connection = new Connection(this, near, far);
    this.#connections.add(connection);
    near.once('close', () => this.#connections.delete(connection));
  }
}

class Connection {
  readonly #near: Socket;
  readonly #far: Socket;
  readonly #ways: Readonly<Record<'up' | 'down', Way>>;

  constructor(link: SlowLink, near: Socket, far: Socket) {
    this.#near = near;
    this.#far = far;
    this.#ways = { up: new Way(link, near, far), down: new Way(link, far, near) };
    for (const socket of [near, far]) {
      socket.setNoDelay(true);
      socket.on('error', () => this.reset());
    }
  }

  get held(): number {
    return this.#ways.down.held;
  }

  hold(ways: readonly ('up' | 'down')[]): void {
    for (const way of ways) this.#ways[way].hold();
  }

  go(): void {
    for (const way of Object.values(this.#ways)) way.go();
  }

  reset(): void {
    for (const socket of [this.#near, this.#far]) if (!socket.destroyed) socket.resetAndDestroy();
  }
}

/** One way of a connection: each chunk has the moment at which it comes out; undefined: the end. */
class Way {
  readonly #link: SlowLink;
  readonly #to: Socket;
  readonly #queue: { readonly chunk: Buffer | undefined; readonly due: number }[] = [];
  #freeAt = 0;
  #isHeld = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(link: SlowLink, from: Socket, to: Socket) {
    this.#link = link;
    this.#to = to;
    from.on('data', (chunk: Buffer) => this.#push(chunk));
    from.once('end', () => this.#push(undefined));
    from.once('close', () => clearTimeout(this.#timer));
    to.once('close', () => clearTimeout(this.#timer));
  }

  /** Bytes that are on the way. */
  get held(): number {
    return this.#queue.reduce((sum, { chunk }) => sum + (chunk?.length ?? 0), 0);
  }

  hold(): void {
    this.#isHeld = true;
  }

  go(): void {
    this.#isHeld = false;
    this.#deliver();
  }

  #push(chunk: Buffer | undefined): void {
    const { latencyMs, bytesPerSecond } = this.#link;
    const since = Math.max(performance.now(), this.#freeAt);
    this.#freeAt = since + ((chunk?.length ?? 0) / bytesPerSecond) * 1000;
    this.#queue.push({ chunk, due: this.#freeAt + latencyMs });
    if (this.#queue.length === 1) this.#deliver();
  }

  #deliver(): void {
    clearTimeout(this.#timer);
    for (let next = this.#queue[0]; next !== undefined && !this.#isHeld; next = this.#queue[0]) {
      const waitMs = next.due - performance.now();
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.#deliver(), waitMs);
        return;
      }
      this.#queue.shift();
      if (this.#to.destroyed) continue;
      if (next.chunk === undefined) this.#to.end();
      else this.#to.write(next.chunk);
    }
  }
}
