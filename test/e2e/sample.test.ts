/** Samples of real guests, compared with what /proc, a second monitor and the guest itself say. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FOLDER_FILES } from '../../src/api/effective-spec.ts';
import { strict } from '../../src/api/schema.ts';
import { type Sample, sampleSchema } from '../../src/api/virtual-machine-monitor.ts';
import { Agents } from '../../src/qemu/agents.ts';
import { Monitors } from '../../src/qemu/monitors.ts';
import { QmpClient } from '../../src/qemu/qmp.ts';
import { Sampler } from '../../src/qemu/sample.ts';
import { type BareOptions, type BareQemu, startBareQemu } from '../guests/bare-qemu.ts';
import { TestConsole } from '../guests/console.ts';
import { linuxGuest } from '../guests/linux.ts';
import { writeTinyDisk } from '../guests/tiny.ts';
import { TestShell } from './support/stand-ins.ts';

const MIB = 1_048_576;
const signal = new AbortController().signal;

let root: string;
let guests: BareQemu[];
let monitors: Monitors;
let shell: TestShell;
let runs: number;
let sampler: Sampler;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'sample-'));
  guests = [];
  runs = 0;
  shell = new TestShell({
    onRun: () => {
      runs += 1;
    },
  });
  monitors = new Monitors(shell);
  sampler = new Sampler(shell, monitors, new Agents(shell));
});

afterEach(async () => {
  monitors.close();
  await shell.close();
  for (const guest of guests) await guest.kill();
  await rm(root, { recursive: true, force: true });
});

async function start(options: Omit<BareOptions, 'folder'>): Promise<BareQemu> {
  const guest = await startBareQemu({ ...options, folder: await mkdtemp(join(root, 'vm-')) });
  guests.push(guest);
  return guest;
}

/** A disk whose boot sector is `jmp $`: one vCPU computes for ever, the others stay off. */
async function busyDisk(): Promise<string> {
  const sector = Buffer.alloc(MIB);
  sector.set([0xeb, 0xfe]);
  sector.set([0x55, 0xaa], 510);
  const path = join(await mkdtemp(join(root, 'busy-')), 'busy.raw');
  await writeFile(path, sector);
  return path;
}

async function startBusy(vcpus = 1): Promise<BareQemu> {
  return start({ vcpus, disks: [{ name: 'root', path: await busyDisk(), format: 'raw' }] });
}

const target = ({ folder, pid, spec }: BareQemu) => ({ key: folder, folder, pid, spec });

function checked(samples: ReadonlyMap<string, Sample>, { folder }: BareQemu): Sample {
  const sample = samples.get(folder);
  if (sample === undefined) throw new Error('no sample');
  sampleSchema(strict).parse(sample);
  return sample;
}

const reasons = ({ unavailable = [] }: Sample) =>
  Object.fromEntries(unavailable.map(({ metric, reason }) => [metric, reason]));

async function askOracle(guest: BareQemu, command: string): Promise<unknown> {
  const client = await QmpClient.connect(connect(guest.oracle), { onEvent: () => undefined, onEnd: () => undefined });
  try {
    return await client.execute(command);
  } finally {
    client.close();
  }
}

/** What the kernel has given a process so far, and when. proc_pid_stat(5): utime and stime, in ticks of 10 ms. */
function cpuTime(pid: number): { readonly ms: number; readonly at: number } {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return { ms: 10 * (Number(fields[11]) + Number(fields[12])), at: performance.now() };
}

