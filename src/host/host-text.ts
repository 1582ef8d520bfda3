/** What a host says, as part of a sentence of ours. */

const MAX_LENGTH = 200;

/** One printable line, bounded: a host can say whatever it likes. */
export function hostText(text: string): string {
  const line = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ').trim();
  return line.length <= MAX_LENGTH ? line : `${line.slice(0, MAX_LENGTH).toWellFormed()}…`;
}
