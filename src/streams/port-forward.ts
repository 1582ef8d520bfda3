/** A port of this machine's loopback joined to a TCP port of a guest, connection by connection. */
import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { messageOf } from '../api/errors.ts';
import type { GuestPort } from './vm-streams.ts';

export const LOOPBACK = '127.0.0.1';

export interface PortForwardOptions {
  /** On the loopback; 0: one that is free. */
  readonly localPort: number;
  readonly target: Pick<GuestPort, 'dial'>;
  readonly onConnection: (localPort: number) => void;
  /** A connection that failed; the others go on. */
  readonly onFailure: (message: string) => void;
}

export interface PortForward {
  readonly localPort: number;
  /** Ends the connections too. */
  close(): void;
}

/** @throws listen's error where the port is taken */
export async function forwardPort(options: PortForwardOptions): Promise<PortForward> {
  const { target, onConnection, onFailure } = options;
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true });
  const localPort = await listen(server, options.localPort);
  const stop = new AbortController();
  const open = new Set<Duplex>();
  const track = (stream: Duplex) => {
    open.add(stream);
    stream.on('error', () => undefined).once('close', () => open.delete(stream));
  };
  server.on('connection', (client: Socket) => {
    track(client);
    onConnection(localPort);
    target.dial(stop.signal).then(
      (guest) => {
        track(guest);
        join(client, guest, () => onFailure('the guest closed the connection at once; does anything listen there?'));
      },
      (error: unknown) => {
        client.destroy();
        if (!stop.signal.aborted) onFailure(messageOf(error));
      },
    );
  });
  return {
    localPort,
    close: () => {
      stop.abort();
      server.close();
      for (const stream of open) stream.destroy();
    },
  };
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: LOOPBACK, port, exclusive: true }, () => {
      server.off('error', reject);
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : port);
    });
  });
}

/**
 * Each way ends by itself; an end that is none in order ends both.
 * @param onRefused told where the guest said nothing and broke it, or ended it before the client did: QEMU's user-mode
 * network takes every connection first and asks the guest then
 */
function join(client: Socket, guest: Duplex, onRefused: () => void): void {
  let heard = false;
  let left = false;
  guest.once('data', () => {
    heard = true;
  });
  client.once('end', () => {
    left = true;
  });
  let told = false;
  const ended = (refused: boolean) => {
    if (refused && !heard && !told && !client.destroyed) onRefused();
    told = true;
  };
  guest.once('error', () => ended(true)).once('end', () => ended(!left));
  guest.once('close', () => client.destroySoon());
  client.once('close', () => guest.destroy());
  client.pipe(guest).pipe(client);
}
