/** A controller over simulated hosts, as a process whose memory is measured: node memory-controller.js STORE. */

import { runController } from '../../src/reconcile/controller.ts';
import { openFileStore } from '../../src/store/file-store.ts';
import { SimulatedHost } from '../fakes/simulated-host.ts';
import { SimulatedWorld } from '../fakes/simulated-world.ts';

const store = await openFileStore({ dir: process.argv[2] ?? '' });
runController({
  store,
  driverFor: (host) => {
    const world = new SimulatedWorld(() => Date.now());
    world.machineID = host.metadata.name;
    world.vmDirs.set(host.spec.vmDir, { mounted: true, writable: true });
    return new SimulatedHost({ world });
  },
}).subscribe();
console.log('started');
