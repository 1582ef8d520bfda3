/** Bytes between a guest and its user, until either is gone. */
import type { Duplex } from 'node:stream';
import { finished } from 'node:stream/promises';
import { type Status, SUCCESS, statusOf } from './status.ts';
import type { ChannelStream } from './web-socket.ts';

/**
 * Each way ends by itself. What the guest has said still arrives at a slow reader; then it is told how it ended.
 * Never rejects.
 */
export async function join(guest: Duplex, user: ChannelStream, ended: AbortSignal): Promise<Status> {
  guest.on('error', () => undefined);
  guest.pipe(user).pipe(guest);
  const failure = await new Promise<unknown>((resolve) => {
    const over = () => resolve(guest.errored ?? undefined);
    guest.once('close', over);
    user.once('close', over);
    ended.addEventListener('abort', () => resolve(ended.reason), { once: true });
    if (guest.destroyed || user.destroyed) over();
    if (ended.aborted) resolve(ended.reason);
  });
  guest.destroy();
  if (failure === undefined && !user.destroyed) {
    user.end();
    await finished(user, { readable: false, signal: ended }).catch(() => undefined);
  }
  const status = failure === undefined ? SUCCESS : statusOf(failure);
  user.finish(status);
  return user.errored === null ? status : statusOf(user.errored);
}
