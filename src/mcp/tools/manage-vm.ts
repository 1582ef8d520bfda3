/** manage_vm: the life of a VM. It edits the object and waits until the loop has seen the change on the host. */
import type { Action } from '../../messages/sentences.ts';
import { parseArguments, publishedSchema } from '../arguments.ts';
import { type Envelope, Refusal } from '../envelope.ts';
import { vmFor } from '../hosts.ts';
import { create } from '../manage/create.ts';
import { remove } from '../manage/delete.ts';
import { modify } from '../manage/modify.ts';
import { restart, start, stop } from '../manage/power.ts';
import { type Call, callOf, type ExistingVm, manageSchema, requireFitting } from '../manage/request.ts';
import { outputSchema } from '../output-schema.ts';
import type { Tool, ToolContext } from '../tool.ts';

const ON_EXISTING: Readonly<Record<Exclude<Action, 'create'>, (call: Call, vm: ExistingVm) => Promise<Envelope>>> = {
  start,
  stop,
  restart,
  delete: remove,
  modify,
};

export const manageVm: Tool = {
  changes: true,
  definition: {
    name: 'manage_vm',
    title: 'Manage a VM',
    description:
      'Create, start, stop, restart, delete or modify one QEMU VM. Answers when the change was seen on the host, or after wait_seconds with details.completed=false: then follow details.next_call.',
    inputSchema: publishedSchema(manageSchema),
    outputSchema: outputSchema({
      host: 'string',
      vm_name: 'string',
      action: 'string',
      details: 'object',
      error: 'object',
    }),
    annotations: {
      title: 'Manage a VM',
      readOnlyHint: false,
      destructiveHint: true,
      idempotentHint: false,
      openWorldHint: false,
    },
  },
  async run(input: unknown, context: ToolContext): Promise<Envelope> {
    const args = parseArguments(manageSchema, input, context.say);
    requireFitting(args, context);
    const call = callOf(args, context);
    if (args.action === 'create') return create(call);
    if (args.action === 'delete' && context.noDelete) {
      throw new Refusal(context.say.deleteNotAllowed(), {
        code: 'DeleteNotAllowed',
        field: 'action',
        value: '"delete"',
      });
    }
    const found = await vmFor(context, args.name, args);
    if (found.vm.metadata.deletionTimestamp !== undefined && args.action !== 'delete') {
      throw new Refusal(context.say.beingDeleted(args.name), { code: 'Terminating', field: 'name' });
    }
    return ON_EXISTING[args.action](call, found);
  },
};
