/**
 * The bytes of a guest agent as lines. Whatever the guest writes, memory and work stay bounded: a guest can answer
 * nothing, half a line, garbage, or without end.
 */

/** What the guest sends is no answer of an agent: too long, or no JSON of its form. */
export class AgentInvalidError extends Error {
  override name = 'AgentInvalidError';
}

/** The interfaces of a guest with a thousand of them take a third of it. */
export const MAX_ANSWER_BYTES = 1024 * 1024;

const FIRST_BYTES = 4096;
const NEWLINE = 10;
/** Stands before the answer to guest-sync-delimited and, since it is no UTF-8, nowhere else. */
const DELIMITER = 0xff;

export class AgentLines {
  /** The line that is not complete yet: one buffer, since a guest may send byte by byte. */
  #buffer = Buffer.alloc(0);
  #length = 0;
  #bytes = 0;
  #skipping = false;

  /** A new question: its answer may be as long as any. */
  expect(): void {
    this.#bytes = 0;
  }

  /** Everything up to the next delimiter is left from before, and is dropped. */
  skip(): void {
    this.#length = 0;
    this.#skipping = true;
  }

  /**
   * The lines that are complete now, without their ends; empty ones are left out.
   * @throws AgentInvalidError once more than an answer's length has come since `expect`
   */
  push(chunk: Buffer): string[] {
    this.#bytes += chunk.length;
    if (this.#bytes > MAX_ANSWER_BYTES) throw new AgentInvalidError(`more than ${MAX_ANSWER_BYTES} bytes came`);
    const lines: string[] = [];
    for (let from = 0; from < chunk.length; ) {
      const end = endOfPart(chunk, from);
      if (!this.#skipping) this.#keep(chunk.subarray(from, end));
      if (chunk[end] === DELIMITER) {
        this.#length = 0;
        this.#skipping = false;
      } else if (chunk[end] === NEWLINE && !this.#skipping) {
        const line = this.#buffer.toString('utf8', 0, this.#length).trim();
        if (line !== '') lines.push(line);
        this.#length = 0;
      }
      from = end + 1;
    }
    return lines;
  }

  #keep(part: Buffer): void {
    const length = this.#length + part.length;
    if (length > this.#buffer.length) {
      const larger = Buffer.alloc(Math.max(FIRST_BYTES, 2 * length));
      this.#buffer.copy(larger, 0, 0, this.#length);
      this.#buffer = larger;
    }
    part.copy(this.#buffer, this.#length);
    this.#length = length;
  }
}

/** Where the next newline or delimiter stands; the chunk's length where there is none. */
function endOfPart(chunk: Buffer, from: number): number {
  for (let at = from; at < chunk.length; at += 1) {
    if (chunk[at] === NEWLINE || chunk[at] === DELIMITER) return at;
  }
  return chunk.length;
}
