/** host remove: deletes a Host and, once it is gone, the Secret that was made with it. */
import { ANNOTATIONS } from '../api/meta.ts';
import { forgetOwnCredentials } from '../store/host-credentials.ts';
import { type Context, type Globals, tell, withSession } from './context.ts';
import { deleteAndWait } from './delete.ts';
import { requireObject } from './resources.ts';
import type { WaitOptions } from './wait-options.ts';

export interface RemoveOptions extends Globals, WaitOptions {
  readonly orphan?: boolean;
}

export async function removeHost(context: Context, name: string, options: RemoveOptions): Promise<void> {
  await withSession(context, options, async (session) => {
    const { store } = session;
    const host = await requireObject(store, { kind: 'Host', ref: { name } });
    const { items } = await store.list('VirtualMachine');
    const here = items.filter(({ spec }) => spec.hostName === name).map(({ metadata }) => metadata.name);
    if (here.length > 0)
      tell(context, `host/${name} takes no new machines, and goes with the last of: ${here.join(', ')}`);
    if (options.orphan === true) {
      const annotations = { [ANNOTATIONS.orphan]: 'true' };
      await store.patch('Host', host.metadata, { metadata: { annotations } }, { uid: host.metadata.uid });
    }
    await deleteAndWait(context, session, [{ kind: 'Host', ref: { name } }], options);
    // The controller does the same where this ends before the Host is gone.
    await forgetOwnCredentials(session, name);
  });
}
