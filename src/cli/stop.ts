import { type Declare, examples } from './context.ts';
import { declareVerb, FORCE_STOP, STOP } from './power.ts';

export const declareStop: Declare = (command, context) => {
  command.option('--force', 'switch it off at once, without asking its guest');
  declareVerb(command, context, ({ force }) => (force === true ? FORCE_STOP : STOP));
  examples(command, [
    ['Ask the guest to power off, and switch it off after its grace period', 'stop web-1'],
    ['Switch it off at once', 'stop web-1 --force'],
  ]);
};
