/** Texts that were damaged: by a disk, a crash, a careless copy or a person. */
import fc from 'fast-check';

/** How a text was damaged, for people, and the text as it is then. */
export interface Damage {
  readonly how: string;
  readonly apply: (text: string, another: string) => string;
}

const place = fc.double({ min: 0, max: 0.999, noNaN: true });
const at = (text: string, share: number) => Math.floor(text.length * share);
const damage = (how: string, apply: Damage['apply']): Damage => ({ how, apply });

/** Replaces the first JSON or YAML value after a place. */
function withValue(text: string, share: number, value: string): string {
  const from = at(text, share);
  const match = /(:\s*)("[^"]*"|[\w.-]+)/g;
  match.lastIndex = from;
  const found = match.exec(text) ?? /(:\s*)("[^"]*"|[\w.-]+)/.exec(text);
  if (found === null) return `${text}${value}`;
  const start = found.index + (found[1]?.length ?? 0);
  return text.slice(0, start) + value + text.slice(found.index + found[0].length);
}

export const damages: fc.Arbitrary<Damage> = fc.oneof(
  place.map((share) => damage(`cut at ${share}`, (text) => text.slice(0, at(text, share)))),
  fc.tuple(place, fc.integer({ min: 0, max: 6 })).map(([share, bit]) =>
    damage(`bit ${bit} flipped at ${share}`, (text) => {
      const index = at(text, share);
      return text.slice(0, index) + String.fromCharCode(text.charCodeAt(index) ^ (1 << bit)) + text.slice(index + 1);
    }),
  ),
  fc.constant(damage('another’s text', (_text, another) => another)),
  fc
    .tuple(place, fc.constantFrom('null', 'true', '[]', '{}', '""', '-1', '99999999999999999999', '1e308', '[[1]]'))
    .map(([share, value]) => damage(`${value} at ${share}`, (text) => withValue(text, share, value))),
  fc.constantFrom(100, 50_000).map((depth) => damage(`nested ${depth} deep`, () => '['.repeat(depth))),
  place.map((share) =>
    damage(`zeros from ${share}`, (text) => text.slice(0, at(text, share)).padEnd(text.length, '\0')),
  ),
  fc.string({ unit: 'binary', maxLength: 60 }).map((noise) => damage(`noise ${JSON.stringify(noise)}`, () => noise)),
);
