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
  const { uid, resourceVersion } = vm.metadata;
  try {
    const patch = patchFor(action, vm, vmName);
    const changed = await store.patch('VirtualMachine', vm.metadata, patch, { uid, resourceVersion });
    return action.type === 'release' ? undefined : changed;
  } catch (error) {
    if (action.type === 'release' && error instanceof NotFoundError) return undefined;
    throw error;
  }
}

function patchFor(action: StoreAction, vm: VirtualMachine, vmName: string): ObjectPatch {
  const finalizers = vm.metadata.finalizers ?? [];
  switch (action.type) {
    case 'add-finalizer':
      return {
        metadata: {
          finalizers: [...finalizers, FINALIZERS.hostCleanup],
          labels: { [LABELS.host]: vm.spec.hostName ?? null, [LABELS.vmName]: vmName },
        },
      };
    case 'note-provisioned':
      return { metadata: { annotations: { [ANNOTATIONS.provisioned]: action.value } } };
    case 'remove-adopt':
      return { metadata: { annotations: { [ANNOTATIONS.adopt]: null } } };
    case 'release':
      return { metadata: { finalizers: finalizers.filter((name) => name !== FINALIZERS.hostCleanup) } };
  }
}
