/** The client of the guest agent against guests of every kind: whatever they write, it ends in time and within bounds. */
import { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { AgentClient, AgentRefusedError, AgentSilentError } from '../../src/qemu/agent.ts';
import { AgentInvalidError, AgentLines, MAX_ANSWER_BYTES } from '../../src/qemu/agent-lines.ts';

const SHORT_MS = 150;

interface Question {
  readonly execute: string;
  readonly arguments?: { readonly id?: number };
}

/** A guest's end of the port: what it writes for each question. */
function guest(answer: (question: Question, say: (bytes: string | Buffer) => void) => void) {
  const heard: Question[] = [];
  let rest = '';
  const port = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => {
      rest += chunk.toString('latin1');
      for (let end = rest.indexOf('\n'); end >= 0; end = rest.indexOf('\n')) {
        const question = JSON.parse(rest.slice(0, end).replace('\u00ff', '')) as Question;
        rest = rest.slice(end + 1);
        heard.push(question);
        answer(question, (bytes) => port.push(bytes));
      }
      done();
    },
  });
  return { port, heard };
}

const line = (value: unknown) => `${JSON.stringify(value)}\n`;
const delimited = (value: unknown) => Buffer.concat([Buffer.from([0xff]), Buffer.from(line(value))]);
const sync = ({ arguments: args }: Question) => delimited({ return: args?.id });
const isSync = ({ execute }: Question) => execute === 'guest-sync-delimited';

/** Answers the sync, and the rest as it is told. */
const agent = (answer: Parameters<typeof guest>[0]) =>
  guest((question, say) => (isSync(question) ? say(sync(question)) : answer(question, say)));

describe('a conversation', () => {
  test('begins behind whatever is left of earlier ones', async () => {
    const { port } = guest((question, say) => {
      if (isSync(question)) {
        say('rest of an answer"}\n{"return": 7}\n{"error": {"class": "GenericError", "desc": "stray 0xFF"}}\n');
        say(delimited({ return: 1 }));
        say(sync(question));
      } else say(line({ return: { 'host-name': 'web' } }));
    });
    const client = await AgentClient.connect(port, 1_000);
    expect(await client.ask('guest-get-host-name', undefined, 1_000)).toEqual({ 'host-name': 'web' });
  });

  test('has one question at a time, each with its own answer', async () => {
    let open = 0;
    const { port, heard } = agent(async ({ execute }, say) => {
      open += 1;
      expect(open).toBe(1);
      await sleep(5);
      open -= 1;
      say(line({ return: execute }));
    });
    const client = await AgentClient.connect(port, 1_000);
    const commands = ['a', 'b', 'c'];
    const answers = commands.map((command) => client.ask(command, { mode: 'x' }, 1_000));
    expect(client.busy).toBe(true);
    expect(await Promise.all(answers)).toEqual(commands);
    expect(heard.slice(1)).toEqual(commands.map((execute) => ({ execute, arguments: { mode: 'x' } })));
    await client.idle();
    expect([client.busy, client.ended]).toEqual([false, false]);
  });

  test('goes on after a refusal', async () => {
    const { port } = agent(({ execute }, say) =>
      say(line(execute === 'a' ? { error: { class: 'CommandNotFound', desc: 'no\nsuch' } } : { return: 1 })),
    );
    const client = await AgentClient.connect(port, 1_000);
    await expect(client.ask('a', undefined, 1_000)).rejects.toThrow(new AgentRefusedError('a: no such'));
    expect(await client.ask('b', undefined, 1_000)).toBe(1);
  });

  test('ends without an answer: nobody waits longer, and no late answer is taken for another', async () => {
    const { port } = agent(() => undefined);
    const client = await AgentClient.connect(port, 1_000);
    const asked = ['a', 'b'].map((command) => client.ask(command, undefined, SHORT_MS));
    const outcomes = await Promise.allSettled(asked);
    expect(outcomes.map((one) => one.status === 'rejected' && one.reason)).toEqual([
      expect.any(AgentSilentError),
      expect.any(AgentSilentError),
    ]);
    expect([client.ended, port.destroyed]).toEqual([true, true]);
    await expect(client.ask('c', undefined, 1_000)).rejects.toBeInstanceOf(AgentSilentError);
  });

  test('ends with the connection', async () => {
    const { port } = agent(() => port.destroy());
    const client = await AgentClient.connect(port, 1_000);
    await expect(client.ask('a', undefined, 60_000)).rejects.toBeInstanceOf(AgentSilentError);
  });
});

