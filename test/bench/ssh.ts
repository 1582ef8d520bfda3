/** Hosts over SSH: Debian's sshd on loopback, as it is and behind a link of 50 ms, beside `virsh -c qemu+ssh`. */
import type { ChildProcess } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Manifest } from '../../src/api/admission.ts';
import { type EffectiveSpec, FOLDER_FILES } from '../../src/api/effective-spec.ts';
import { OPERATOR_NAMESPACE } from '../../src/api/host-ssh.ts';
import { SshShell } from '../../src/host/ssh-shell.ts';
import { QemuDriver } from '../../src/qemu/driver.ts';
import type { SeenHost } from '../../src/reconcile/observed.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { SecretFolder } from '../../src/store/secret-folder.ts';
import { manifest, readyOf } from '../e2e/support/rig.ts';
import { freePort, listening } from '../e2e/support/sockets.ts';
import { Sshd } from '../e2e/support/sshd.ts';
import { standIn } from '../e2e/support/stand-ins.ts';
import { until } from '../e2e/support/wait.ts';
import { FarLink } from './far-link.ts';
import { byTurns, type Finding, median, ratioOf, shownNumber, spread, timed } from './figures.ts';
import { type Fleet, startFleet } from './fleet.ts';
import { Libvirt } from './libvirt.ts';
import { cpuSeconds, startLive } from './live.ts';
import { residentMegabytes } from './memory.ts';
import type { Place } from './place.ts';
import { killOne } from './status.ts';

const NEVER = new AbortController().signal;
const FAR_MS = 50;
/** Round trips are counted where none is hidden by what the host itself takes meanwhile. */
const COUNTING_MS = 250;
const COUNTING_ROUNDS = 3;

const INVENTORY = { running: 20, stopped: 25, trips: 3, seconds: 2 };
const LOOK = { running: 20, stopped: 100, ms: 100 };
const SAMPLE_TO_DOMSTATS = 0.25;
const KILL_SECONDS = 1;
const CREATE_TRIPS = 8;
const HOSTS = 200;

/** An sshd of the bench's own. The login shell finds no files of this machine's users. */
async function startSshd(place: Place, path?: string): Promise<Sshd> {
  const environment = [`HOME=${place.folder('nobodys-home')}`, ...(path === undefined ? [] : [`PATH=${path}`])];
  const config = [`SetEnv ${environment.join(' ')}`, `MaxStartups ${2 * HOSTS}`];
  return Sshd.start((end) => place.onEnd(end), { config });
}

/** VMs that nobody holds a monitor of any more. */
async function startLonelyFleet(place: Place, name: string, running: number, stopped: number): Promise<Fleet> {
  const fleet = await startFleet(place, running, stopped, name);
  await fleet.end();
  return fleet;
}

interface Far {
  readonly sshd: Sshd;
  readonly link: FarLink;
  readonly libvirt: Libvirt;
}

async function startFar(place: Place, vms: number, running: number): Promise<Far> {
  const libvirt = await Libvirt.start(place);
  for (let i = 0; i < vms; i += 1) await libvirt.define(`vm-${i}`);
  for (let i = 0; i < running; i += 1) await libvirt.virsh(['start', `vm-${i}`]);
  const sshd = await startSshd(place);
  return { sshd, link: await FarLink.start(place, sshd.port, FAR_MS), libvirt };
}

interface Link {
  readonly port: number;
  readonly trips?: number;
}

interface Inventory {
  readonly ms: number;
  /** Round trips after the connection was there. */
  readonly trips: number;
}

/** A connection of its own, and the first look through it: all folders, and every running guest asked. */
async function takeInventory({ sshd }: Far, link: Link, { vmDir, running, stopped }: Fleet): Promise<Inventory> {
  const shell = new SshShell(sshd.route({ port: link.port }));
  const driver = new QemuDriver(shell);
  const from = performance.now();
  let connected = 0;
  const subscription = shell.connection$.subscribe(({ kind }) => {
    if (kind === 'connected') connected = link.trips ?? 0;
  });
  const vms = [...running, ...stopped];
  const expected = new Map(running.map(({ folder }) => [folder, pidIn(folder)]));
  const look = await driver.look({ vmDirs: [vmDir], vms, expected, paths: ['/', vmDir] }, NEVER);
  const inventory = { ms: performance.now() - from, trips: (link.trips ?? 0) - connected };
  subscription.unsubscribe();
  await driver.close();
  if (look.kind !== 'seen') throw new Error(look.message);
  checkSeen(look.host, vms, running);
  return inventory;
}

/** As the store has it of the VM's status. */
function pidIn(folder: string): number {
  return Number(readFileSync(join(folder, FOLDER_FILES.pidfile), 'utf8'));
}

