/** A manage_vm call: its parameters, and which of them each action takes. */
import { z } from 'zod';
import { quoteValue } from '../../api/errors.ts';
import type { Action } from '../../messages/sentences.ts';
import {
  ARCHITECTURE_WORDS,
  DEFAULT_WAIT_SECONDS,
  hostArguments,
  nameArgument,
  namespaceArgument,
  waitArgument,
} from '../arguments.ts';
import { type Envelope, Refusal, succeeded } from '../envelope.ts';
import type { FoundVm } from '../hosts.ts';
import type { ToolContext } from '../tool.ts';

export const ACTIONS = ['create', 'start', 'stop', 'restart', 'delete', 'modify'] as const satisfies readonly Action[];

export const manageSchema = z.strictObject({
  name: nameArgument(),
  action: z.enum(ACTIONS).describe('create leaves the VM stopped. delete also deletes the disks it made'),
  arch: z.enum(ARCHITECTURE_WORDS).optional().describe('create, required: guest CPU. amd64 = x86_64, aarch64 = arm64'),
  memory: z.string().max(32).optional().describe('create (2G), modify (restarts a running VM): 2G or 4096M, binary'),
  disk: z
    .string()
    .min(1)
    .max(1200)
    .optional()
    .describe(
      'create, modify: "path=/data/vm/disk.qcow2,size=20G". create: absent = 20G qcow2 in the VM folder; an existing file is attached as it is. modify grows the disk of that path (the only one); raw: grow the file first',
    ),
  iso: z
    .string()
    .min(1)
    .max(1024)
    .optional()
    .describe('create: absolute path of an installer ISO on the host, same arch'),
  vcpus: z.int().min(1).max(1024).optional().describe('create (2), modify (restarts a running VM)'),
  vm_dir: z
    .string()
    .min(1)
    .max(1024)
    .optional()
    .describe("create: parent of the VM's folder; absent = the host's (/var/lib/qemu)"),
  ...hostArguments,
  namespace: namespaceArgument(),
  force: z.boolean().optional().describe('stop, delete: power off at once, without asking the guest'),
  keep_disks: z.boolean().optional().describe('delete: keep every disk file'),
  dry_run: z.boolean().optional().describe('Answer what would change, each field live or by a restart; write nothing'),
  wait_seconds: waitArgument(),
});

export type ManageArguments = z.infer<typeof manageSchema>;

const OF_ACTION: Readonly<Record<Action, readonly (keyof ManageArguments)[]>> = {
  create: ['arch', 'memory', 'disk', 'iso', 'vcpus', 'vm_dir'],
  modify: ['memory', 'vcpus', 'disk'],
  start: [],
  restart: [],
  stop: ['force'],
  delete: ['force', 'keep_disks'],
};
const OF_SOME = [...new Set(Object.values(OF_ACTION).flat())];
const OF_ALL = ['name', 'action', 'host', 'namespace', 'dry_run', 'wait_seconds'];

/** A parameter that the action would pass over in silence is refused. @throws Refusal */
export function requireFitting(args: ManageArguments, { say }: ToolContext): void {
  const taken = OF_ACTION[args.action];
  const foreign = OF_SOME.find((field) => args[field] !== undefined && !taken.includes(field));
  if (foreign !== undefined) {
    const allowed = [...taken, ...OF_ALL];
    throw new Refusal(say.argumentNotFor(foreign, args.action, allowed.join(', ')), {
      code: 'InvalidArgument',
      field: foreign,
      value: quoteValue(args[foreign]),
      allowed,
    });
  }
  if (args.action === 'create' && args.arch === undefined) {
    const allowed = ['x86_64', 'arm64'];
    throw new Refusal(say.argumentNeeded('arch', 'create', allowed.join(', ')), {
      code: 'InvalidArgument',
      field: 'arch',
      allowed,
    });
  }
  if (args.action === 'modify' && taken.every((field) => args[field] === undefined)) {
    throw new Refusal(say.nothingAsked(), { code: 'InvalidArgument', allowed: [...taken] });
  }
}

/** One call under way. */
export interface Call {
  readonly args: ManageArguments;
  readonly context: ToolContext;
  /** performance.now() when the answer is due. */
  readonly dueAt: number;
}

export function callOf(args: ManageArguments, context: ToolContext): Call {
  return { args, context, dueAt: performance.now() + (args.wait_seconds ?? DEFAULT_WAIT_SECONDS) * 1000 };
}

export function timeLeft({ dueAt }: Call): number {
  return Math.max(0, dueAt - performance.now());
}

export type ExistingVm = FoundVm;

/** @param host as it was asked for */
export function answer(
  { args }: Call,
  host: string,
  message: string,
  details: Readonly<Record<string, unknown>>,
): Envelope {
  return succeeded(message, { host: args.host ?? host, vm_name: args.name, action: args.action, details });
}
