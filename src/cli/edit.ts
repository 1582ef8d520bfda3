/** edit: the object in the person's editor; what was changed there is patched, what is refused comes back. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { Command } from 'commander';
import { parseManifest } from '../api/admission.ts';
import { InvalidObjectError } from '../api/errors.ts';
import type { AnyObject } from '../api/kinds.ts';
import type { ObjectPatch } from '../store/store.ts';
import { afterChange } from './after-change.ts';
import { type Context, type Declare, examples, type Globals, print, tell, withSession } from './context.ts';
import { differenceOf } from './difference.ts';
import { valuesIn } from './documents.ts';
import { CliError, EXIT, sentenceOf, usageError } from './exit-codes.ts';
import { yamlText } from './output.ts';
import { nameOf, parseTargets, requireObject, type Target } from './resources.ts';
import type { Session } from './session.ts';
import { addWaitOptions, type WaitOptions } from './wait-options.ts';

export const declareEdit: Declare = (command, context) => {
  command.argument('<target...>', 'TYPE NAME or TYPE/NAME');
  addWaitOptions(command, 'wait until it is in force (default: only where no controller runs)');
  command.action(async (words: string[], _options, self: Command) => {
    const options = self.optsWithGlobals<Globals & WaitOptions>();
    const [target, ...more] = parseTargets(words, options.namespace).targets;
    if (target === undefined || more.length > 0) throw usageError('name one object: TYPE NAME or TYPE/NAME');
    await withSession(context, options, async (session) => {
      if (await edit(context, session, target)) await afterChange(context, session, [target], options);
    });
  });
  examples(command, [
    ['With the editor of $VISUAL or $EDITOR, else vi', 'edit qvm web-1'],
    ['With another one', 'EDITOR=nano qemu-operator edit qvm web-1'],
  ]);
};

const HEADER = `# Save and leave the editor to apply what you changed; an empty file cancels.
# status and what the store fills in are shown to read: changes there are ignored.
`;

/** Returns whether something was changed. */
async function edit(context: Context, session: Session, target: Target): Promise<boolean> {
  const object = await requireObject(session.store, target);
  const folder = mkdtempSync(join(tmpdir(), 'qemu-operator-edit-'));
  const path = join(folder, `${target.ref.name}.yaml`);
  const original = yamlText(object);
  let text = HEADER + original;
  let refusal: unknown;
  let keep = false;
  try {
    for (;;) {
      const before = text;
      writeFileSync(path, text, { mode: 0o600 });
      await runEditor(context, path);
      text = readFileSync(path, 'utf8');
      const said = withoutComments(text);
      const asBefore = said === withoutComments(before);
      if (said.trim() === '' || said === original || asBefore) {
        if (refusal === undefined || !asBefore) return cancelled(context);
        keep = true;
        throw unsaved(refusal, path);
      }
      try {
        return await write(context, session, object, text);
      } catch (error) {
        if (!isRefusal(error)) {
          keep = true;
          tell(context, keptWords(path));
          throw error;
        }
        refusal = error;
        text = `${HEADER}${commented(sentenceOf(error))}${withoutComments(text)}`;
      }
    }
  } finally {
    if (!keep) rmSync(folder, { recursive: true, force: true });
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof InvalidObjectError || error instanceof CliError;
}

/** What was typed is not lost because it was refused. */
function unsaved(refusal: unknown, path: string): CliError {
  const why = sentenceOf(refusal).replace(/^error: /, '');
  return new CliError(EXIT.failed, `${why}\nEdit cancelled, no valid changes were saved. ${keptWords(path)}`);
}

function keptWords(path: string): string {
  return `A copy of your changes is in ${path}`;
}

function cancelled(context: Context): boolean {
  tell(context, 'Edit cancelled, no changes made.');
  return false;
}

async function write(context: Context, { store }: Session, object: AnyObject, text: string): Promise<boolean> {
  const values = valuesIn({ source: 'the edited object', text });
  const [value] = values;
  if (values.length !== 1) throw new CliError(EXIT.failed, 'the edited file must hold one object');
  const { kind, metadata } = parseManifest(value);
  const target = { kind: object.kind, ref: object.metadata };
  if (kind !== object.kind || metadata.name !== object.metadata.name)
    throw new CliError(EXIT.failed, 'kind and metadata.name cannot be changed: apply another object instead');
  const patch = patchBetween(object, value as AnyObject);
  if (isDeepStrictEqual(patch, {})) return cancelled(context);
  await store.patch(object.kind, object.metadata, patch, { uid: object.metadata.uid });
  print(context, `${nameOf(target)} edited`);
  return true;
}

/** What the person changed, and nothing else: the controller may have written in the meantime. */
export function patchBetween(before: AnyObject, after: AnyObject): ObjectPatch {
  const spec = differenceOf(before.spec, after.spec);
  const labels = differenceOf(before.metadata.labels ?? {}, after.metadata.labels ?? {});
  const annotations = differenceOf(before.metadata.annotations ?? {}, after.metadata.annotations ?? {});
  const metadata = { ...(labels && { labels }), ...(annotations && { annotations }) };
  return {
    ...(spec && { spec }),
    ...(Object.keys(metadata).length > 0 && { metadata: metadata as NonNullable<ObjectPatch['metadata']> }),
  };
}

async function runEditor({ env, runProgram, signal }: Context, path: string): Promise<void> {
  const editor = env['VISUAL'] || env['EDITOR'] || 'vi';
  // Through the shell: an editor may be a command with arguments.
  const { code } = await runProgram('/bin/sh', ['-c', `${editor} "$1"`, 'edit', path], { as: 'terminal', signal });
  if (code !== 0) throw new Error(`the editor (${editor}) ended with code ${code}`);
}

function commented(message: string): string {
  return `#\n${message
    .split('\n')
    .map((line) => `# ${line}\n`)
    .join('')}#\n`;
}

/** What the text says: an editor that changes a comment alone, such as a refusal in it, has changed nothing. */
function withoutComments(text: string): string {
  return text.replace(/^#.*\n?/gm, '');
}
