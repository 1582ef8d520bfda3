/** What the passes of a loop say of its VMs, in their status. */
import type { SchedulerLike } from 'rxjs';
import type { VirtualMachine } from '../api/virtual-machine.ts';
import type { ObjectProblem, Store } from '../store/store.ts';
import type { Action } from './action.ts';
import { type Pass, statusOf } from './status.ts';
import { isOutdated, writeStatus } from './status-writer.ts';

/** A step that takes longer is told while it lasts. */
const TOLD_AFTER_MS = 1_000;

export interface VmNotesOptions {
  readonly store: Store;
  readonly scheduler: SchedulerLike;
  /** What is wrong with where the VM comes from. */
  readonly problemOf: (vm: VirtualMachine) => ObjectProblem | undefined;
  readonly onFailure: (vm: VirtualMachine, error: unknown) => void;
}

export class VmNotes {
  readonly #options: VmNotesOptions;

  constructor(options: VmNotesOptions) {
    this.#options = options;
  }

  /** Resolves to the VM as it is then; undefined where it is gone. */
  write(vm: VirtualMachine, pass: Pass): Promise<VirtualMachine | undefined> {
    const source = this.#options.problemOf(vm);
    // A newer spec is not what this pass judged; the wake-up that came with it leads to one that does.
    const { generation } = vm.metadata;
    const status = (newest: VirtualMachine) =>
      statusOf({ ...newest, metadata: { ...newest.metadata, generation } }, pass, source);
    return writeStatus(this.#options.store, 'VirtualMachine', vm, status);
  }

  /** Writes only where the work takes its time: what comes of quick work is for the next pass to say. */
  async during(vm: VirtualMachine, pass: Pass, work: () => Promise<void>): Promise<void> {
    const { scheduler, onFailure } = this.#options;
    let written: Promise<unknown> | undefined;
    const writing = scheduler.schedule(() => {
      written = this.write(vm, pass).catch((error: unknown) => onFailure(vm, error));
    }, TOLD_AFTER_MS);
    try {
      await work();
    } finally {
      writing.unsubscribe();
      await written;
    }
  }

  /**
   * The VM as the store has it before a step is taken; undefined where it is gone. Why a guest is ended, what goes and what
   * stays is told before it happens.
   */
  async before(vm: VirtualMachine, pass: Pass): Promise<VirtualMachine | undefined> {
    const newest = await this.#options.store.get('VirtualMachine', vm.metadata, { consistent: true });
    if (newest?.metadata.uid !== vm.metadata.uid) return undefined;
    return takesAway(pass) && !isOutdated(vm, newest) ? this.write(newest, pass) : newest;
  }
}

const TAKES_AWAY: ReadonlySet<Action['type']> = new Set(['stop', 'remove-files', 'release']);

function takesAway(pass: Pass): boolean {
  return pass.kind === 'seen' && pass.decision.kind === 'act' && TAKES_AWAY.has(pass.decision.action.type);
}
