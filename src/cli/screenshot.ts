/** screenshot: what a guest draws, as a PNG file. */
import { closeSync, openSync, readSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Command } from 'commander';
import { PNG_SIGNATURE } from '../streams/png.ts';
import {
  type Context,
  type Declare,
  examples,
  type Globals,
  tell,
  throwIfInterrupted,
  withSession,
} from './context.ts';
import { CliError, EXIT, usageError } from './exit-codes.ts';
import { placeOf } from './place.ts';

interface ScreenshotOptions extends Globals {
  readonly output?: string;
}

const STDOUT = '-';

export const declareScreenshot: Declare = (command, context) => {
  command
    .argument('<name>', 'name of the virtual machine')
    .option('-o, --output <file>', 'PNG file, or - for stdout (default: stdout, where it is no terminal)')
    .action(async (name: string, _options, self: Command) =>
      capture(context, name, self.optsWithGlobals<ScreenshotOptions>()),
    );
  examples(command, [
    ['What web-1 draws now', 'screenshot web-1 -o web-1.png'],
    ['To another program', 'screenshot web-1 | display'],
  ]);
};

async function capture(context: Context, name: string, options: ScreenshotOptions): Promise<void> {
  const { output = STDOUT, namespace } = options;
  if (output !== STDOUT) refuseForeign(output);
  else if (context.stdout.isTTY === true) throw usageError('a picture is no text for a terminal: name a file, -o FILE');
  await withSession(context, options, async (session) => {
    const { streams } = await placeOf(session, name, namespace);
    const picture = await streams.screenshot(context.signal).catch((error: unknown) => {
      throwIfInterrupted(context);
      throw error;
    });
    if (output === STDOUT) context.stdout.write(picture);
    else {
      save(output, picture);
      tell(context, `${output}: what ${name} drew (${picture.length} bytes)`);
    }
  });
}

/** An earlier picture may be replaced; what is anything else was meant otherwise. */
function refuseForeign(file: string): void {
  const found = statSync(file, { throwIfNoEntry: false });
  if (found === undefined) {
    if (statSync(dirname(file), { throwIfNoEntry: false })?.isDirectory() === true) return;
    throw new CliError(EXIT.failed, `${dirname(file)} is no folder`);
  }
  if (found.isFile() && (found.size === 0 || isPng(file))) return;
  throw new CliError(EXIT.failed, `${file} exists and is no PNG picture: it is not overwritten`);
}

function isPng(file: string): boolean {
  const head = Buffer.alloc(PNG_SIGNATURE.length);
  const descriptor = openSync(file, 'r');
  try {
    readSync(descriptor, head, 0, head.length, 0);
  } finally {
    closeSync(descriptor);
  }
  return head.equals(PNG_SIGNATURE);
}

/** Whole or not at all. */
function save(file: string, picture: Buffer): void {
  const partial = `${file}.${process.pid}.partial`;
  try {
    writeFileSync(partial, picture, { flag: 'wx' });
    renameSync(partial, file);
  } catch (error) {
    rmSync(partial, { force: true });
    throw new CliError(EXIT.failed, error instanceof Error ? error.message : String(error));
  }
}
