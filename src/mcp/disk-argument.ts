/** `path=/data/vm/disk.qcow2,size=20G`: QEMU's way of writing options, a doubled comma standing for one. */
import { quoteValue } from '../api/errors.ts';
import { quantityFromQemuSize } from '../api/quantity.ts';
import { absolutePath } from '../api/schema.ts';
import { diskSize } from '../api/virtual-machine.ts';
import type { Sentences } from '../messages/sentences.ts';
import { Refusal } from './envelope.ts';

export interface DiskArgument {
  readonly path?: string;
  /** A canonical quantity. */
  readonly size?: string;
}

const DISK_SIZE = diskSize();

/** @throws Refusal */
export function parseDisk(text: string, say: Sentences): DiskArgument {
  const refuse = (part = text, allowed = say.diskSyntax()): never => {
    const value = quoteValue(part);
    throw new Refusal(say.wrongForm({ field: 'disk', value, allowed }), {
      code: 'InvalidArgument',
      field: 'disk',
      value,
      allowed: [allowed],
    });
  };
  const parts: Record<string, string> = {};
  for (const option of text.split(/(?<!,),(?!,)/).map((one) => one.replaceAll(',,', ','))) {
    const match = /^\s*(path|size)=(.+?)\s*$/s.exec(option);
    if (match?.[1] === undefined || match[2] === undefined || match[1] in parts) return refuse();
    parts[match[1]] = match[2];
  }
  const { path, size } = parts;
  const crooked = path === undefined ? undefined : absolutePath().safeParse(path).error?.issues[0]?.message;
  if (crooked !== undefined) return refuse(path, crooked);
  const quantity = size === undefined ? undefined : quantityFromQemuSize(size);
  if (size !== undefined && (quantity === undefined || !DISK_SIZE.safeParse(quantity).success))
    return refuse(size, say.diskSizeSyntax());
  return { ...(path === undefined ? {} : { path }), ...(quantity === undefined ? {} : { size: quantity }) };
}

/** For a file that does not exist yet; an existing one has its own. */
export function formatOf(path: string): 'qcow2' | 'raw' {
  return /\.(raw|img)$/.test(path) ? 'raw' : 'qcow2';
}

/** @throws Refusal */
export function parseMemory(text: string, say: Sentences): string {
  const quantity = quantityFromQemuSize(text);
  if (quantity !== undefined) return quantity;
  const value = quoteValue(text);
  const allowed = say.memorySyntax();
  throw new Refusal(say.wrongForm({ field: 'memory', value, allowed }), {
    code: 'InvalidArgument',
    field: 'memory',
    value,
    allowed: [allowed],
  });
}