describe('what is no agent', () => {
  const deep = `{"return": ${'['.repeat(400_000)}${']'.repeat(400_000)}}\n`;
  const rows: readonly (readonly [string, (say: (bytes: string | Buffer) => void) => void, unknown])[] = [
    ['silence', () => undefined, AgentSilentError],
    ['half a line', (say) => say('{"return": '), AgentSilentError],
    ['a line that is no JSON', (say) => say('login: \n'), AgentInvalidError],
    ['JSON of another form', (say) => say('{"hello": 1}\n'), AgentInvalidError],
    ['a list', (say) => say('[]\n'), AgentInvalidError],
    ['an answer without end', (say) => say(Buffer.alloc(MAX_ANSWER_BYTES + 1, 'a')), AgentInvalidError],
    ['lines without end', (say) => say(Buffer.alloc(MAX_ANSWER_BYTES + 1, '\n')), AgentInvalidError],
  ];
  test.each(rows)('%s', async (_what, answer, error) => {
    const { port } = agent((_question, say) => answer(say));
    const client = await AgentClient.connect(port, 1_000);
    await expect(client.ask('guest-info', undefined, SHORT_MS)).rejects.toBeInstanceOf(error);
    expect([client.ended, port.destroyed]).toEqual([true, true]);
  });

  test('an answer as deep as it is long is one all the same', async () => {
    const { port } = agent((_question, say) => say(deep));
    const client = await AgentClient.connect(port, 1_000);
    expect(await client.ask('guest-info', undefined, 10_000)).toHaveLength(1);
  });

  test.each([
    ['that never answers the first question', () => undefined, AgentSilentError],
    [
      'whose answer has another number',
      (say: (bytes: Buffer) => void) => say(delimited({ return: -1 })),
      AgentSilentError,
    ],
    [
      'that talks without end before it',
      (say: (bytes: Buffer) => void) => say(Buffer.alloc(2 ** 20 + 1)),
      AgentInvalidError,
    ],
  ])('one %s', async (_what, answer, error) => {
    const { port } = guest((_question, say) => answer(say));
    await expect(AgentClient.connect(port, SHORT_MS)).rejects.toBeInstanceOf(error);
    expect(port.destroyed).toBe(true);
  });

  test('a guest that talks unasked is not listened to, and given up when it does not stop', async () => {
    const { port } = agent((_question, say) => say(line({ return: 1 })));
    const client = await AgentClient.connect(port, 1_000);
    port.push('login: \n{"return": 9}\n');
    await sleep(5);
    expect(await client.ask('a', undefined, 1_000)).toBe(1);
    port.push(Buffer.alloc(MAX_ANSWER_BYTES, 'a'));
    await sleep(5);
    expect(client.ended).toBe(true);
  });
});

describe('lines', () => {
  const bytes = fc.uint8Array({ maxLength: 200 }).map((array) => Buffer.from(array));
  const pieces = fc.array(
    fc.oneof(bytes, fc.constantFrom('{"a":1}\n', '\n', '\u00e9\n').map(Buffer.from), fc.constant(Buffer.from([0xff]))),
  );

  /** All lines, however the bytes were cut. */
  function linesOf(chunks: readonly Buffer[], skipping: boolean): string[] {
    const lines = new AgentLines();
    if (skipping) lines.skip();
    return chunks.flatMap((chunk) => lines.push(chunk));
  }

  test('are the same however they come in pieces', () => {
    fc.assert(
      fc.property(pieces, fc.integer({ min: 1, max: 7 }), fc.boolean(), (chunks, step, skipping) => {
        const all = Buffer.concat(chunks);
        const small = Array.from({ length: Math.ceil(all.length / step) }, (_, index) =>
          all.subarray(index * step, (index + 1) * step),
        );
        const whole = linesOf([all], skipping);
        expect(linesOf(chunks, skipping)).toEqual(whole);
        expect(linesOf(small, skipping)).toEqual(whole);
        expect(whole.every((one) => one.trim() === one && one !== '')).toBe(true);
      }),
    );
  });

  test('before the delimiter do not exist for who skips, and half a line before it for nobody', () => {
    fc.assert(
      fc.property(bytes, (noise) => {
        const after = [...noise, 0xff, ...Buffer.from('{"return":1}\n')];
        expect(linesOf([Buffer.from(after)], true).at(-1)).toBe('{"return":1}');
        expect(linesOf([Buffer.from(after)], false).at(-1)).toBe('{"return":1}');
        if (!noise.includes(0xff)) expect(linesOf([Buffer.from(after)], true)).toHaveLength(1);
      }),
    );
  });

  test('byte by byte take no more than their own room', () => {
    const lines = new AgentLines();
    const byte = Buffer.from('a');
    const before = process.memoryUsage().arrayBuffers;
    for (let count = 0; count < MAX_ANSWER_BYTES; count += 1) lines.push(byte);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * MAX_ANSWER_BYTES);
    expect(() => lines.push(byte)).toThrow(AgentInvalidError);
  });
});
