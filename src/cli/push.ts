/** push and pull: Hosts with their machines between this folder and a cluster. */
import { type Command, Option } from 'commander';
import { type Context, type Declare, examples, type Globals, requireFolder, withSession } from './context.ts';
import { parseDuration } from './duration.ts';
import { type MoveOptions, move } from './move.ts';
import { KUBERNETES, type Session } from './session.ts';

type Options = Globals & MoveOptions;

const DEFAULT_TIMEOUT = '2m';

export const declarePush: Declare = (command, context) => {
  addOptions(command, context, 'in the cluster', (folder, cluster) => ({ from: folder, to: cluster }));
  examples(command, [
    ['What would move', 'push rack1 --context prod --dry-run'],
    ['Host rack1 and its machines, as they run', 'push rack1 --context prod'],
    ['This machine, which the cluster knows as box1', 'push localhost --as box1 --context prod'],
  ]);
};

export const declarePull: Declare = (command, context) => {
  addOptions(command, context, 'in the folder', (folder, cluster) => ({ from: cluster, to: folder }));
  examples(command, [
    ['Host rack1 and its machines, as they run', 'pull rack1 --context prod'],
    ['Back to the machine itself', 'pull box1 --as localhost --context prod'],
  ]);
};

function addOptions(
  command: Command,
  context: Context,
  where: string,
  sidesOf: (folder: Session, cluster: Session) => { readonly from: Session; readonly to: Session },
): void {
  command
    .argument('[host...]', 'names of Hosts; all machines of a Host go with it')
    .option('--all', 'all Hosts')
    .option('--as <name>', `name of the Host ${where} (default: the same)`)
    .option('--dry-run', 'check everything and say what would move, but write nothing')
    .addOption(
      new Option('--timeout <time>', 'how long the taking over may last, and again the release')
        .default(parseDuration(DEFAULT_TIMEOUT), DEFAULT_TIMEOUT)
        .argParser(parseDuration),
    )
    .action(async (names: string[], _options, self: Command) => {
      const options = self.optsWithGlobals<Options>();
      await requireFolder(context, options);
      await withSession(context, options, (folder) =>
        withSession(context, { ...options, store: KUBERNETES }, (cluster) =>
          move(context, sidesOf(folder, cluster), names, options),
        ),
      );
    });
}
