/** --wait, --no-wait and --timeout, which every command that changes something takes. */
import { type Command, Option } from 'commander';
import { parseDuration } from './duration.ts';

export interface WaitOptions {
  /** Absent where it was not said. */
  readonly wait?: boolean | undefined;
  /** ms. */
  readonly timeout: number;
}

const DEFAULT_TIMEOUT = '5m';

export function addWaitOptions(command: Command, what: string): void {
  command
    .addOption(new Option('--wait', what))
    .addOption(new Option('--no-wait', 'do not wait, as --wait=false'))
    .addOption(
      new Option('--timeout <time>', 'how long to wait, such as 90s, 2m or 1h')
        .default(parseDuration(DEFAULT_TIMEOUT), DEFAULT_TIMEOUT)
        .argParser(parseDuration),
    );
  // commander would take the presence of --no-wait as the default true.
  command.setOptionValueWithSource('wait', undefined, 'default');
}
