/** The terminal between a person and a console: keys, escape, backpressure, and the terminal left as it was. */
import { Duplex, PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { attachTerminal, escapeByte } from '../../src/streams/terminal.ts';

class FakeTerminal extends PassThrough {
  isRaw = false;
  readonly modes: boolean[] = [];
  setRawMode(raw: boolean): void {
    this.isRaw = raw;
    this.modes.push(raw);
  }
}

/** The guest's end, and what it heard. */
function line(): { stream: Duplex; heard: () => string; print: (text: string) => void; end: () => void } {
  let heard = '';
  const stream = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => {
      heard += chunk.toString('latin1');
      done();
    },
  });
  return { stream, heard: () => heard, print: (text) => void stream.push(text), end: () => void stream.push(null) };
}

function setUp() {
  const stdin = new FakeTerminal();
  const stdout = new PassThrough();
  return { stdin, stdout, ...line(), shown: () => String(stdout.read() ?? '') };
}

test('what is typed goes to the guest, what it prints to the terminal, until the escape key', async () => {
  const { stdin, stdout, stream, heard, print, shown } = setUp();
  const attached = attachTerminal(stream, { stdin, stdout });
  expect(stdin.isRaw).toBe(true);
  print('login: ');
  stdin.write('root\u0003');
  await sleep(10);
  expect(shown()).toBe('login: ');
  stdin.write('exit\u001dnever');
  expect(await attached).toBe('detached');
  expect(heard()).toBe('root\u0003exit');
  expect(stdin.modes).toEqual([true, false]);
  expect(stream.destroyed).toBe(false);
  expect(stdin.isPaused()).toBe(true);
  expect(stream.listenerCount('data')).toBe(0);
});

test("the guest's end ends it and restores the terminal", async () => {
  const { stdin, stdout, stream, end } = setUp();
  const attached = attachTerminal(stream, { stdin, stdout });
  end();
  expect(await attached).toBe('ended');
  expect(stdin.modes).toEqual([true, false]);
});

test('a stream that has ended before is told at once', async () => {
  const { stdin, stdout, stream } = setUp();
  stream.destroy();
  expect(await attachTerminal(stream, { stdin, stdout })).toBe('ended');
  expect(stdin.isRaw).toBe(false);
});

test('input from a pipe that ends waits for the answer to end', async () => {
  const { stdin, stdout, stream, print, shown } = setUp();
  const attached = attachTerminal(stream, { stdin, stdout, lingerMs: 60 });
  stdin.end('date\n');
  for (let count = 0; count < 4; count += 1) {
    await sleep(30);
    print('.');
  }
  expect(await attached).toBe('input-ended');
  expect(shown()).toBe('....');
});

test('a guest that does not read does not make us keep what is typed for ever', async () => {
  const stdin = new FakeTerminal();
  const stream = new Duplex({ read: () => undefined, write: () => undefined, highWaterMark: 1024 });
  const attached = attachTerminal(stream, { stdin, stdout: new PassThrough() });
  stdin.write(Buffer.alloc(4096));
  await sleep(10);
  expect(stdin.isPaused()).toBe(true);
  stream.destroy();
  expect(await attached).toBe('ended');
});

describe('an escape key', () => {
  test.each([
    ['^]', 0x1d],
    ['^a', 0x01],
    ['^A', 0x01],
    ['^^', 0x1e],
    ['~', 0x7e],
    ['^', 0x5e],
  ])('%s', (text, byte) => expect(escapeByte(text)).toBe(byte));
  test.each(['', 'ab', '^]]', 'ä', '^1'])('not %j', (text) => {
    expect(() => escapeByte(text)).toThrow(RangeError);
  });
});
