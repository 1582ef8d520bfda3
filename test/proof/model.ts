/**
 * What becomes of VMs, said once more and much more simply: no steps, no records, no time. Commands change it and the
 * simulated installation alike; afterwards both must agree.
 */
import type { Simulation } from '../fakes/simulation.ts';
import { folderOf } from '../fakes/simulation.ts';

export type Policy = 'Always' | 'OnFailure' | 'Never';

export interface ModelVm {
  on: boolean;
  policy: Policy;
  vcpus: number;
  diskGi: number;
  /** The size of its disk; undefined: it was not made yet. */
  hasGi: number | undefined;
  /** With how many vCPUs it runs; undefined: it does not. */
  runsWith: number | undefined;
  /** Somebody asked for a start that has not been answered. */
  owed: boolean;
  /** How it ended last, by itself. */
  end: 'failed' | 'guest powered off' | undefined;
}

export interface Model {
  readonly vms: Map<string, ModelVm>;
  full: boolean;
  /** QEMU processes that were started, ever. */
  starts: number;
  /** Images that were made, ever. */
  images: number;
}

/** Restarting is for all ends, for failures, or for none. */
const ANSWERS: Readonly<Record<Policy, readonly ModelVm['end'][]>> = {
  Always: ['failed', 'guest powered off'],
  OnFailure: ['failed'],
  Never: [],
};

/** What is left to be done is done. */
export function settle(model: Model): void {
  for (const vm of model.vms.values()) {
    if (vm.hasGi === undefined && !model.full) {
      vm.hasGi = vm.diskGi;
      model.images += 1;
    }
    const starts =
      vm.on && vm.hasGi !== undefined && vm.runsWith === undefined && (vm.owed || ANSWERS[vm.policy].includes(vm.end));
    if (starts) {
      Object.assign(vm, { runsWith: vm.vcpus, owed: false, end: undefined });
      model.starts += 1;
    }
    // A VM that should be on, and stays off as it ended, is left as it is until it starts.
    if (vm.hasGi !== undefined && (!vm.on || vm.runsWith !== undefined)) vm.hasGi = vm.diskGi;
  }
}

/** Where the installation is not as the model says. */
export async function disagreements(model: Model, { world, store }: Simulation): Promise<string[]> {
  const { items } = await store.list('VirtualMachine');
  const names = items.map(({ metadata }) => metadata.name).sort();
  const found = [...world.violations];
  const agree = (what: string, is: unknown, wanted: unknown) => {
    if (JSON.stringify(is) !== JSON.stringify(wanted))
      found.push(`${what}: ${JSON.stringify(is)}, not ${JSON.stringify(wanted)}`);
  };
  agree('objects', names, [...model.vms.keys()].sort());
  agree(
    'folders',
    [...world.folders.keys()].sort(),
    names.map((name) => folderOf(name)),
  );
  agree('QEMU starts', world.starts, model.starts);
  agree('images made', world.made.length, model.images);
  for (const { metadata, status } of items) {
    const vm = model.vms.get(metadata.name);
    if (vm === undefined) continue;
    const process = world.processIn(folderOf(metadata.name));
    const file = world.files.get(`${folderOf(metadata.name)}/root.qcow2`);
    agree(`${metadata.name} runs with`, process?.spec.vcpus, vm.runsWith);
    agree(`${metadata.name} has`, file && file.virtualBytes / 1024 ** 3, vm.hasGi);
    agree(`${metadata.name} is said to have pid`, status?.pid, process?.pid);
  }
  return found;
}
