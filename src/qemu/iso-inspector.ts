/** Looks into ISO images on a host, in few round trips, and remembers what it saw until a file changes. */
import type { Architecture } from '../api/virtual-machine.ts';
import type { Shell } from '../host/shell.ts';
import { bootArchitectures } from './iso.ts';

/** One round trip's worth; the folders of most images lie within the first. */
const CHUNK_BYTES = 256 * 1024;
/** An image that makes us read more than this is not looked into further. */
const MAX_CHUNKS = 64;
const TIMEOUT_MS = 10_000;
const MAX_REMEMBERED = 1024;
const MARK = Buffer.from('@chunk\n');

/** Whatever a login shell prints stands before the mark. */
const SCRIPT = `
[ -r "$1" ] || { echo "$1 cannot be read" >&2; exit 2; }
echo @chunk
exec dd if="$1" bs=${CHUNK_BYTES} skip="$2" count=1
`;

/** @throws Error where the file cannot be read, and what Shell.run throws */
export async function inspectIso(shell: Shell, path: string, signal: AbortSignal): Promise<Architecture[]> {
  const chunks = new Map<number, Buffer>();
  const chunk = async (index: number): Promise<Buffer> => {
    const known = chunks.get(index);
    if (known !== undefined) return known;
    const content = chunks.size < MAX_CHUNKS ? await readChunk(shell, { path, index }, signal) : Buffer.alloc(0);
    chunks.set(index, content);
    return content;
  };
  return bootArchitectures(async (offset, length) => {
    const parts: Buffer[] = [];
    for (let at = offset; at < offset + length; ) {
      const from = at % CHUNK_BYTES;
      const wanted = Math.min(CHUNK_BYTES - from, offset + length - at);
      const part = (await chunk(Math.floor(at / CHUNK_BYTES))).subarray(from, from + wanted);
      parts.push(part);
      if (part.length < wanted) break;
      at += wanted;
    }
    return Buffer.concat(parts);
  });
}

async function readChunk(
  shell: Shell,
  { path, index }: { readonly path: string; readonly index: number },
  signal: AbortSignal,
): Promise<Buffer> {
  const { code, stdout, stderr } = await shell.run(SCRIPT, [path, String(index)], { timeoutMs: TIMEOUT_MS, signal });
  const mark = stdout.indexOf(MARK);
  // dd fails where `skip` is past the end of a device; on a file it prints nothing.
  if (code !== 0 && (code === 2 || index === 0))
    throw new Error(`cannot read ${path}: ${stderr.toString('utf8').trim().slice(0, 300)}`);
  return mark < 0 ? Buffer.alloc(0) : stdout.subarray(mark + MARK.length);
}

interface Seen {
  readonly mtimeMs: number;
  readonly size: number;
  readonly architectures: readonly Architecture[];
}

export class IsoInspector {
  readonly #shell: Shell;
  /** By path, oldest first. */
  readonly #seen = new Map<string, Seen>();

  constructor(shell: Shell) {
    this.#shell = shell;
  }

  /** From memory while the file's time and size are the same. @throws as inspectIso does; nothing is remembered then */
  async architectures(
    path: string,
    mtimeMs: number,
    size: number,
    signal: AbortSignal,
  ): Promise<readonly Architecture[]> {
    const seen = this.#seen.get(path);
    if (seen?.mtimeMs === mtimeMs && seen.size === size) return seen.architectures;
    const architectures = await inspectIso(this.#shell, path, signal);
    this.#seen.delete(path);
    this.#seen.set(path, { mtimeMs, size, architectures });
    const [oldest] = this.#seen.keys();
    if (this.#seen.size > MAX_REMEMBERED && oldest !== undefined) this.#seen.delete(oldest);
    return architectures;
  }
}
