/** A serial console, typed at by a test. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const DEADLINE_MS = 60_000;

export class TestConsole {
  readonly #socket: Socket;
  heard = '';

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8').on('data', (text: string) => {
      this.heard += text;
    });
    socket.on('error', () => undefined);
  }

  static async to(path: string): Promise<TestConsole> {
    const socket = connect(path);
    await once(socket, 'connect');
    return new TestConsole(socket);
  }

  say(line: string): void {
    this.#socket.write(`${line}\n`);
  }

  /** Waits until it is heard. */
  async hears(pattern: RegExp): Promise<void> {
    for (let waitedMs = 0; !pattern.test(this.heard); waitedMs += 20) {
      if (waitedMs > DEADLINE_MS) throw new Error(`${pattern} not heard in:\n${this.heard.slice(-2000)}`);
      await sleep(20);
    }
  }

  close(): void {
    this.#socket.destroy();
  }
}
