/** Script and arguments as one text for `sh -s`, which may be cut anywhere on its way. */
import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { scriptWithArguments } from '../../src/host/quote.ts';

const run = (input: string) => spawnSync('/bin/sh', ['-s'], { input, encoding: 'utf8', timeout: 5_000 });

test('arguments arrive as they are, and the exit code is the script’s', () => {
  const args = ['', 'a b', "it's", '$HOME `id` \\', 'two\nlines', '-n', 'ü'];
  const { stdout, status } = run(
    scriptWithArguments('for one in "$@"; do printf "%s\\0" "$one"; done; return 7', args),
  );
  expect([stdout.split('\0').slice(0, -1), status]).toEqual([args, 7]);
});

test('a text that was cut on its way runs nothing, wherever it was cut', () => {
  const text = scriptWithArguments('echo "ran with $#"', ['one', 'two words', 'three']);
  const cuts = Array.from({ length: text.length - 1 }, (_, length) => run(text.slice(0, length)).stdout);
  expect([cuts.filter((said) => said !== ''), run(text).stdout]).toEqual([[], 'ran with 3\n']);
});
