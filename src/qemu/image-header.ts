/** What an image file's first bytes say. Only qcow2 is recognised by content; everything else is raw to a guest. Source: QEMU's docs/interop/qcow2.txt. */
import type { DiskFormat } from '../api/virtual-machine.ts';

export interface ImageHeader {
  readonly format: DiskFormat;
  /** Capacity in bytes; for raw the caller knows it from the file. */
  readonly virtualBytes?: number;
  /** A backing or data file; by path, resolved against the image's folder. */
  readonly refersTo?: string;
}

const QCOW2_MAGIC = 0x514649fb;
const EXTERNAL_DATA_FILE = 4n;
const DATA_FILE_EXTENSION = 0x44415441;

/** @param head the first KiB of the file, fewer bytes for a smaller file */
export function parseImageHeader(head: Buffer, path: string): ImageHeader {
  if (head.length < 72 || head.readUInt32BE(0) !== QCOW2_MAGIC) return { format: 'raw' };
  const virtualBytes = Number(head.readBigUInt64BE(24));
  const backing = referredName(head, Number(head.readBigUInt64BE(8)), head.readUInt32BE(16));
  const external =
    head.readUInt32BE(4) >= 3 && head.length >= 80 && (head.readBigUInt64BE(72) & EXTERNAL_DATA_FILE) !== 0n;
  const name = backing ?? (external ? (dataFileName(head) ?? 'an external data file') : undefined);
  return { format: 'qcow2', virtualBytes, ...(name === undefined ? {} : { refersTo: resolveAgainst(path, name) }) };
}

function referredName(head: Buffer, offset: number, length: number): string | undefined {
  if (offset === 0 || length === 0) return undefined;
  // A name beyond what was read is still a name: it must not pass as none.
  return offset + length <= head.length
    ? head.toString('utf8', offset, offset + length)
    : 'a file whose name lies beyond the header';
}

function dataFileName(head: Buffer): string | undefined {
  let at = head.length >= 104 ? head.readUInt32BE(100) : head.length;
  while (at >= 104 && at + 8 <= head.length) {
    const type = head.readUInt32BE(at);
    const length = head.readUInt32BE(at + 4);
    if (type === DATA_FILE_EXTENSION) return head.toString('utf8', at + 8, Math.min(head.length, at + 8 + length));
    if (type === 0) return undefined;
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return undefined;
}

/** `json:` and protocol names stay as they are: no allowed folder contains them. */
function resolveAgainst(path: string, name: string): string {
  if (name.startsWith('/') || /^[a-z-]+:/.test(name)) return name;
  const parts = `${path.slice(0, path.lastIndexOf('/'))}/${name}`.split('/');
  const resolved: string[] = [];
  for (const part of parts) {
    if (part === '..') resolved.pop();
    else if (part !== '' && part !== '.') resolved.push(part);
  }
  return `/${resolved.join('/')}`;
}