function checkSeen({ folders }: SeenHost, vms: readonly EffectiveSpec[], running: readonly EffectiveSpec[]): void {
  const runs = [...folders.values()].filter(({ process }) => process.kind === 'present' && process.guest === 'running');
  if (folders.size !== vms.length || runs.length !== running.length)
    throw new Error(`the look saw ${folders.size} VMs, ${runs.length} of them running`);
}

export async function benchSshInventory(place: Place): Promise<Finding[]> {
  const { running, stopped, seconds } = INVENTORY;
  const all = running + stopped;
  const far = await startFar(place, all, running);
  const fleet = await startLonelyFleet(place, 'inventory', running, stopped);
  const counting = await FarLink.start(place, far.sshd.port, COUNTING_MS);
  const trips: number[] = [];
  for (let i = 0; i < COUNTING_ROUNDS; i += 1) trips.push((await takeInventory(far, counting, fleet)).trips);
  const list = (port: number) => async () =>
    timed(async () => {
      const listed = (await far.libvirt.over(far.sshd, port, ['list', '--all'])).match(/\bvm-\d+ /g) ?? [];
      if (listed.length !== all) throw new Error(`virsh lists ${listed.length} VMs`);
    });
  const times = await byTurns(place.rounds, {
    near: async () => (await takeInventory(far, far.sshd, fleet)).ms,
    nearVirsh: list(far.sshd.port),
    far: async () => (await takeInventory(far, far.link, fleet)).ms,
    farVirsh: list(far.link.port),
  });
  const what = `${all} VMs, ${running} running, a new connection each; ${place.rounds} runs`;
  return [
    {
      name: 'over SSH: round trips of a first inventory, after the connection',
      figure: Math.max(...trips),
      unit: 'round trips',
      bound: INVENTORY.trips,
      from: `counted on a link of ${COUNTING_MS} ms: ${trips.join(', ')}; ${all} VMs, ${running} running, a new connection each`,
    },
    {
      name: `over SSH: connect and first inventory at ${FAR_MS} ms`,
      figure: Math.max(...times.far) / 1000,
      unit: 's',
      bound: seconds,
      from: `the slowest; ${spread(times.far)}; virsh -c qemu+ssh list --all ${spread(times.farVirsh)}; ${what}`,
    },
    {
      name: 'over SSH: connect and first inventory / virsh -c qemu+ssh list --all',
      figure: ratioOf(times.near, times.nearVirsh),
      unit: '×',
      from: `loopback: ours ${spread(times.near)}; virsh ${spread(times.nearVirsh)}; ${what}`,
    },
  ];
}

interface FarFleet extends Far {
  readonly fleet: Fleet;
  readonly driver: QemuDriver;
}

let farFleet: Promise<FarFleet> | undefined;

/** Looks and samples are taken of the same machines, through one connection. */
function farMachines(place: Place): Promise<FarFleet> {
  farFleet ??= startFarFleet(place);
  return farFleet;
}

async function startFarFleet(place: Place): Promise<FarFleet> {
  const far = await startFar(place, LOOK.running + LOOK.stopped, LOOK.running);
  const fleet = await startLonelyFleet(place, 'far-fleet', LOOK.running, LOOK.stopped);
  const driver = new QemuDriver(new SshShell(far.sshd.route()));
  place.onEnd(() => driver.close());
  return { ...far, fleet, driver };
}

export async function benchSshLook(place: Place): Promise<Finding[]> {
  const { sshd, libvirt, fleet, driver } = await farMachines(place);
  const vms = [...fleet.running, ...fleet.stopped];
  const request = { vmDirs: [fleet.vmDir], vms, paths: ['/', fleet.vmDir] };
  const times = await byTurns(place.rounds, {
    look: () =>
      timed(async () => {
        const look = await driver.look(request, NEVER);
        if (look.kind !== 'seen') throw new Error(look.message);
        checkSeen(look.host, vms, fleet.running);
      }),
    list: () =>
      timed(async () => {
        const listed = (await libvirt.over(sshd, sshd.port, ['list', '--all'])).match(/\bvm-\d+ /g) ?? [];
        if (listed.length !== vms.length) throw new Error(`virsh lists ${listed.length} VMs`);
      }),
  });
  return [
    {
      name: `over SSH: look at ${LOOK.stopped} stopped and ${LOOK.running} running, in one script`,
      figure: median(times.look),
      unit: 'ms',
      bound: LOOK.ms,
      from: `loopback: ${spread(times.look)}; virsh -c qemu+ssh list --all ${spread(times.list)}; ${place.rounds} pairs`,
    },
  ];
}

