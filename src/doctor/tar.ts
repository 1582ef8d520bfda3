/** A tar archive of small texts, as POSIX.1-2017 ustar has it (pax(1), "ustar Interchange Format"). */

export interface TarFile {
  /** Relative, at most 99 bytes, ASCII. */
  readonly name: string;
  readonly text: string;
}

const BLOCK = 512;

/** @param at seconds since the epoch, of every file */
export function tarOf(files: readonly TarFile[], at: number): Buffer {
  const blocks = files.flatMap(({ name, text }) => {
    const content = Buffer.from(text, 'utf8');
    return [header(name, content.length, at), content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]);
}

function header(name: string, bytes: number, at: number): Buffer {
  if (Buffer.byteLength(name) > 99) throw new RangeError(`${name} is too long for a file of the archive`);
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, length: number) => value.toString(8).padStart(length, '0');
  block.write(name, 0);
  block.write(octal(0o600, 7), 100);
  block.write(octal(0, 7), 108);
  block.write(octal(0, 7), 116);
  block.write(octal(bytes, 11), 124);
  block.write(octal(at, 11), 136);
  // The sum counts its own field as blanks.
  block.write('        ', 148);
  block.write('0', 156);
  block.write('ustar\u000000', 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${octal(sum, 6)}\u0000 `, 148);
  return block;
}
