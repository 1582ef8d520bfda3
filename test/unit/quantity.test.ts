import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  formatQuantity,
  humanBytes,
  parseQuantity,
  QUANTITY_PATTERN,
  qemuSize,
  quantityFromQemuSize,
  toMiB,
} from '../../src/api/quantity.ts';

/** Factor of each suffix as numerator and denominator, from the text of the Kubernetes documentation. */
const FACTORS: Readonly<Record<string, readonly [bigint, bigint]>> = {
  n: [1n, 1_000_000_000n],
  u: [1n, 1_000_000n],
  m: [1n, 1_000n],
  '': [1n, 1n],
  k: [1_000n, 1n],
  M: [1_000_000n, 1n],
  G: [1_000_000_000n, 1n],
  T: [1_000_000_000_000n, 1n],
  P: [1_000_000_000_000_000n, 1n],
  Ki: [1n << 10n, 1n],
  Mi: [1n << 20n, 1n],
  Gi: [1n << 30n, 1n],
  Ti: [1n << 40n, 1n],
  Pi: [1n << 50n, 1n],
};

/** The oracle: long-hand rational arithmetic, rounded up. */
function bytesOf(whole: bigint, fraction: string, [numerator, denominator]: readonly [bigint, bigint]): bigint {
  const scale = BigInt(`1${'0'.repeat(fraction.length)}`);
  const top = (whole * scale + BigInt(fraction === '' ? '0' : fraction)) * numerator;
  const bottom = scale * denominator;
  return top % bottom === 0n ? top / bottom : top / bottom + 1n;
}

describe('parseQuantity', () => {
  test.each([
    // The documentation's equal amounts: 128974848, 129e6, 129M, 128974848000m, 123Mi.
    ['128974848', 128_974_848],
    ['129e6', 129_000_000],
    ['129M', 129_000_000],
    ['128974848000m', 128_974_848],
    ['123Mi', 128_974_848],
    ['0', 0],
    ['2Gi', 2_147_483_648],
    ['2G', 2_000_000_000],
    ['1.5Gi', 1_610_612_736],
    ['.5Gi', 536_870_912],
    ['1.', 1],
    ['+1Ki', 1024],
    ['1E3', 1000],
    ['1e-3', 1],
    ['5e2', 500],
    ['1n', 1],
    ['0.1', 1],
    ['1000m', 1],
    ['1001m', 2],
    ['007Ki', 7168],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
    ['.25Gi', 268_435_456],
    ['1e10', 10_000_000_000],
    [`${'0'.repeat(39)}1`, 1],
  ])('%s is %d bytes', (text, bytes) => {
    expect(parseQuantity(text)).toBe(bytes);
  });

  test.each([0, 1, 4096, Number.MAX_SAFE_INTEGER])('the number %d is as many bytes', (value) => {
    expect(parseQuantity(value)).toBe(value);
  });

  test.each([
    '',
    ' ',
    '2GB',
    '2gi',
    '2 Gi',
    ' 2Gi',
    '2Gi ',
    '2Gi\n',
    '-1',
    '-1Gi',
    'Gi',
    '.',
    '1..5',
    '1,5Gi',
    '0x10',
    '1e',
    '1e1000',
    '1K',
    '1MI',
    '٣Gi',
    'Infinity',
    'NaN',
    '9007199254740992',
    '8Pi',
    '9E',
    `1${'0'.repeat(60)}`,
    `${'0'.repeat(40)}1`,
  ])('%j is none', (text) => {
    expect(parseQuantity(text)).toBeUndefined();
  });

  test.each([-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])('the number %d is none', (value) => {
    expect(parseQuantity(value)).toBeUndefined();
  });

  test('is exact for every decimal number and suffix', () => {
    const whole = fc.bigInt({ min: 0n, max: 10n ** 15n });
    const fraction = fc.stringMatching(/^[0-9]{0,12}$/);
    fc.assert(
      fc.property(whole, fraction, fc.constantFrom(...Object.keys(FACTORS)), (integer, decimals, suffix) => {
        const expected = bytesOf(integer, decimals, FACTORS[suffix] ?? [1n, 1n]);
        const parsed = parseQuantity(`${integer}${decimals === '' ? '' : `.${decimals}`}${suffix}`);
        if (expected > BigInt(Number.MAX_SAFE_INTEGER)) expect(parsed).toBeUndefined();
        else expect(parsed === undefined ? undefined : BigInt(parsed)).toBe(expected);
      }),
    );
  });

  test('accepts no text that the CRD refuses', () => {
    const pattern = new RegExp(QUANTITY_PATTERN);
    expect('2GB').not.toMatch(pattern);
    const nearly = fc.stringMatching(/^[+-]?[0-9]{0,4}\.?[0-9]{0,3}[a-zA-Z]{0,2}[0-9]{0,2}$/);
    fc.assert(
      fc.property(fc.oneof(nearly, fc.string()), (text) => {
        if (parseQuantity(text) !== undefined) expect(text).toMatch(pattern);
      }),
    );
  });
});

describe('formatQuantity', () => {
  test.each([
    [0, '0'],
    [1, '1'],
    [1023, '1023'],
    [1024, '1Ki'],
    [1536, '1536'],
    [2_147_483_648, '2Gi'],
    [1_610_612_736, '1536Mi'],
    [2_000_000_000, '1953125Ki'],
    [2 ** 70, '1024Ei'],
  ])('%d is %s', (bytes, text) => {
    expect(formatQuantity(bytes)).toBe(text);
  });

  test('is read back as the same bytes', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (bytes) => {
        expect(parseQuantity(formatQuantity(bytes))).toBe(bytes);
      }),
    );
  });
});

describe("QEMU's sizes", () => {
  test.each([
    ['2G', '2Gi'],
    ['4096M', '4Gi'],
    ['20g', '20Gi'],
    ['20GB', '20Gi'],
    ['20GiB', '20Gi'],
    ['512', '512'],
    [' 1T ', '1Ti'],
    ['1536M', '1536Mi'],
    ['9007199254740991', '9007199254740991'],
  ])('%s is the quantity %s', (text, quantity) => {
    expect(quantityFromQemuSize(text)).toBe(quantity);
  });

  test.each(['', '0', '0G', '-1G', '2X', '1.5.5G', '2i', 'G', '9999999999999999P', '2G;reboot', '2G 3G'])(
    '%j is none',
    (text) => {
      expect(quantityFromQemuSize(text)).toBeUndefined();
    },
  );

  test.each([
    [21_474_836_480, '20G'],
    [1_610_612_736, '1536M'],
    [512, '512'],
  ])('%d bytes are %s', (bytes, text) => {
    expect(qemuSize(bytes)).toBe(text);
  });

  test('what is shown is what may be written', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), (bytes) => {
        expect(quantityFromQemuSize(qemuSize(bytes))).toBe(formatQuantity(bytes));
      }),
    );
  });
});

test('memory is rounded up to whole MiB', () => {
  expect([1, 1_048_576, 1_048_577, 2_000_000_000].map(toMiB)).toEqual([1, 1, 2, 1908]);
});

test.each([
  [0, '0B'],
  [1023, '1023B'],
  [1024, '1Ki'],
  [1536, '1.5Ki'],
  [10 * 1024, '10Ki'],
  [10 * 1024 + 600, '11Ki'],
  [1_610_612_736, '1.5Gi'],
  [2 ** 70, '1024Ei'],
])('%d bytes are %s to people', (bytes, text) => {
  expect(humanBytes(bytes)).toBe(text);
});
