/** Survivors of status. */
import { explain } from './explanation.ts';

export const STATUS = explain('src/reconcile/status.ts', [
  ['const message = findings[0]', 'Equivalent: Ready is always among the findings.'],
  ['return subject.seen.folder?.process', 'Equivalent: whether a pidfile was left is not asked here.', 'false', 'true'],
  ["(decision.reason === 'CrashLoopBackOff'", 'Equivalent: only a wait has that reason.'],
  ['const live =', 'Equivalent: an absent process has no disks.'],
  ['if (ready === undefined)', 'Equivalent: Ready is always among the findings.'],
]);