export async function benchSshSample(place: Place): Promise<Finding[]> {
  const { sshd, libvirt, fleet, driver } = await farMachines(place);
  const { running } = fleet;
  const times = await byTurns(place.rounds, {
    sample: () =>
      timed(async () => {
        const samples = await driver.sample(running, 'bench', NEVER);
        if (samples.size !== running.length) throw new Error(`${samples.size} VMs were sampled`);
      }),
    domstats: () =>
      timed(async () => {
        const said = await libvirt.over(sshd, sshd.port, ['domstats', '--list-running']);
        const count = said.match(/^Domain:/gm)?.length ?? 0;
        if (count !== running.length) throw new Error(`virsh has figures of ${count} VMs`);
      }),
  });
  return [
    {
      name: `over SSH: sample of ${running.length} running / virsh -c qemu+ssh domstats`,
      figure: ratioOf(times.sample, times.domstats),
      unit: '×',
      bound: SAMPLE_TO_DOMSTATS,
      from: `loopback: sample ${spread(times.sample)}; virsh ${spread(times.domstats)}; ${place.rounds} pairs`,
    },
  ];
}

/** Hosts with a vmDir each, all of them this machine, and the Secret that lets in. */
async function addHost(store: FileStore, name: string, ssh: { port: number; sshd: Sshd; dir: string }) {
  const { port, sshd, dir } = ssh;
  const secrets = new SecretFolder(join(store.dir, '.state', 'secrets'));
  const secret = { namespace: OPERATOR_NAMESPACE, name: 'bench', key: 'ssh-privatekey' };
  await secrets.set(secret, readFileSync(sshd.identity));
  const login = { address: '127.0.0.1', port, user: sshd.user, hostKeys: [sshd.hostKey()] };
  const spec = {
    ssh: { ...login, credentialsSecretRef: { name: secret.name } },
    vmDir: join(dir, name),
    allowedPaths: ['/'],
    metricsIntervalSeconds: 0,
  };
  await store.create(manifest('Host', { name }, spec) as Manifest<'Host'>);
}

export async function benchSshKill(place: Place): Promise<Finding[]> {
  const sshd = await startSshd(place);
  const dir = place.folder('ssh-kill-far');
  const live = await startLive(place, 'ssh-kill', (store) => addHost(store, 'far', { port: sshd.port, sshd, dir }));
  const names = Array.from({ length: Math.min(place.rounds, 20) }, (_, i) => `vm-${i}`);
  for (const name of names) await live.make(name, { hostName: 'far', restartPolicy: 'Never' });
  for (const name of names) await untilRuns(live.store, name);
  // Whatever the last start left to be looked at is not the news of a kill.
  await sleep(2_000);
  const times: number[] = [];
  for (const name of names) times.push(await killOne(live.store, name));
  await live.end();
  return [
    {
      name: 'over SSH: QEMU killed on the host to status changed',
      figure: Math.max(...times) / 1000,
      unit: 's',
      bound: KILL_SECONDS,
      from: `the slowest of ${times.length}; ${spread(times)}; loopback`,
    },
  ];
}

export async function benchSshCreate(place: Place): Promise<Finding[]> {
  const sshd = await startSshd(place);
  const [far, counting] = [
    await FarLink.start(place, sshd.port, FAR_MS),
    await FarLink.start(place, sshd.port, COUNTING_MS),
  ];
  const dir = place.folder('ssh-create-far');
  const live = await startLive(place, 'ssh-create', async (store) => {
    await addHost(store, 'far', { port: far.port, sshd, dir });
    await addHost(store, 'counting', { port: counting.port, sshd, dir });
  });
  const create = async (hostName: string, name: string) => {
    // With a disk that is made for it, as most have.
    await live.make(name, { hostName, disks: [{ name: 'root', size: '1Gi' }] });
    await untilRuns(live.store, name);
  };
  const rest = () => sleep(3 * COUNTING_MS);
  await Promise.all(['far', 'counting'].map((hostName) => create(hostName, `first-${hostName}`)));
  const [trips, times]: [number[], number[]] = [[], []];
  for (let i = 0; i < COUNTING_ROUNDS; i += 1) {
    // Until nothing is under way any more.
    await rest();
    const before = counting.trips;
    await create('counting', `counted-${i}`);
    trips.push(counting.trips - before);
  }
  await rest();
  for (let i = 0; i < place.rounds; i += 1) times.push(await timed(() => create('far', `far-${i}`)));
  await live.end();
  return [
    {
      name: 'over SSH: round trips from create to Running',
      figure: Math.max(...trips),
      unit: 'round trips',
      bound: CREATE_TRIPS,
      from: `counted on a link of ${COUNTING_MS} ms: ${trips.join(', ')}; at ${FAR_MS} ms ${spread(times)}, ${times.length} runs; with a new disk`,
    },
  ];
}

