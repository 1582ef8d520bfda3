/** patch: a merge patch on an object. */
import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { messageOf } from '../api/errors.ts';
import type { ObjectPatch } from '../store/store.ts';
import { afterChange } from './after-change.ts';
import { type Context, type Declare, examples, type Globals, print, withSession } from './context.ts';
import { valuesIn } from './documents.ts';
import { CliError, EXIT, usageError } from './exit-codes.ts';
import { nameOf, parseTargets, requireObject } from './resources.ts';
import { addWaitOptions, type WaitOptions } from './wait-options.ts';

interface PatchCommandOptions extends Globals, WaitOptions {
  readonly patch?: string;
  readonly patchFile?: string;
  readonly dryRun?: boolean;
}

export const declarePatch: Declare = (command, context) => {
  command
    .argument('<target...>', 'TYPE NAME or TYPE/NAME')
    .option('-p, --patch <patch>', 'the patch, in JSON or YAML; null removes a field, lists are replaced whole')
    .option('--patch-file <path>', 'a file that holds it')
    .addOption(new Option('--type <type>', 'kind of patch').choices(['merge']).default('merge'))
    .option('--dry-run', 'check it, but write nothing');
  addWaitOptions(command, 'wait until it is in force (default: only where no controller runs)');
  command.action(async (words: string[], _options, self: Command) =>
    patch(context, words, self.optsWithGlobals<PatchCommandOptions>()),
  );
  examples(command, [
    ['More memory at the next restart', `patch qvm web-1 -p '{"spec":{"memory":"4Gi"}}'`],
    [
      'The same in YAML, and remove a label',
      `patch qvm web-1 -p '{spec: {memory: 4Gi}, metadata: {labels: {app: null}}}'`,
    ],
  ]);
};

async function patch(context: Context, words: readonly string[], options: PatchCommandOptions): Promise<void> {
  const { targets } = parseTargets(words, options.namespace);
  const [target, ...more] = targets;
  if (target === undefined || more.length > 0) throw usageError('name one object: TYPE NAME or TYPE/NAME');
  const change = parsePatch(patchText(options));
  await withSession(context, options, async (session) => {
    const before = await requireObject(session.store, target);
    const dryRun = options.dryRun === true;
    const after = await session.store.patch(target.kind, target.ref, change, { uid: before.metadata.uid, dryRun });
    const changed = after.metadata.resourceVersion !== before.metadata.resourceVersion;
    print(context, `${nameOf(target)} patched${dryRun ? ' (dry run)' : changed ? '' : ' (no change)'}`);
    if (!dryRun) await afterChange(context, session, [target], options);
  });
}

function patchText({ patch: text, patchFile }: PatchCommandOptions): { source: string; text: string } {
  if (text !== undefined && patchFile === undefined) return { source: 'the patch', text };
  if (text !== undefined || patchFile === undefined)
    throw usageError('must specify --patch or --patch-file, one of them');
  try {
    return { source: patchFile, text: readFileSync(patchFile, 'utf8') };
  } catch (error) {
    throw new CliError(EXIT.failed, messageOf(error));
  }
}

const TOP = ['apiVersion', 'kind', 'metadata', 'spec'];
const METADATA = ['labels', 'annotations', 'finalizers', 'ownerReferences', 'name', 'namespace'];

/** @throws CliError for what a patch may not touch */
export function parsePatch(given: { source: string; text: string }): ObjectPatch {
  const values = valuesIn(given);
  const [value] = values;
  if (values.length !== 1 || !isMap(value))
    throw usageError(`${given.source} must be one map, such as {spec: {vcpus: 4}}`);
  const metadata = value['metadata'] ?? {};
  if (!isMap(metadata)) throw usageError('metadata must be a map');
  const strange = [
    ...Object.keys(value).filter((key) => !TOP.includes(key)),
    ...Object.keys(metadata)
      .filter((key) => !METADATA.includes(key))
      .map((key) => `metadata.${key}`),
  ];
  if (strange.length > 0)
    throw usageError(
      `${strange.join(', ')} cannot be patched: only spec, metadata.labels and metadata.annotations can`,
    );
  return value as ObjectPatch;
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
