/** host remove: deletes a Host and, once it is gone, the Secret that was its own. */
import { ANNOTATIONS } from '../api/meta.ts';
import { forgetCredentials } from '../store/host-credentials.ts';
import { type Context, type Globals, tell, withSession } from './context.ts';
import { deleteAndWait } from './delete.ts';
import { requireObject } from './resources.ts';
import type { Session } from './session.ts';
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
    const secret = host.spec.ssh?.credentialsSecretRef?.name;
    if (secret !== undefined && (await store.get('Host', { name })) === undefined) await forget(session, secret);
  });
}

/** A Secret may serve several Hosts. */
async function forget({ store, secrets }: Session, name: string): Promise<void> {
  const { items } = await store.list('Host');
  if (items.some(({ spec }) => spec.ssh?.credentialsSecretRef?.name === name)) return;
  await forgetCredentials(secrets, name);
}
