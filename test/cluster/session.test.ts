/** `npm run cluster`, and the session of the README in it, word for word. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { processesNaming } from '../e2e/support/process.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const SESSION = join(import.meta.dirname, 'session', 'session.ts');
/** Between what a command prints and the next command. */
const MARK = '@@@@';

interface Step {
  readonly command: string;
  readonly output: string;
}

function stepsOf(readme: string): Step[] {
  const [, block = ''] = /```console\n([\s\S]*?)```/.exec(readme) ?? [];
  return block
    .split(/^\$ /m)
    .slice(1)
    .map((step) => {
      const [command = '', ...output] = step.split('\n');
      return { command, output: output.join('\n') };
    });
}

/** Ages and the size of the machine are its own. */
const plain = (text: string) => text.replaceAll(/\d+/g, 'N').replaceAll(/ +/g, ' ').trim();

test('the session of the README is true word for word, and leaves nothing', async () => {
  const steps = stepsOf(readFileSync(join(ROOT, 'README.md'), 'utf8'));
  expect(steps.length).toBeGreaterThan(5);
  const script = `pwd\n${steps.map(({ command }) => `echo ${MARK}\n${command}`).join('\n')}`;
  const { stdout } = await promisify(execFile)(process.execPath, [SESSION, 'bash', '-ec', script]);
  const [folder = '', ...printed] = stdout.split(`${MARK}\n`);
  expect(printed.map(plain)).toEqual(steps.map(({ output }) => plain(output)));
  expect(processesNaming(folder.trim())).toEqual([]);
});
