/** Words of a command line as a person may read them and paste them into a shell. Pure. */

/** Control characters, and what reorders or separates the line that a reader sees. */
const INVISIBLE =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\p{Cs}/u;

/** Bare where it can be, else in single quotes; with bytes that no terminal should see, in bash's `$'...'`. */
export function shellWord(text: string): string {
  if (/^[\w@%+=:,./-]+$/.test(text)) return text;
  if (!INVISIBLE.test(text)) return `'${text.replaceAll("'", "'\\''")}'`;
  const escaped = [...text].map((character) => {
    if (character === "'" || character === '\\') return `\\${character}`;
    if (!INVISIBLE.test(character)) return character;
    return [...Buffer.from(character)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
  });
  return `$'${escaped.join('')}'`;
}

/** One option with its values per line, joined by backslashes: all of it can be pasted. */
export function commandLines(argv: readonly string[]): string[] {
  const lines: string[] = [];
  for (const word of argv) {
    const last = lines.at(-1);
    if (last === undefined || word.startsWith('-')) lines.push(shellWord(word));
    else lines[lines.length - 1] = `${last} ${shellWord(word)}`;
  }
  return lines.map((line, i) => `${i === 0 ? '' : '  '}${line}${i === lines.length - 1 ? '' : ' \\'}`);
}
