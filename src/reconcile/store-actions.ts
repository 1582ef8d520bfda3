/** The steps that change the object itself. Each carries the uid, so that a re-created object is never touched by a decision about its predecessor. */
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
  // Finalizers are a list, replaced whole: another's change in between must not be lost.
  const listed = action.type === 'add-finalizer' || action.type === 'release';
  try {
    const patch = patchFor(action, vm, vmName);
    const changed = await store.patch(
      'VirtualMachine',
      vm.metadata,
      patch,
      listed ? { uid, resourceVersion } : { uid },
    );
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
