/** Ports of guests that several connections use at once: the way there is made once, and kept for a moment after the last. */
import type { GuestPort } from '../streams/vm-streams.ts';

interface Entry {
  readonly port: Promise<GuestPort>;
  users: number;
  timer?: NodeJS.Timeout;
}

const LINGER_MS = 10_000;

export class SharedPorts {
  readonly #entries = new Map<string, Entry>();
  readonly #closing = new Set<Promise<void>>();

  /** @param key the guest's process and port: another process is another way */
  async take(key: string, open: () => Promise<GuestPort>): Promise<GuestPort> {
    const entry = this.#entries.get(key) ?? { port: open(), users: 0 };
    this.#entries.set(key, entry);
    clearTimeout(entry.timer);
    entry.users += 1;
    let isReturned = false;
    const close = async () => {
      if (isReturned) return;
      isReturned = true;
      entry.users -= 1;
      if (entry.users === 0) entry.timer = setTimeout(() => this.#drop(key, entry), LINGER_MS);
    };
    try {
      const port = await entry.port;
      return { dial: (signal) => port.dial(signal), close };
    } catch (error) {
      if (this.#entries.get(key) === entry) this.#entries.delete(key);
      throw error;
    }
  }

  /** Takes all away. */
  async close(): Promise<void> {
    for (const [key, entry] of this.#entries) this.#drop(key, entry);
    await Promise.all(this.#closing);
  }

  #drop(key: string, entry: Entry): void {
    clearTimeout(entry.timer);
    this.#entries.delete(key);
    const gone = entry.port
      .then((port) => port.close())
      .catch(() => undefined)
      .finally(() => this.#closing.delete(gone));
    this.#closing.add(gone);
  }
}
