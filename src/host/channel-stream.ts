/**
 * A channel of ssh2 as a stream that keeps Node's promises: ssh2's own ends without an error when the connection is
 * cut, never calls back a write to a closed channel, and closes only when the host says so.
 */
import { Duplex } from 'node:stream';
import type { ClientChannel } from './ssh-client.ts';

export class ChannelStream extends Duplex {
  readonly #channel: ClientChannel;

  /**
   * @param channel nothing of it has been read but `first`
   * @param lost the reason where the connection under it is gone; the stream's error then
   */
  constructor(channel: ClientChannel, lost: () => Error | undefined, options: ChannelStreamOptions = {}) {
    super({ allowHalfOpen: options.allowHalfOpen ?? true });
    this.#channel = channel;
    // Whoever uses the stream listens for its end; an error is one, and must not be an uncaught exception.
    this.on('error', () => undefined);
    if (options.first !== undefined && options.first.length > 0) this.push(options.first);
    channel.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) channel.pause();
    });
    channel.on('end', () => {
      if (lost() === undefined) this.push(null);
    });
    channel.on('error', (error: Error) => this.destroy(error));
    channel.on('close', () => {
      const reason = lost();
      if (reason !== undefined) this.destroy(reason);
      // Nothing more can be sent; what has come is still to be read.
      else if (this.readableEnded) this.destroy();
      else this.once('end', () => this.destroy());
    });
  }

  override _read(): void {
    this.#channel.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#channel.write(chunk, done);
  }

  override _final(done: () => void): void {
    this.#channel.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#channel.close();
    // What still comes has no reader, and must not hold up the others.
    this.#channel.resume();
    done(error);
  }
}

interface ChannelStreamOptions {
  /** false: the end of what comes ends what goes, as sockets of node:net have it by default. */
  readonly allowHalfOpen?: boolean;
  /** What was read already. */
  readonly first?: Buffer;
}
