/** A link with a round trip of its own: a proxy on loopback that delays both ways, and counts the round trips that were waited for. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { Place } from './place.ts';

export class FarLink {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #oneWayMs: number;
  readonly #to: number;

  /**
   * Round trips so far. What the client sends is one further on than the newest answer that it has, and an answer is
   * as far on as the newest word that the server has: what travels side by side counts once.
   */
  trips = 0;
  #atServer = 0;

  private constructor(to: number, oneWayMs: number) {
    this.#to = to;
    this.#oneWayMs = oneWayMs;
    this.#server = createServer((socket) => this.#carry(socket));
  }

  /** @param to the port of 127.0.0.1 at its far end */
  static async start(place: Place, to: number, roundTripMs: number): Promise<FarLink> {
    const link = new FarLink(to, roundTripMs / 2);
    link.#server.listen(0, '127.0.0.1');
    await once(link.#server, 'listening');
    place.onEnd(() => link.#end());
    return link;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  /** TCP's own handshake crosses the link one and a half times before the server hears of the client. */
  async #carry(near: Socket): Promise<void> {
    this.#sockets.add(near);
    near.once('close', () => this.#sockets.delete(near));
    near.on('error', () => near.destroy());
    near.pause();
    await this.#later(3);
    if (near.destroyed) return;
    const far = connect(this.#to, '127.0.0.1');
    this.#sockets.add(far);
    far.once('close', () => this.#sockets.delete(far));
    far.on('error', () => far.destroy());
    for (const socket of [near, far]) socket.setNoDelay(true);
    this.#pass(near, far, () => {
      const at = this.trips + 1;
      return () => {
        this.#atServer = Math.max(this.#atServer, at);
      };
    });
    this.#pass(far, near, () => {
      const at = this.#atServer;
      return () => {
        this.trips = Math.max(this.trips, at);
      };
    });
  }

  /** @param leave called as something sets out; what it returns, as that arrives */
  #pass(from: Socket, to: Socket, leave: () => () => void): void {
    from.on('data', async (chunk) => {
      const arrive = leave();
      await this.#later();
      arrive();
      if (to.writable) to.write(chunk);
    });
    from.once('close', async () => {
      await this.#later();
      to.destroy();
    });
    from.resume();
  }

  /** Timers of the same length end in the order of their beginning. */
  #later(ways = 1): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, ways * this.#oneWayMs));
  }

  async #end(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
