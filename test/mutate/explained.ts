/**
 * Mutants that no test notices, each with the reason. Most are equivalent: the program does the same. An entry that
 * meets no survivor any more is an error, as is a survivor without an entry.
 */
import { DECIDE } from './explained-decide.ts';
import { QUANTITY } from './explained-quantity.ts';
import { STATUS } from './explained-status.ts';
import { STORE_SURVIVORS } from './explained-store.ts';
import { type Explanation, explain } from './explanation.ts';

const CMDLINE = explain('src/qemu/cmdline.ts', [
  [
    'return folder !== undefined',
    'Equivalent: no process has the words of a folder without a name.',
    'folder !== undefined',
    'true',
  ],
]);

export const EXPLAINED: readonly Explanation[] = [...CMDLINE, ...QUANTITY, ...STORE_SURVIVORS, ...DECIDE, ...STATUS];
