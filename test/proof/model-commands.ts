/** What people, guests and fate do, to the model and to the simulated installation. */
import fc from 'fast-check';
import { folderOf, type Simulation } from '../fakes/simulation.ts';
import { disagreements, type Model, type ModelVm, type Policy, settle } from './model.ts';

/** Longer than the longest back-off. */
const SETTLE_MS = 330_000;

/** The installation, with a controller that dies where it was told to. */
export interface Real {
  readonly simulation: Simulation;
  /** After how many steps of the next effect the controller dies; undefined: it lives. */
  dies: { readonly afterSteps: number } | undefined;
}

type Command = fc.AsyncCommand<Model, Real>;
type Done = { readonly model: (model: Model) => void; readonly real: (real: Real) => unknown };

/** Both do it and come to rest; then they must agree. */
function command(name: string, check: (model: Model) => boolean, { model: change, real: act }: Done): Command {
  return {
    check: (model) => check(model),
    run: async (model, real) => {
      change(model);
      await act(real);
      settle(model);
      await rest(real);
      const found = await disagreements(model, real.simulation);
      if (found.length > 0) throw new Error(found.join('; '));
    },
    toString: () => name,
  };
}

async function rest(real: Real): Promise<void> {
  const { simulation } = real;
  let dead = false;
  simulation.controller.driver.fault = () => {
    const { dies } = real;
    if (dies === undefined) return undefined;
    dead = true;
    real.dies = undefined;
    return dies;
  };
  await simulation.clock.advance(SETTLE_MS, () => dead);
  if (dead) {
    simulation.crash();
    simulation.startController();
    await simulation.pass(SETTLE_MS);
  }
}

const exists = (name: string) => (model: Model) => model.vms.has(name);
const runs = (name: string) => (model: Model) => model.vms.get(name)?.runsWith !== undefined;
const change = (name: string, fields: (vm: ModelVm) => Partial<ModelVm>) => (model: Model) => {
  const vm = model.vms.get(name);
  if (vm !== undefined) Object.assign(vm, fields(vm));
};
let nonces = 0;
const nonce = () => {
  nonces += 1;
  return `n${nonces}`;
};

const name = fc.constantFrom('web-1', 'web-2');
const policy = fc.constantFrom<Policy>('Always', 'OnFailure', 'Never');
const vcpus = fc.integer({ min: 1, max: 4 });

const create = fc
  .record({ name, policy, vcpus, on: fc.boolean() })
  .map(({ name: vm, policy: restartPolicy, ...rest }) =>
    command(`create ${vm} ${restartPolicy} ${JSON.stringify(rest)}`, (model) => !model.vms.has(vm), {
      model: ({ vms }) => {
        const fresh = { diskGi: 1, hasGi: undefined, runsWith: undefined, owed: true, end: undefined };
        vms.set(vm, { ...rest, policy: restartPolicy, ...fresh });
      },
      real: ({ simulation }) =>
        simulation.createVm(
          {
            restartPolicy,
            vcpus: rest.vcpus,
            powerState: rest.on ? 'PoweredOn' : 'PoweredOff',
            powerOff: { gracePeriodSeconds: 10 },
            disks: [{ name: 'root', size: '1Gi' }],
          },
          { name: vm },
        ),
    }),
  );

const edit = fc.record({ name, policy, vcpus }).map(({ name: vm, policy: restartPolicy, vcpus: count }) =>
  command(`edit ${vm} ${restartPolicy} ${count} vcpus`, exists(vm), {
    model: change(vm, () => ({ policy: restartPolicy, vcpus: count })),
    real: ({ simulation }) => simulation.edit({ spec: { restartPolicy, vcpus: count } }, vm),
  }),
);

const grow = name.map((vm) =>
  command(`grow ${vm}`, exists(vm), {
    model: change(vm, ({ diskGi }) => ({ diskGi: diskGi + 1 })),
    real: async ({ simulation }) => {
      const size = `${Number.parseInt(String((await simulation.vm(vm))?.spec.disks?.[0]?.size), 10) + 1}Gi`;
      await simulation.edit({ spec: { disks: [{ name: 'root', size }] } }, vm);
    },
  }),
);

const start = name.map((vm) =>
  command(`start ${vm}`, exists(vm), {
    model: change(vm, ({ runsWith }) => ({ on: true, owed: runsWith === undefined })),
    real: async ({ simulation }) => {
      const isOn = (await simulation.vm(vm))?.status?.pid !== undefined;
      await simulation.edit({ spec: { powerState: 'PoweredOn', ...(isOn ? {} : { restartedAt: nonce() }) } }, vm);
    },
  }),
);

const restart = name.map((vm) =>
  command(`restart ${vm}`, exists(vm), {
    model: change(vm, () => ({ on: true, owed: true, runsWith: undefined })),
    real: ({ simulation }) => simulation.edit({ spec: { powerState: 'PoweredOn', restartedAt: nonce() } }, vm),
  }),
);

const stop = fc
  .record({ name, powerState: fc.constantFrom('PoweredOff', 'ForcedOff') })
  .map(({ name: vm, powerState }) =>
    command(`${powerState} ${vm}`, exists(vm), {
      // Off and on again always starts.
      model: change(vm, () => ({ on: false, owed: true, runsWith: undefined })),
      real: ({ simulation }) => simulation.edit({ spec: { powerState } }, vm),
    }),
  );

const remove = name.map((vm) =>
  command(`delete ${vm}`, exists(vm), {
    model: ({ vms }) => void vms.delete(vm),
    real: ({ simulation }) => simulation.remove(vm),
  }),
);

const end = (how: 'crash' | 'signal' | 'powerdown', reason: ModelVm['end']) =>
  name.map((vm) =>
    command(`${how} of ${vm}`, runs(vm), {
      model: change(vm, () => ({ runsWith: undefined, end: reason })),
      real: ({ simulation: { world } }) => {
        const process = world.processIn(folderOf(vm));
        if (process !== undefined) world.end(process, how);
      },
    }),
  );

const reboot = fc.constant(
  command('the host reboots', () => true, {
    model: ({ vms }) => {
      for (const vm of vms.values())
        if (vm.runsWith !== undefined) Object.assign(vm, { runsWith: undefined, end: 'failed' });
    },
    real: ({ simulation }) => {
      simulation.world.reboot();
      simulation.crash();
      simulation.startController();
    },
  }),
);

const crash = fc.constant(
  command('the controller crashes', () => true, {
    model: () => undefined,
    real: ({ simulation }) => {
      simulation.crash();
      simulation.startController();
    },
  }),
);

/** Unlike the others it takes effect within the next one. */
const crashLater = fc.integer({ min: 0, max: 3 }).map(
  (afterSteps): Command => ({
    check: () => true,
    run: async (_model, real) => {
      real.dies = { afterSteps };
    },
    toString: () => `the controller will crash after ${afterSteps} steps of its next effect`,
  }),
);

const fill = fc.boolean().map((full) =>
  command(full ? 'the disk is full' : 'there is space', (model) => model.full !== full, {
    model: (model) => {
      model.full = full;
    },
    real: ({ simulation: { world } }) => {
      world.freeBytes = full ? 0 : 1e12;
    },
  }),
);

export const COMMANDS: fc.Arbitrary<Command>[] = [
  create,
  create,
  edit,
  grow,
  start,
  restart,
  stop,
  remove,
  end('crash', 'failed'),
  end('signal', 'failed'),
  end('powerdown', 'guest powered off'),
  reboot,
  crash,
  crashLater,
  fill,
];
