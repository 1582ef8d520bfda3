/** Checks on a terminal: a line each, and below it how to mend what is not well. */
import type { Check } from '../doctor/check.ts';
import { type Context, print } from './context.ts';
import { EXIT } from './exit-codes.ts';
import { jsonText } from './output.ts';
import { Table } from './table.ts';

export type ChecksFormat = 'text' | 'json';

export function printChecks(context: Context, checks: readonly Check[], format: ChecksFormat): void {
  if (format === 'json') {
    context.stdout.write(jsonText({ checks }));
    return;
  }
  const lines = new Table().lines(checks.map(({ state, id, message }) => [state, id, message]));
  for (const [i, { mend }] of checks.entries()) {
    print(context, lines[i] ?? '');
    if (mend !== undefined) print(context, `           -> ${mend}`);
  }
  const count = (state: Check['state']) => checks.filter((check) => check.state === state).length;
  print(context, `${count('ok')} ok, ${count('warning')} warnings, ${count('problem')} problems`);
}

/** What a script reads: failed where something does not work. */
export function exitOf(checks: readonly Check[]): number {
  return checks.some(({ state }) => state === 'problem') ? EXIT.failed : EXIT.done;
}