async function untilRuns(store: FileStore, name: string): Promise<void> {
  const end = performance.now() + 120_000;
  for (;;) {
    const vm = await store.get('VirtualMachine', { namespace: 'default', name });
    const ready = vm === undefined ? undefined : readyOf(vm);
    if (ready?.status === 'True' && ready.reason === 'Running') return;
    if (performance.now() > end) throw new Error(`${name} does not run: ${ready?.reason} ${ready?.message}`);
    await sleep(5);
  }
}

/**
 * Listeners of an sshd that each stand for a machine of their own: the same files, but another machine-id.
 * @returns their ports
 */
async function startMachines(place: Place, sshd: Sshd, count: number): Promise<number[]> {
  const folder = place.folder('machine-ids');
  const ports: number[] = [];
  const children: ChildProcess[] = [];
  for (let i = 0; i < count; i += 1) {
    const [id, port] = [join(folder, `${i}`), await freePort()];
    writeFileSync(id, `${i.toString(16).padStart(32, 'a')}\n`);
    const script = 'mount --bind "$1" /etc/machine-id && shift && exec "$@"';
    const words = [
      '/usr/sbin/sshd',
      '-D',
      '-f',
      join(sshd.folder, 'sshd_config'),
      '-p',
      `${port}`,
      '-o',
      'PidFile=none',
    ];
    const stdio = ['ignore', 'ignore', 'inherit'] as const;
    children.push(place.spawn('unshare', ['--mount', 'sh', '-c', script, 'sh', id, ...words], { stdio: [...stdio] }));
    ports.push(port);
  }
  await until(
    'all of them listen',
    () => children.every(({ pid = 0 }, i) => listening(pid).includes(ports[i] ?? 0)),
    Boolean,
  );
  return ports;
}

/** Machines that are one real sshd each, which has a process per connection. */
export async function benchSshHosts(place: Place): Promise<Finding[]> {
  // Starting QEMU for its version, 400 times on one machine at once, would be all that is measured.
  const text = "#!/bin/sh\necho 'QEMU emulator version 7.2.0'\n";
  for (const name of ['qemu-system-aarch64', 'qemu-system-x86_64']) standIn(place.folder('stand-ins'), name, text);
  const sshd = await startSshd(place, `${place.folder('stand-ins')}:/usr/bin:/bin`);
  const ports = await startMachines(place, sshd, HOSTS);
  const dir = place.folder('ssh-hosts-far');
  const names = Array.from({ length: HOSTS }, (_, i) => `far-${i}`);
  place.built();
  const from = performance.now();
  const live = await startLive(place, 'ssh-hosts', async (store) => {
    for (const [i, name] of names.entries()) await addHost(store, name, { port: ports[i] ?? 0, sshd, dir });
  });
  const pid = live.controller.pid ?? 0;
  const started = performance.now();
  let seen = 0;
  while (seen < HOSTS) {
    const { items } = await live.store.list('Host');
    const hosts = items.filter(({ spec }) => spec.ssh !== undefined);
    seen = hosts.filter(({ status }) => status?.conditions?.some(isReady)).length;
    if (performance.now() - from > 300_000) throw new Error(`${seen} of ${HOSTS} Hosts are ready`);
    await sleep(250);
  }
  const first = performance.now() - started;
  const atWork = cpuSeconds(pid);
  await sleep(HOSTS_REST_MS / 2);
  const [cpu, resting] = [cpuSeconds(pid), performance.now()];
  await sleep(HOSTS_REST_MS);
  const percent = ((cpuSeconds(pid) - cpu) / (performance.now() - resting)) * 100_000;
  const memory = residentMegabytes(pid, 'VmRSS');
  const most = residentMegabytes(pid, 'VmHWM');
  await live.end();
  const what = `${HOSTS} Hosts without VMs, each a real sshd with a machine-id of its own on this machine, its QEMU a stand-in; 1 run`;
  return [
    {
      name: `over SSH: first inventory of ${HOSTS} hosts`,
      figure: first / 1000,
      unit: 's',
      from: `controller started to all Ready, ${shownNumber(atWork)} s of its CPU; sshd shares the processors; ${what}`,
    },
    {
      name: `over SSH: ${HOSTS} hosts at rest`,
      figure: percent,
      unit: '% of a core',
      from: `in ${HOSTS_REST_MS / 1000} s, a look at each; ${what}`,
    },
    {
      name: `over SSH: resident memory with ${HOSTS} hosts`,
      figure: memory,
      unit: 'MB',
      from: `after the rest; the most until then ${shownNumber(most)} MB; ${what}`,
    },
  ];
}

function isReady({ type, status }: { readonly type: string; readonly status: string }): boolean {
  return type === 'Ready' && status === 'True';
}

/** As long as a resync takes to come round. */
const HOSTS_REST_MS = 60_000;
