/** The steps that change the object itself. Each is of the object as it was decided on: neither another's change in between is lost, nor a re-created object touched. */
import { NotFoundError } from '../api/errors.ts';
import { ANNOTATIONS, FINALIZERS, LABELS } from '../api/meta.ts';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { ObjectPatch, Store } from '../store/store.ts';
import type { StoreAction } from './action.ts';

/** Resolves to the object as it is then; undefined where it is gone, or as good as. */
export async function applyStoreAction(
  store: Store,
  action: StoreAction,
  vm: VirtualMachine,
  vmName: string,
): Promise<VirtualMachine | undefined> {
  try {
    const changed = await write(store, action, vm, vmName);
    return action.type === 'release' ? undefined : changed;
  } catch (error) {
    if (action.type === 'release' && error instanceof NotFoundError) return undefined;
    throw error;
  }
}

function write(
  store: Store,
  action: StoreAction,
  { metadata, spec: { hostName } }: VirtualMachine,
  vmName: string,
): Promise<VirtualMachine> {
  const { uid, resourceVersion, finalizers = [] } = metadata;
  const patch = (change: NonNullable<ObjectPatch['metadata']>) =>
    store.patch('VirtualMachine', metadata, { metadata: change }, { uid, resourceVersion });
  switch (action.type) {
    case 'add-finalizer': {
      const labels = { ...(hostName !== undefined && { [LABELS.host]: hostName }), [LABELS.vmName]: vmName };
      return store.hold('VirtualMachine', metadata, { finalizer: FINALIZERS.hostCleanup, labels }, { uid });
    }
    case 'note-provisioned':
      return patch({ annotations: { [ANNOTATIONS.provisioned]: action.value } });
    case 'remove-adopt':
      return patch({ annotations: { [ANNOTATIONS.adopt]: null } });
    case 'release':
      return patch({ finalizers: finalizers.filter((name) => name !== FINALIZERS.hostCleanup) });
  }
}
