/** What cannot be seen for now, and what only a person or another spec mends. */
import { expect, test } from 'vitest';
import type { Reason } from '../../src/api/conditions.ts';
import type { VmDirDecision } from '../../src/reconcile/decide-host.ts';
import type { View } from '../../src/reconcile/host-view.ts';
import { whyUnseen } from '../../src/reconcile/unseen.ts';
import { type Given, someHost, subject } from '../fakes/subjects.ts';

function unseen(reason: Reason, given: Given) {
  const { vm } = subject(given);
  const host = someHost();
  const verdict: VmDirDecision = { kind: 'blocked', reason, condition: 'VMDirReady', message: 'why' };
  const verdicts = new Map([[vm.spec.vmDir ?? host.spec.vmDir, verdict]]);
  return whyUnseen(vm, { host, look: { kind: 'seen' }, verdicts } as unknown as View, undefined)?.hostKnown;
}

const OWN = { spec: { vmDir: '/data/own' } };
const NEW = { ...OWN, metadata: { annotations: {} } };

test.each<[string, Reason, Given, boolean]>([
  ['the vmDir of the Host is gone', 'VMDirMissing', { metadata: { annotations: {} } }, true],
  ['a vmDir that never was, of this VM alone', 'VMDirMissing', NEW, false],
  ['one that another store has', 'ClaimedByAnother', NEW, false],
  ['one where its disks lie', 'VMDirMissing', OWN, true],
  ['the host fell silent', 'HostNotReady', NEW, true],
  ['one that is not allowed', 'PathNotAllowed', OWN, false],
])('%s (%s): whether waiting may help', (_title, reason, given, waiting) => {
  expect(unseen(reason, given)).toBe(waiting);
});
