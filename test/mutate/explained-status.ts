/** Survivors of status. */
import { explain } from './explanation.ts';

const WHOLE = explain('src/reconcile/status.ts', [
  ['const message = findings[0]', 'Equivalent: Ready is always among the findings.'],
  ['return subject.seen.folder?.process', 'Equivalent: whether a pidfile was left is not asked here.', 'false', 'true'],
  ["(decision.reason === 'CrashLoopBackOff'", 'Equivalent: only a wait has that reason.'],
  ['const live =', 'Equivalent: an absent process has no disks.'],
]);

const GUEST = explain('src/reconcile/guest-status.ts', [
  ['const agent = process.kind', 'Equivalent: an absent process has no agent.', "process.kind === 'present'", 'true'],
  [
    'const unasked =',
    'Equivalent: of an absent process neither guest nor interfaces are told.',
    "process.kind === 'present'",
    'true',
  ],
  ['const earlier =', 'Equivalent: what has no addresses adds none.', '[]', '["Stryker was here"]'],
  [
    'return new Map([...earlier',
    'Equivalent: an absent process has no addresses.',
    "process.kind === 'present'",
    'true',
  ],
  [
    "return process.kind === 'present' ? toldOf",
    'Equivalent: an absent process has no agent.',
    "process.kind === 'present'",
    'true',
  ],
]);

export const STATUS = [...WHOLE, ...GUEST];
