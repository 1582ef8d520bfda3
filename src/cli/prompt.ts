/** A question on the terminal whose answer is not shown. */
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import type { Context } from './context.ts';
import { InterruptedError, usageError } from './exit-codes.ts';

function nowhere(): Writable {
  return new Writable({ write: (_chunk, _encoding, done) => done() });
}

/** A question whose answer is shown while it is typed. @throws InterruptedError at Ctrl-C */
export async function promptLine({ stdin, stderr }: Context, question: string): Promise<string> {
  const editor = createInterface({ input: stdin, output: stderr, terminal: true, historySize: 0 });
  try {
    return await new Promise<string>((resolve, reject) => {
      editor.once('SIGINT', () => reject(new InterruptedError('SIGINT')));
      editor.once('close', () => reject(usageError('nothing was typed')));
      editor.question(question, resolve);
    });
  } finally {
    editor.close();
  }
}

/** One line, without its end. @throws InterruptedError at Ctrl-C */
export async function promptHidden({ stdin, stderr }: Context, question: string): Promise<Buffer> {
  // The line editor echoes to its output alone: that is nowhere. It begins before anybody is asked to type.
  const editor = createInterface({ input: stdin, output: nowhere(), terminal: true, historySize: 0 });
  stderr.write(question);
  try {
    return await new Promise<Buffer>((resolve, reject) => {
      editor.once('line', (line) => resolve(Buffer.from(line, 'utf8')));
      editor.once('SIGINT', () => reject(new InterruptedError('SIGINT')));
      editor.once('close', () => reject(usageError('nothing was typed')));
    });
  } finally {
    editor.close();
    stderr.write('\n');
  }
}
