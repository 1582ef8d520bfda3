/** dry_run: what a call would do, by the store's own rehearsal of its write. Nothing is written. */
import type { Foreseen } from '../../api/foreseen.ts';
import { planDeletion, planObject } from '../../reconcile/plan.ts';
import type { Envelope } from '../envelope.ts';
import { answer, type Call, type ExistingVm } from './request.ts';

export async function rehearse(
  call: Call,
  found: ExistingVm,
  spec: Readonly<Record<string, unknown>>,
): Promise<Envelope> {
  const { vm, host } = found;
  const { uid } = vm.metadata;
  const next = await call.context.store.patch('VirtualMachine', vm.metadata, { spec }, { uid, dryRun: true });
  return planned(call, host.metadata.name, planObject(vm, next, host));
}

export function rehearseDeletion(call: Call, { vm, host }: ExistingVm): Envelope {
  return planned(call, host.metadata.name, planDeletion(vm, host, call.args.keep_disks));
}

export function planned(call: Call, host: string, plan: Foreseen): Envelope {
  const { args, context } = call;
  const { say } = context;
  return answer(call, host, say.planned(args.name, args.action, plan), {
    dry_run: true,
    outcome: plan.outcome,
    process: plan.process,
    changes: plan.changes.map(({ why, detail, ...change }) => ({
      ...change,
      because: why,
      why: say.foreseen(why, detail ?? ''),
    })),
    waiting_for_restart: plan.waiting,
    notes: plan.caveats.map((caveat) => say.caveat(caveat)),
  });
}
