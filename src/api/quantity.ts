/**
 * Kubernetes quantities, exactly: a decimal number with a suffix, as in `2Gi`, `1.5G`, `500M`, `1e9`.
 * Read to whole bytes, rounded up like Kubernetes does. No floating point anywhere.
 * Source: k8s.io/apimachinery/pkg/api/resource.
 */

/** As it stands in a manifest: a string, or a plain number of bytes. */
export type Quantity = string | number;

/** RE2, shared with the CRD. Negative amounts make no sense for memory and disks and are not part of it. */
export const QUANTITY_PATTERN =
  '^\\+?([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]{1,2})?$';

const PARSED = /^\+?(?:(\d+)(?:\.(\d*))?|\.(\d+))(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d{1,2})?$/;
const DECIMAL_EXPONENT: Readonly<Record<string, number>> = {
  n: -9,
  u: -6,
  m: -3,
  k: 3,
  M: 6,
  G: 9,
  T: 12,
  P: 15,
  E: 18,
};
const BINARY_STEPS = ['Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'];
/** 2^53 - 1, the largest whole number that a JavaScript number keeps exactly: 8 PiB less one. */
const MAX_BYTES = BigInt(Number.MAX_SAFE_INTEGER);

const MIB = 1_048_576;

/** Whole bytes of a quantity, rounded up; exact, so undefined where it is none or exceeds 2^53 - 1. */
export function parseQuantity(value: Quantity): number | undefined {
  const bytes = typeof value === 'number' ? numberBytes(value) : stringBytes(value);
  return bytes === undefined || bytes > MAX_BYTES ? undefined : Number(bytes);
}

function numberBytes(value: number): bigint | undefined {
  return Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : undefined;
}

function stringBytes(value: string): bigint | undefined {
  const match = PARSED.exec(value);
  if (match === null || value.length > 40) return undefined;
  const fraction = match[2] ?? match[3] ?? '';
  const digits = BigInt(`${match[1] ?? ''}${fraction}`);
  const suffix = match[4] ?? '';
  const binary = BINARY_STEPS.indexOf(suffix) + 1;
  if (binary > 0) return ceilDivide(digits * 1024n ** BigInt(binary), 10n ** BigInt(fraction.length));
  const exponent = (DECIMAL_EXPONENT[suffix] ?? (suffix === '' ? 0 : Number(suffix.slice(1)))) - fraction.length;
  return exponent >= 0 ? digits * 10n ** BigInt(exponent) : ceilDivide(digits, 10n ** BigInt(-exponent));
}

function ceilDivide(a: bigint, b: bigint): bigint {
  return (a + b - 1n) / b;
}

/** Whole MiB of a byte count, rounded up: QEMU's RAM granularity here. */
export function toMiB(bytes: number): number {
  return Math.ceil(bytes / MIB);
}

/** The canonical binary form of a byte count: the largest suffix that divides it, `2147483648` is `2Gi`. */
export function formatQuantity(bytes: number): string {
  let rest = bytes;
  let step = 0;
  while (step < BINARY_STEPS.length && rest !== 0 && rest % 1024 === 0) {
    rest /= 1024;
    step += 1;
  }
  return step === 0 ? String(rest) : `${rest}${BINARY_STEPS[step - 1]}`;
}

/** A short figure for people, at most one decimal: `1.5Gi`. Never parsed back. */
export function humanBytes(bytes: number): string {
  let rest = bytes;
  let step = 0;
  while (step < BINARY_STEPS.length && rest >= 1024) {
    rest /= 1024;
    step += 1;
  }
  const figure = rest < 10 && step > 0 ? Math.round(rest * 10) / 10 : Math.round(rest);
  return step === 0 ? `${figure}B` : `${figure}${BINARY_STEPS[step - 1]}`;
}

/**
 * A size as the tools take it, QEMU's way: `2G` and `4096M` are binary, no suffix is bytes; `2GB` and `2GiB` mean
 * the same. Returns a canonical Kubernetes quantity, or undefined where it is no size. Source: qemu-img(1).
 */
export function quantityFromQemuSize(text: string): string | undefined {
  const match = /^([0-9]{1,16})([KMGTPkmgtp]?)(i?)[Bb]?$/.exec(text.trim());
  if (match === null || (match[3] === 'i' && match[2] === '')) return undefined;
  const power = 'KMGTP'.indexOf((match[2] ?? '').toUpperCase()) + 1;
  const bytes = BigInt(match[1] ?? '0') * 1024n ** BigInt(match[2] === '' ? 0 : power);
  return bytes > MAX_BYTES || bytes <= 0n ? undefined : formatQuantity(Number(bytes));
}

/** A byte count in the tools' form: `20G` for 20 GiB; bytes where no suffix divides it. */
export function qemuSize(bytes: number): string {
  return formatQuantity(bytes).replace(/i$/, '');
}
