import { type Declare, examples } from './context.ts';
import { declareVerb, START } from './power.ts';

export const declareStart: Declare = (command, context) => {
  declareVerb(command, context, () => START);
  examples(command, [
    ['Start web-1 and wait until its guest runs', 'start web-1'],
    ['Start two machines of a namespace, without waiting', 'start db-1 db-2 -n prod --no-wait'],
  ]);
};
