/** Guests print what they like; what a person's terminal gets has no control function left. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SafeText } from '../../src/streams/safe-text.ts';

const safe = (text: string) => new SafeText().push(text);

describe('what is left of', () => {
  test.each([
    ['colours', '\u001b[1;31mred\u001b[0m', 'red'],
    ['a window title', 'a\u001b]0;rm -rf /\u0007b', 'ab'],
    ['a string ended by ST', 'a\u001bPq#0\u001b\\b', 'ab'],
    ['C1 forms', 'a\u009b2Jb\u009d0;x\u009cc', 'abc'],
    ['a character set', 'a\u001b(Bb', 'ab'],
    ['a full reset', 'a\u001bcb', 'ab'],
    ['a string without an end', 'a\u001b]0;hidden\nseen', 'a\nseen'],
    ['backspaces and bells', 'ab\b\u0007c\u0000', 'abc'],
    ['lines of a serial console', 'one\r\ntwo\r\n', 'one\ntwo\n'],
    ['a progress line', '10%\r20%\r\u001b[K30%\r\n', '10%\n20%\n30%\n'],
    ['characters that reorder', 'a\u202eb\u2066c', 'abc'],
    ['other languages', '你好, naïve 🙂\ttab', '你好, naïve 🙂\ttab'],
  ])('%s', (_, printed, expected) => {
    expect(safe(printed)).toBe(expected);
  });
});

const hostile = fc.string({
  unit: fc.constantFrom(
    '\u001b',
    '[',
    ']',
    'P',
    '\\',
    '\u009b',
    '\u009d',
    '\u0007',
    'm',
    '0',
    ';',
    'a',
    '\r',
    '\n',
    '\b',
    '🙂',
  ),
  maxLength: 60,
});

test('no control character but line end and tab is left, whatever comes', () => {
  fc.assert(
    fc.property(hostile, (text) => {
      expect(safe(text)).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/);
    }),
    { numRuns: 2000 },
  );
});

test('where the pieces are cut makes no difference', () => {
  fc.assert(
    fc.property(hostile, fc.nat(60), (text, at) => {
      const characters = [...text];
      const pieces = new SafeText();
      const joined = [characters.slice(0, at), characters.slice(at)]
        .map((piece) => pieces.push(piece.join('')))
        .join('');
      expect(joined).toBe(safe(text));
    }),
  );
});

test('a line that follows is always seen', () => {
  fc.assert(
    fc.property(hostile, (text) => {
      expect(safe(`${text}\nLOGIN`)).toMatch(/\nLOGIN$/);
    }),
  );
});
