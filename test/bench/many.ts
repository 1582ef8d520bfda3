/** One look at 100 stopped and 20 running VMs, and one sample of the running ones, against virsh on as many. */
import { byTurns, type Finding, ratioOf, spread, timed } from './figures.ts';
import { type Fleet, startFleet } from './fleet.ts';
import { Libvirt } from './libvirt.ts';
import type { Place } from './place.ts';

const NEVER = new AbortController().signal;
const RUNNING = 20;
const STOPPED = 100;
const LOOK_TO_LIST = 2;
const SAMPLE_TO_DOMSTATS = 0.25;

let fleet: Promise<{ ours: Fleet; libvirt: Libvirt }> | undefined;

/** Both benches measure the same machines. */
function machines(place: Place): Promise<{ ours: Fleet; libvirt: Libvirt }> {
  fleet ??= start(place);
  return fleet;
}

async function start(place: Place): Promise<{ ours: Fleet; libvirt: Libvirt }> {
  const libvirt = await Libvirt.start(place);
  for (let i = 0; i < RUNNING + STOPPED; i += 1) await libvirt.define(`vm-${i}`);
  for (let i = 0; i < RUNNING; i += 1) await libvirt.virsh(['start', `vm-${i}`]);
  return { ours: await startFleet(place, RUNNING, STOPPED), libvirt };
}

export async function benchLook(place: Place): Promise<Finding[]> {
  const { ours, libvirt } = await machines(place);
  const vms = [...ours.running, ...ours.stopped];
  const request = { vmDirs: [ours.vmDir], vms, paths: ['/', ours.vmDir] };
  const times = await byTurns(place.rounds, {
    look: () =>
      timed(async () => {
        const look = await ours.driver.look(request, NEVER);
        const folders = look.kind === 'seen' ? [...look.host.folders.values()] : [];
        const runs = folders.filter(({ process }) => process.kind === 'present' && process.guest === 'running');
        if (folders.length !== vms.length || runs.length !== RUNNING) throw new Error('the look missed VMs');
      }),
    list: () =>
      timed(async () => {
        const listed = (await libvirt.virsh(['list', '--all'])).match(/\bvm-\d+ /g) ?? [];
        if (listed.length !== vms.length) throw new Error(`virsh lists ${listed.length} VMs`);
      }),
  });
  return [
    {
      name: `look at ${STOPPED} stopped and ${RUNNING} running / virsh list --all`,
      figure: ratioOf(times.look, times.list),
      unit: '×',
      bound: LOOK_TO_LIST,
      from: `look ${spread(times.look)}; virsh ${spread(times.list)}; ${place.rounds} pairs`,
    },
  ];
}

export async function benchSample(place: Place): Promise<Finding[]> {
  const { ours, libvirt } = await machines(place);
  const times = await byTurns(place.rounds, {
    sample: () =>
      timed(async () => {
        const samples = await ours.driver.sample(ours.running, 'bench', NEVER);
        if (samples.size !== RUNNING) throw new Error(`${samples.size} VMs were sampled`);
      }),
    domstats: () =>
      timed(async () => {
        const said = (await libvirt.virsh(['domstats', '--list-running'])).match(/^Domain:/gm) ?? [];
        if (said.length !== RUNNING) throw new Error(`virsh has figures of ${said.length} VMs`);
      }),
  });
  return [
    {
      name: `sample of ${RUNNING} running / virsh domstats`,
      figure: ratioOf(times.sample, times.domstats),
      unit: '×',
      bound: SAMPLE_TO_DOMSTATS,
      from: `sample ${spread(times.sample)}; virsh ${spread(times.domstats)}; ${place.rounds} pairs`,
    },
  ];
}
