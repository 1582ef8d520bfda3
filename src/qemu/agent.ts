/**
 * A client of the QEMU guest agent over any duplex stream: one question at a time, each with its deadline. What comes
 * is a guest's word: bounded here, given a form by who asks. A client that was not answered is given up with its
 * connection, so that no late answer is taken for another's. Source: QEMU's docs/interop/qemu-ga-ref (guest-sync).
 */
import { randomInt } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { z } from 'zod';
import { messageOf } from '../api/errors.ts';
import { AgentInvalidError, AgentLines } from './agent-lines.ts';

/** No answer in time, or the connection ended: whether the guest did as it was told is unknown. */
export class AgentSilentError extends Error {
  override name = 'AgentSilentError';
}

/** The agent answered that it will not, or that it does not know the command. */
export class AgentRefusedError extends Error {
  override name = 'AgentRefusedError';
}

const MAX_SYNC_ID = 2 ** 31;
const DELIMITER = Buffer.from([0xff]);

const answerSchema = z.union([
  z.object({ return: z.unknown() }),
  z.object({ error: z.object({ class: z.string(), desc: z.string() }) }),
]);
type AgentAnswer = z.infer<typeof answerSchema>;

interface Pending {
  readonly command: string;
  /** Whether this is the answer; others are dropped. */
  readonly accepts: (answer: AgentAnswer) => boolean;
  readonly resolve: (answer: AgentAnswer) => void;
  readonly reject: (error: Error) => void;
  readonly deadline: NodeJS.Timeout;
}

export class AgentClient {
  readonly #stream: Duplex;
  readonly #lines = new AgentLines();
  #pending: Pending | undefined;
  #waiting = 0;
  #tail: Promise<unknown> = Promise.resolve();
  #end: Error | undefined;

  private constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on('data', (chunk: Buffer) => this.#read(chunk));
    const ended = () => this.close(new AgentSilentError('the connection ended'));
    for (const event of ['error', 'close', 'end']) stream.on(event, ended);
  }

  /**
   * Takes the stream over, and finds the beginning of the conversation in whatever is left of earlier ones.
   * @throws AgentSilentError, AgentInvalidError; the stream is then destroyed
   */
  static async connect(stream: Duplex, timeoutMs: number): Promise<AgentClient> {
    const client = new AgentClient(stream);
    const id = randomInt(1, MAX_SYNC_ID);
    client.#lines.skip();
    const accepts = (answer: AgentAnswer) => 'return' in answer && answer.return === id;
    await client.#ask('guest-sync-delimited', { id }, { timeoutMs, accepts, before: DELIMITER });
    return client;
  }

  get ended(): boolean {
    return this.#end !== undefined;
  }

  /** Whether an answer is being waited for. */
  get busy(): boolean {
    return this.#waiting > 0;
  }

  /** Resolves when nothing is being waited for any more. */
  async idle(): Promise<void> {
    await this.#tail;
  }

  /**
   * What the agent returned: of any form.
   * @throws AgentRefusedError; AgentSilentError and AgentInvalidError, after which the connection is given up
   */
  async ask(command: string, args: object | undefined, timeoutMs: number): Promise<unknown> {
    const answer = await this.#ask(command, args, { timeoutMs, accepts: () => true });
    if ('error' in answer) throw new AgentRefusedError(`${command}: ${messageOf(answer.error.desc)}`);
    return answer.return;
  }

  #ask(
    command: string,
    args: object | undefined,
    how: { readonly timeoutMs: number; readonly accepts: Pending['accepts']; readonly before?: Buffer },
  ): Promise<AgentAnswer> {
    this.#waiting += 1;
    const turn = this.#tail.then(() => this.#exchange(command, args, how));
    this.#tail = turn.then(
      () => undefined,
      () => undefined,
    );
    return turn.finally(() => {
      this.#waiting -= 1;
    });
  }

  #exchange(
    command: string,
    args: object | undefined,
    { timeoutMs, accepts, before }: { timeoutMs: number; accepts: Pending['accepts']; before?: Buffer },
  ): Promise<AgentAnswer> {
    if (this.#end !== undefined) return Promise.reject(this.#end);
    return new Promise((resolve, reject) => {
      const late = () => this.close(new AgentSilentError(`${command}: no answer within ${timeoutMs} ms`));
      this.#pending = { command, accepts, resolve, reject, deadline: setTimeout(late, timeoutMs) };
      this.#lines.expect();
      const question = JSON.stringify({ execute: command, ...(args === undefined ? {} : { arguments: args }) });
      this.#stream.write(
        before === undefined ? `${question}\n` : Buffer.concat([before, Buffer.from(`${question}\n`)]),
      );
    });
  }

  /** @param why what those get who wait for an answer */
  close(why: Error = new AgentSilentError('the connection was closed')): void {
    if (this.#end !== undefined) return;
    this.#end = why;
    this.#stream.destroy();
    const pending = this.#pending;
    this.#pending = undefined;
    clearTimeout(pending?.deadline);
    pending?.reject(why);
  }

  #read(chunk: Buffer): void {
    if (this.#end !== undefined) return;
    try {
      for (const line of this.#lines.push(chunk)) this.#line(line);
    } catch (error) {
      this.close(error instanceof AgentInvalidError ? error : new AgentInvalidError(messageOf(error)));
    }
  }

  #line(line: string): void {
    const pending = this.#pending;
    // Nobody asked: a guest may say what it likes, within the bound of a line's length.
    if (pending === undefined) return;
    const answer = answerSchema.safeParse(JSON.parse(line));
    if (!answer.success) throw new AgentInvalidError(`${pending.command}: the answer has another form`);
    if (!pending.accepts(answer.data)) return;
    this.#pending = undefined;
    clearTimeout(pending.deadline);
    pending.resolve(answer.data);
  }
}
