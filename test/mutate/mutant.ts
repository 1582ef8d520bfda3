/** A mutant and what became of it, apart from the tool that made it. */

export interface Mutant {
  readonly file: string;
  /** Counted from 1. */
  readonly line: number;
  /** The line it begins on, trimmed. */
  readonly source: string;
  /** What it replaces, and by what; white space is one blank. */
  readonly from: string;
  readonly to: string;
  readonly fate: 'killed' | 'timeout' | 'survived' | 'uncovered';
}

/** A mutant that ends in an endless loop is noticed too. */
export function isKilled({ fate }: Mutant): boolean {
  return fate === 'killed' || fate === 'timeout';
}

export function oneBlank(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}
