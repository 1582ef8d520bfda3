import { type Declare, examples } from './context.ts';
import { declareVerb, RESTART } from './power.ts';

export const declareRestart: Declare = (command, context) => {
  declareVerb(command, context, () => RESTART);
  examples(command, [
    ['Restart web-1, which also applies changes that wait for a restart', 'restart web-1'],
    ['Wait two minutes at most', 'restart web-1 --timeout 2m'],
  ]);
};