test('a guest that only computes takes all of one vCPU and none of the other', async () => {
  const guest = await startBusy(2);
  await sleep(500);
  const before = cpuTime(guest.pid);
  const first = checked(await sampler.sample([target(guest)], 's', signal), guest);
  expect(first.cpu).toBeUndefined();
  expect(reasons(first)).toMatchObject({ rates: 'FirstSample', 'memory.guest': 'GuestDoesNotReport' });
  await sleep(2000);
  const sample = checked(await sampler.sample([target(guest)], 's', signal), guest);
  expect(sample.intervalSeconds).toBe(2);
  // Other work of this machine takes its share: what is right is what the kernel gave.
  const after = cpuTime(guest.pid);
  const given = (1000 * (after.ms - before.ms)) / (after.at - before.at);
  const { usageMilliCores = 0, percent = 0, perVcpu: [busy, idle] = [] } = sample.cpu ?? {};
  expect(Math.abs(usageMilliCores - given)).toBeLessThan(150);
  expect(Math.abs(percent - usageMilliCores / 20)).toBeLessThan(2);
  expect(busy?.percent).toBeGreaterThan(usageMilliCores / 10 - 15);
  expect(busy?.percent).toBeGreaterThan(15);
  expect(idle?.percent).toBeLessThan(10);
  expect(sample.memory?.allocatedBytes).toBe(128 * MIB);
  const resident = Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${guest.pid}/status`, 'utf8'))?.[1]) * 1024;
  expect(Math.abs((sample.memory?.residentBytes ?? 0) - resident)).toBeLessThan(4 * MIB);
  expect(Math.abs(Date.parse(sample.at) - Date.now())).toBeLessThan(5000);
});

test('disk, network and memory figures of a Linux guest agree with QEMU and with the guest', async () => {
  const image = join(root, 'root.qcow2');
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', await linuxGuest(), image]);
  const data = join(root, 'data.raw');
  execFileSync('qemu-img', ['create', '-q', '-f', 'raw', data, '64M']);
  const guest = await start({
    disks: [
      { name: 'root', path: image, format: 'qcow2' },
      { name: 'data', path: data, format: 'raw' },
    ],
    networks: ['net0'],
    memoryMiB: 256,
  });
  const serial = await TestConsole.to(join(guest.folder, FOLDER_FILES.console));
  await serial.hears(/linux:~# /);
  serial.say('until ifconfig eth0 | grep -q inet; do sleep 0.2; done; echo ON$((1))LINE');
  await serial.hears(/ON1LINE/);
  await sampler.sample([target(guest)], 's', signal);
  // 8 MiB in 1 MiB pieces past the page cache, then pings for as long as the sample looks.
  serial.say('dd if=/dev/zero of=/dev/vdb bs=1M count=8 conv=fsync 2>/dev/null; echo WRI$((1))TTEN');
  await serial.hears(/WRI1TTEN/);
  serial.say('while :; do ping -c 1 10.0.2.2 >/dev/null; done');
  await sleep(2000);
  const sample = checked(await sampler.sample([target(guest)], 's', signal), guest);
  const seen = sample.disks?.find(({ name }) => name === 'data');
  const oracle = (await askOracle(guest, 'query-blockstats')) as { 'node-name': string; stats: { wr_bytes: number } }[];
  expect(seen?.writeBytes).toBe(8 * MIB);
  expect(oracle.find((entry) => entry['node-name'] === 'disk-data')?.stats.wr_bytes).toBe(8 * MIB);
  expect(seen?.actualBytes).toBe((await stat(data)).blocks * 512);
  expect(seen?.writeBytesPerSecond).toBeGreaterThan((4 * MIB) / (sample.intervalSeconds ?? 1));
  expect(seen?.writeOpsPerSecond).toBeGreaterThan(0);
  expect(seen?.writeLatencyMicros).toBeGreaterThan(0);
  expect(reasons(sample)['disks[data].readLatencyMicros']).toBe('NoOperations');
  const [network] = sample.networks ?? [];
  // Echo request and reply.
  expect(network?.receivePacketsPerSecond).toBeGreaterThan(0);
  expect(network?.transmitPacketsPerSecond).toBeGreaterThan(0);
  expect(network).not.toHaveProperty('receiveBytes');
  expect(reasons(sample)['networks[net0].bytes']).toBe('NoByteCounters');
  const used = sample.memory?.guestUsedBytes ?? 0;
  expect(used).toBeGreaterThan(5 * MIB);
  expect(used + (sample.memory?.guestAvailableBytes ?? 0)).toBeLessThan(256 * MIB);
  serial.close();
});

test('a second sample has rates over the time since the first', async () => {
  const disk = join(root, 'tiny.raw');
  await writeTinyDisk(disk);
  const guest = await start({ disks: [{ name: 'root', path: disk, format: 'raw' }], networks: ['net0'] });
  await sampler.sample([target(guest)], 's', signal);
  await sleep(1000);
  const sample = checked(await sampler.sample([target(guest)], 's', signal), guest);
  expect(sample.intervalSeconds).toBe(1);
  expect(sample.cpu?.usageMilliCores).toBeTypeOf('number');
  expect(sample.disks?.[0]?.readOpsPerSecond).toBeTypeOf('number');
  expect(reasons(sample)['networks[net0].packets']).toBe('GuestDriverAbsent');
});

test('all VMs take one script; one that does not answer delays no other, and one that ended is left out', async () => {
  const [quick, slow, gone] = [await startBusy(), await startBusy(), await startBusy()];
  const targets = [quick, slow, gone].map(target);
  expect((await sampler.sample(targets, 's', signal)).size).toBe(3);
  expect(runs).toBe(1);
  slow.child.kill('SIGSTOP');
  await gone.kill();
  await sleep(500);
  const startedMs = Date.now();
  const samples = await sampler.sample(targets, 's', signal);
  expect(Date.now() - startedMs).toBeLessThan(3000);
  expect(samples.has(gone.folder)).toBe(false);
  expect(checked(samples, quick).cpu?.perVcpu).toHaveLength(1);
  const silent = checked(samples, slow);
  expect(silent.cpu?.usageMilliCores).toBeTypeOf('number');
  expect(silent.disks).toBeUndefined();
  expect(reasons(silent)).toMatchObject({ disks: 'MonitorUnresponsive', 'cpu.perVcpu': 'MonitorUnresponsive' });
  slow.child.kill('SIGCONT');
});

test('another process in the same place begins anew', async () => {
  const [first, second] = [await startBusy(), await startBusy()];
  await sampler.sample([{ ...target(first), key: 'vm' }], 's', signal);
  await sleep(300);
  const sample = (await sampler.sample([{ ...target(second), key: 'vm' }], 's', signal)).get('vm');
  expect(sample?.cpu).toBeUndefined();
  expect(sample?.unavailable).toContainEqual({ metric: 'rates', reason: 'FirstSample' });
});
