/** Reading untrusted images: whatever the figures in them say, the work stays bounded. */

/** Bytes from `offset`; fewer than `length` only at the end of the image. */
export type ReadBytes = (offset: number, length: number) => Promise<Buffer>;

/** The image asks for more than any honest one does. */
export class ReadBudgetError extends Error {
  override name = 'ReadBudgetError';
}

const MAX_READS = 256;
const MAX_READ_BYTES = 1024 * 1024;

export class ByteReader {
  readonly #read: ReadBytes;
  #reads = 0;

  constructor(read: ReadBytes) {
    this.#read = read;
  }

  /** Never longer than 1 MiB, and shorter or empty past the end. @throws ReadBudgetError after 256 reads */
  async at(offset: number, length: number): Promise<Buffer> {
    this.#reads += 1;
    if (this.#reads > MAX_READS) throw new ReadBudgetError(`more than ${MAX_READS} reads`);
    if (!Number.isSafeInteger(offset) || offset < 0 || length <= 0) return Buffer.alloc(0);
    return this.#read(offset, Math.min(length, MAX_READ_BYTES));
  }
}
