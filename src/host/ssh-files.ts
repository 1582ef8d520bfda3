/**
 * A file brought to a host: through a script that reads it from the session, since whoever can run our scripts can do
 * that, with or without SFTP. It appears under its name when all of it lies on the disk, and never in another's place.
 */
import { Readable } from 'node:stream';
import type { HostConnection } from './host-connection.ts';
import { hostText } from './host-text.ts';

export interface Upload {
  readonly content: Readable;
  /** Exactly what the content has: a connection that is cut looks like the end of it. */
  readonly sizeBytes: number;
  /** On the host; nothing may have that name yet. */
  readonly path: string;
  /** Of the new file; the default is 0o600. */
  readonly mode?: number;
  /** Told how many bytes have been sent. */
  readonly onProgress?: (sentBytes: number) => void;
}

/** The file was not made; what had its name is as before. */
export class UploadError extends Error {
  override name = 'UploadError';
}

const MAX_OUTPUT_BYTES = 64 * 1024;
const EXISTS = 17;

/** A link gives the name only where it is free; where a file system has none, mv -n does. */
const SCRIPT = `
target=$1 partial=$1.partial.$$ mode=$2 size=$3
if [ -e "$target" ] || [ -L "$target" ]; then return ${EXISTS}; fi
trap 'rm -f -- "$partial"' EXIT
trap 'exit 1' HUP INT TERM PIPE
umask 077
: >"$partial" || return
echo ready
cat <&3 >"$partial" || return
sent=$(wc -c <"$partial") || return
if [ "$sent" -ne "$size" ]; then echo "only $sent of $size bytes came" >&2; return 1; fi
chmod "$mode" "$partial" || return
sync "$partial" 2>/dev/null || sync
if ! ln "$partial" "$target" 2>/dev/null; then
  mv -n "$partial" "$target" || return
  if [ -e "$partial" ]; then return ${EXISTS}; fi
fi
sync "\${target%/*}/" 2>/dev/null || sync
`;

/** @throws UploadError, HostUnreachableError, the signal's reason */
export async function upload(connection: HostConnection, file: Upload, signal: AbortSignal): Promise<void> {
  const { path, sizeBytes, mode = 0o600 } = file;
  const args = [path, mode.toString(8), String(sizeBytes)];
  const input = Readable.from(counted(file));
  const { code, stderr } = await connection.run(SCRIPT, args, { signal, input, maxOutputBytes: MAX_OUTPUT_BYTES });
  if (code === 0) return;
  throw new UploadError(code === EXISTS ? `${path} exists already` : `${path}: ${hostText(stderr.toString())}`);
}

async function* counted({ content, onProgress }: Upload): AsyncGenerator<Buffer> {
  let sentBytes = 0;
  for await (const chunk of content) {
    yield chunk;
    sentBytes += chunk.length;
    onProgress?.(sentBytes);
  }
}
