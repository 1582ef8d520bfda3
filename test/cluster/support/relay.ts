/** A TCP relay of the loopback, whose way can be stopped and turned. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { OnFinished } from '../../e2e/support/rig.ts';

export class Relay {
  readonly port: number;
  #target: number;
  #isHeld = false;
  readonly #sockets = new Set<Socket>();

  private constructor(port: number, target: number) {
    this.port = port;
    this.#target = target;
  }

  /** @param target a port of the loopback */
  static async start(onFinished: OnFinished, target: number): Promise<Relay> {
    const listener = createServer((from) => relay.#serve(from));
    listener.listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const relay = new Relay((listener.address() as AddressInfo).port, target);
    onFinished(async () => {
      listener.close();
      relay.#cut();
    });
    return relay;
  }

  /** What is connected stays so, and nothing comes through. */
  hold(): void {
    this.#isHeld = true;
    for (const socket of this.#sockets) socket.pause();
  }

  release(): void {
    this.#isHeld = false;
    for (const socket of this.#sockets) socket.resume();
  }

  /** Whoever is connected is cut off, and gets there from now on. */
  turnTo(target: number): void {
    this.#target = target;
    this.#cut();
  }

  #cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #serve(from: Socket): void {
    const to = connect(this.#target, '127.0.0.1');
    for (const [one, other] of [
      [from, to],
      [to, from],
    ] as const) {
      this.#sockets.add(one);
      one.on('data', (bytes) => void other.write(bytes));
      one.on('end', () => other.end());
      one.on('error', () => other.destroy());
      one.on('close', () => {
        this.#sockets.delete(one);
        other.destroy();
      });
      if (this.#isHeld) one.pause();
    }
  }
}
