/**
 * Mutants that no test notices, each with the reason. Most are equivalent: the program does the same. An entry that
 * meets no survivor any more is an error, as is a survivor without an entry.
 */
import { QUANTITY } from './explained-quantity.ts';
import type { Explanation } from './explanation.ts';

export const EXPLAINED: readonly Explanation[] = [...QUANTITY];
