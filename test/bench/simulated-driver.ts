/** In place of src/qemu/driver.ts: each driver is on a machine of its own, which exists only here. */
import type { VmAction } from '../../src/reconcile/action.ts';
import type { LookRequest, VmContext } from '../../src/reconcile/driver.ts';
import type { Look } from '../../src/reconcile/observed.ts';
import { SimulatedHost } from '../fakes/simulated-host.ts';
import { SimulatedWorld } from '../fakes/simulated-world.ts';

let machines = 0;

export class QemuDriver extends SimulatedHost {
  readonly #world: SimulatedWorld;

  constructor() {
    const world = new SimulatedWorld(() => Date.now());
    super({ world });
    machines += 1;
    world.machineID = `machine-${machines}`;
    this.#world = world;
  }

  override look(request: LookRequest, signal: AbortSignal): Promise<Look> {
    const { vmDirs } = this.#world;
    for (const path of request.vmDirs) if (!vmDirs.has(path)) vmDirs.set(path, { mounted: true, writable: true });
    return super.look(request, signal);
  }

  override async execute(action: VmAction, context: VmContext, signal: AbortSignal): Promise<void> {
    await super.execute(action, context, signal);
    // What tests read is not to be measured.
    this.journal.length = 0;
    this.sampled.length = 0;
  }
}
