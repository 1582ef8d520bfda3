/** What a command is given on its stdin. */
import type { Context } from './context.ts';

/** All of it, or the beginning of what is longer: then it has more than `mostBytes`, for the caller to refuse. */
export async function stdinUpTo({ stdin }: Context, mostBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stdin) {
    const part = Buffer.from(chunk as Buffer | string);
    chunks.push(part);
    bytes += part.length;
    if (bytes > mostBytes) break;
  }
  return Buffer.concat(chunks);
}
