/** From a tools/call to its result: who may call, every error in the one envelope, every call counted. */
import { randomBytes } from 'node:crypto';
import { ApiError, InvalidObjectError, messageOf, oneLine } from '../api/errors.ts';
import { ANNOTATIONS } from '../api/meta.ts';
import type { Sentences } from '../messages/sentences.ts';
import { askedFor } from './arguments.ts';
import { type Envelope, Refusal, refused, type ToolResult, toolResult } from './envelope.ts';
import { LOCALHOST } from './hosts.ts';
import type { Tool, ToolContext } from './tool.ts';

export interface CallOptions {
  readonly readOnly: boolean;
  /** One line about something that should not have happened. */
  readonly log: (line: string) => void;
}

/** Rejects only where the signal aborts: then nobody waits for an answer. */
export async function callTool(
  tool: Tool,
  args: unknown,
  context: ToolContext,
  options: CallOptions,
): Promise<ToolResult> {
  return toolResult(await envelopeOf(tool, args, context, options));
}

async function envelopeOf(tool: Tool, args: unknown, context: ToolContext, options: CallOptions): Promise<Envelope> {
  const asked = askedFor(args, { host: 'host', name: 'vm_name', ...(tool.changes ? { action: 'action' } : {}) });
  try {
    if (options.readOnly && tool.changes) throw new Refusal(context.say.readOnly(), { code: 'ReadOnly' });
    return await tool.run(args, context);
  } catch (error) {
    context.signal.throwIfAborted();
    const refusal = refusalOf(error, context.say, { name: asked['vm_name'] ?? '', ...options });
    return refused(refusal, { ...(await defaultHost(context)), ...asked });
  }
}

/** The host that is meant where none is named; nothing where there is none of that name, or no store to ask. */
async function defaultHost({ store }: ToolContext): Promise<{ readonly host?: string }> {
  const found = await store.get('Host', { name: LOCALHOST }).catch(() => undefined);
  return found === undefined ? {} : { host: LOCALHOST };
}

function refusalOf(
  error: unknown,
  say: Sentences,
  { name, log }: { readonly name: string; readonly log: (line: string) => void },
): Refusal {
  if (error instanceof Refusal) return error;
  if (error instanceof InvalidObjectError) return invalid(error, say);
  if (error instanceof ApiError) {
    switch (error.reason) {
      case 'Conflict':
        return new Refusal(say.conflict(name), { code: 'Conflict' });
      case 'Forbidden':
        // The annotation, or a right that the message names.
        return error.message.includes(ANNOTATIONS.protected)
          ? new Refusal(say.protectedVm(name), { code: 'Protected', field: 'name' })
          : new Refusal(messageOf(error), { code: 'Forbidden' });
      case 'ServiceUnavailable':
        return new Refusal(say.storeUnavailable(messageOf(error)), { code: 'ServiceUnavailable' });
      default:
        return new Refusal(messageOf(error), { code: error.reason });
    }
  }
  const id = randomBytes(4).toString('hex');
  log(`error ${id}: ${oneLine(error instanceof Error ? (error.stack ?? error.message) : String(error), 4000)}`);
  return new Refusal(say.internal(id), { code: 'InternalError' });
}

/** Which parameter a field of the object comes from. */
const PARAMETERS: readonly (readonly [RegExp, string])[] = [
  [/^spec\.memory/, 'memory'],
  [/^spec\.vcpus/, 'vcpus'],
  [/^spec\.disks/, 'disk'],
  [/^spec\.cdroms/, 'iso'],
  [/^spec\.vmDir/, 'vm_dir'],
  [/^metadata\.namespace/, 'namespace'],
  [/^(metadata\.name|spec\.vmName)/, 'name'],
];

function invalid(error: InvalidObjectError, say: Sentences): Refusal {
  const [issue] = error.issues;
  if (issue === undefined) return new Refusal(messageOf(error), { code: 'InvalidArgument' });
  const field = PARAMETERS.find(([pattern]) => pattern.test(issue.field))?.[1] ?? issue.field;
  const allowed = issue.message.replace(/^must be /, '');
  const value = issue.value ?? '';
  return new Refusal(say.wrongForm({ field, value, allowed }), {
    code: 'InvalidArgument',
    field,
    value: issue.value,
    allowed: [allowed],
  });
}
