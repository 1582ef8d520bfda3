/** From the launch action to a guest that runs, against the same command by hand and `virsh start`. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type EffectiveSpec, FOLDER_FILES } from '../../src/api/effective-spec.ts';
import { LocalShell } from '../../src/host/local-shell.ts';
import { commandLine } from '../../src/qemu/cmdline.ts';
import { QemuDriver } from '../../src/qemu/driver.ts';
import type { VmContext } from '../../src/reconcile/driver.ts';
import type { SeenHost } from '../../src/reconcile/observed.ts';
import { recordedSpec } from '../../src/reconcile/recorded-spec.ts';
import { wantedOf } from '../../src/reconcile/subject.ts';
import { createMemoryStore } from '../../src/store/memory-store.ts';
import { qmp, runState } from '../e2e/support/oracle.ts';
import { byTurns, type Finding, ratioOf, spread, timed } from './figures.ts';
import { localHost, tinyVm } from './fleet.ts';
import { Libvirt } from './libvirt.ts';
import { type Place, untilGone } from './place.ts';

const NEVER = new AbortController().signal;
const TO_HAND = 1.3;
const TO_LIBVIRT = 0.5;

interface Machine {
  readonly driver: QemuDriver;
  readonly context: VmContext;
  readonly bootID: string;
}

export async function benchLaunch(place: Place): Promise<Finding[]> {
  const libvirt = await Libvirt.start(place);
  await libvirt.define('launch');
  const machine = await readyMachine(place, 'ours');
  const byHand = await readyMachine(place, 'hand');
  const times = await byTurns(place.rounds, {
    ours: () => launchOurs(machine),
    hand: () => launchByHand(place, byHand),
    libvirt: () => launchLibvirt(libvirt),
  });
  await Promise.all([machine.driver.close(), byHand.driver.close()]);
  const about = `ours ${spread(times.ours)}`;
  return [
    {
      name: 'launch / the same command by hand',
      figure: ratioOf(times.ours, times.hand),
      unit: '×',
      bound: TO_HAND,
      from: `${about}; by hand ${spread(times.hand)}; ${place.rounds} pairs`,
    },
    {
      name: 'launch / virsh start',
      figure: ratioOf(times.ours, times.libvirt),
      unit: '×',
      bound: TO_LIBVIRT,
      from: `${about}; virsh ${spread(times.libvirt)}; ${place.rounds} pairs`,
    },
  ];
}

/** A VM that was provisioned and is off, and the driver that owns its vmDir. */
async function readyMachine(place: Place, name: string): Promise<Machine> {
  const vmDir = place.folder(`launch-${name}`);
  const store = createMemoryStore();
  const host = await store.create(localHost(vmDir));
  const vm = await store.create(tinyVm(place.folder('launch-images'), name));
  const wanted = wantedOf(vm, host);
  const driver = new QemuDriver(new LocalShell());
  await driver.executeOnHost(
    { type: 'claim', vmDir, seen: undefined },
    { storeUID: store.uid, hostUID: host.metadata.uid },
    NEVER,
  );
  const before = await look(driver, wanted);
  const { uid, namespace } = vm.metadata;
  const identity = {
    storeUID: store.uid,
    uid,
    namespace,
    name,
    wanted,
    spec: recordedSpec(vm.spec),
    facts: before.facts,
    sudo: false,
  };
  const off = { ...identity, stop: undefined, process: { kind: 'absent', pidfileLeft: false } } as const;
  await driver.execute({ type: 'claim-folder' }, { ...off, record: undefined }, NEVER);
  const seen = await look(driver, wanted);
  const record = seen.folders.get(wanted.folder)?.record;
  await store.close();
  if (record?.kind !== 'readable') throw new Error(`${wanted.folder} has no record`);
  return { driver, context: { ...off, record: record.record }, bootID: seen.bootID };
}

async function look(driver: QemuDriver, wanted: EffectiveSpec): Promise<SeenHost> {
  const answer = await driver.look({ vmDirs: [wanted.vmDir], vms: [wanted], paths: [] }, NEVER);
  if (answer.kind !== 'seen') throw new Error(answer.message);
  return answer.host;
}

/** Until the guest runs; the record is completed after that, as far as anybody waits for it. */
async function launchOurs({ driver, context, bootID }: Machine): Promise<number> {
  const why = { accelerator: 'TCG', acceleratorReason: 'the bench asks for it' } as const;
  const action = {
    type: 'launch',
    spec: context.wanted.launch,
    nonce: undefined,
    bootID,
    ...why,
    restart: false,
  } as const;
  return untilRuns(context.wanted.folder, () => driver.execute(action, context, NEVER));
}

/** The very command line that a launch runs. */
async function launchByHand(place: Place, { context: { wanted, facts } }: Machine): Promise<number> {
  const qemu = facts.qemu.x86_64;
  if (qemu === undefined) throw new Error('qemu-system-x86_64 is not installed');
  const { vmName, folder, launch: spec } = wanted;
  const [program = '', ...args] = commandLine({ vmName, folder, spec, accelerator: 'TCG', qemu });
  return untilRuns(folder, () => place.run(program, args));
}

async function launchLibvirt(libvirt: Libvirt): Promise<number> {
  const ms = await timed(() => libvirt.virsh(['start', 'launch']));
  await libvirt.virsh(['destroy', 'launch']);
  return ms;
}

/** Milliseconds from the start of the work until QEMU says that its guest runs. The VM is then ended. */
async function untilRuns(folder: string, work: () => Promise<void>): Promise<number> {
  const from = performance.now();
  const done = work();
  done.catch(() => undefined);
  while (!existsSync(join(folder, FOLDER_FILES.userMonitor))) await Promise.race([sleep(1), failureOf(done)]);
  while ((await runState(folder).catch(() => 'no answer')) !== 'running') await sleep(1);
  const ms = performance.now() - from;
  await done;
  const pid = Number(readFileSync(join(folder, FOLDER_FILES.pidfile), 'utf8'));
  await qmp(folder, 'quit');
  await untilGone(pid);
  return ms;
}

/** Rejects where the work does, and never resolves. */
async function failureOf(work: Promise<void>): Promise<void> {
  await work;
  await new Promise(() => undefined);
}
