/** Why no test notices a mutant. */

export interface Explanation {
  readonly file: string;
  /** How the line begins on which the mutant begins; absent: any. */
  readonly line?: string;
  /** What the mutant replaces and by what; absent: anything. */
  readonly from?: string;
  readonly to?: string;
  readonly why: string;
}

/** Of one file: a line with what survives on it, and why. */
export type Said = readonly [line: string, why: string, from?: string, to?: string];

export function explain(file: string, said: readonly Said[]): Explanation[] {
  return said.map(([line, why, from, to]) => ({
    file,
    line,
    why,
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
  }));
}
