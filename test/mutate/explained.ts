/**
 * Mutants that no test notices, each with the reason. Most are equivalent: the program does the same. An entry that
 * meets no survivor any more is an error, as is a survivor without an entry.
 */

export interface Explanation {
  readonly file: string;
  /** The line the mutant begins on, trimmed. */
  readonly line: string;
  /** What the mutant replaces and by what; absent: whatever survives on this line. */
  readonly from?: string;
  readonly to?: string;
  readonly why: string;
}

export const EXPLAINED: readonly Explanation[] = [];
