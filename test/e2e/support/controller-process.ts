/**
 * A controller as a process of its own, on a file store: `node controller-process.ts STORE VMDIR`.
 * Says `here` or `elsewhere` as the loop starts, and `here` once more when it takes over.
 */
import { openSession } from '../../../src/runtime.ts';

const [store = '', vmDir = ''] = process.argv.slice(2);
const say = (word: string) => process.stdout.write(`${word}\n`);

const session = await openSession({ store, vmDir });
session.loop.onEvent((event) => {
  if (event.type === 'action') say(`action ${event.vm} ${event.action.type}`);
});
const started = session.loop.start();
say(started);
if (started === 'elsewhere') await session.loop.standBy(new AbortController().signal, () => say('here'));
setInterval(() => undefined, 60_000);
