/** A program of the host that leads to a UNIX socket there, where sshd is not allowed to: socat, else nc. */
import { basename, dirname } from 'node:path';
import { ChannelStream } from './channel-stream.ts';
import { hostText } from './host-text.ts';
import { DialError } from './shell.ts';
import type { SshSession } from './ssh-session.ts';

/**
 * From the socket's folder, since a path to a socket has at most 107 bytes. socat says by itself when it is through;
 * nc says nothing, so it connects once in vain before. `-t`: an end on one side does not end the other.
 */
const SCRIPT = `
cd -- "$1" || exit
if command -v socat >/dev/null; then exec socat -d -d -t 86400 STDIO "UNIX-CONNECT:$3" <&3 3<&-; fi
help=$(nc -h 2>&1)
case $help in *-U*) ;; *) echo 'neither socat nor an nc that has -U is there' >&2; exit 1;; esac
nc -z -U "$2" 3<&- || exit
echo 'starting data transfer loop' >&2
case $help in *-N*) exec nc -N -U "$2" <&3 3<&-;; *) exec nc -U "$2" <&3 3<&-;; esac
`;
/** In socat's words. */
const THROUGH = 'starting data transfer loop';

/** @throws DialError where it does not get through; the signal's reason, and the session is closed then */
export function connectRelay(
  session: SshSession,
  { path, name, signal }: { path: string; name: string; signal: AbortSignal },
  lost: () => Error | undefined,
): Promise<ChannelStream> {
  const { channel } = session;
  return new Promise((resolve, reject) => {
    const first: Buffer[] = [];
    let said = '';
    const onData = (chunk: Buffer) => first.push(chunk);
    const onSaid = (chunk: Buffer) => {
      said += chunk.toString();
      if (!said.includes(THROUGH)) return;
      quiet();
      channel.stderr.resume();
      resolve(new ChannelStream(channel, lost, { allowHalfOpen: false, first: Buffer.concat(first) }));
    };
    const onAbort = () => {
      quiet();
      channel.close();
      reject(signal.reason);
    };
    const quiet = () => {
      channel.off('data', onData);
      channel.stderr.off('data', onSaid);
      signal.removeEventListener('abort', onAbort);
    };
    channel.on('data', onData);
    channel.stderr.on('data', onSaid);
    signal.addEventListener('abort', onAbort, { once: true });
    void session.closed.then(() => {
      quiet();
      reject(lost() ?? new DialError(`${path} on ${name}, which forwards to no socket: ${hostText(lastLine(said))}`));
    });
    session.send(SCRIPT, [dirname(path), basename(path), escapedForSocat(basename(path))], true);
  });
}

/** socat(1): these have a meaning in an address. */
function escapedForSocat(text: string): string {
  return text.replace(/[\\:,!"'(){}[\]]/g, '\\$&');
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? '';
}
