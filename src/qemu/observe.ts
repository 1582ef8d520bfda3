/** From a probe and the monitors' answers to what was seen. */
import { dirname } from 'node:path/posix';
import { FOLDER_FILES } from '../api/effective-spec.ts';
import { oneLine } from '../api/errors.ts';
import type { LookRequest } from '../reconcile/driver.ts';
import { parseJobReport, type SeenJob } from '../reconcile/job.ts';
import type {
  GuestStatus,
  HostFacts,
  SeenFile,
  SeenFolder,
  SeenHost,
  SeenProcess,
  SeenStranger,
  SeenVmDir,
} from '../reconcile/observed.ts';
import { parseMarker, parseStopMarker, type RecordState } from '../reconcile/record.ts';
import type { Addresses } from './addresses.ts';
import type { Agents } from './agents.ts';
import { vmFolderIn } from './cmdline.ts';
import { seenInside } from './guest-inside.ts';
import type { GuestAnswers, GuestMonitor } from './guest-monitor.ts';
import { parseImageHeader } from './image-header.ts';
import type { Monitors } from './monitors.ts';
import type { Probe, ProbedVmDir } from './probe.ts';
import type { ProbedPath } from './probe-paths.ts';
import type { Records } from './records.ts';

const MAX_STRANGERS = 50;

export interface Surroundings {
  readonly facts: HostFacts;
  readonly roundTripMs: number;
  /** Boot architectures of the ISO images that were asked for. */
  readonly boots: ReadonlyMap<string, SeenFileBoots>;
  readonly records: Records;
  readonly monitors: Monitors;
  readonly guests: GuestMonitor;
  /** Asked while the probe was under way, by folder: of the process that was known there. */
  readonly ahead: ReadonlyMap<string, AskedAhead>;
  readonly agents: Agents;
  readonly addresses: Addresses;
  /** By folder, stop markers for which there was no room on the host: newer than what lies there. */
  readonly unwrittenStops: ReadonlyMap<string, string>;
}
export interface AskedAhead {
  readonly pid: number;
  answers(): Promise<GuestAnswers>;
}

export type SeenFileBoots = NonNullable<Extract<SeenFile, { kind: 'present' }>['bootArchitectures']>;

export async function seenHost(probe: Probe, request: LookRequest, around: Surroundings): Promise<SeenHost> {
  const asked = new Set(request.vms.map(({ folder }) => folder));
  const { foreignVmDirs = [] } = request;
  const folders = new Map<string, SeenFolder>();
  const foreignFolders = new Map<string, SeenFolder>();
  for (const vmDir of probe.vmDirs) {
    for (const name of vmDir.folders.keys()) {
      const folder = seenFolder({ probe, vmDir, name }, around);
      (foreignVmDirs.includes(vmDir.path) ? foreignFolders : folders).set(folder.path, folder);
    }
  }
  const living = [...folders.values()].filter(({ path, process }) => asked.has(path) && process.kind === 'present');
  const guests = await Promise.all(living.map((folder) => seenGuest(folder, probe, around)));
  living.forEach((folder, index) => {
    folders.set(folder.path, { ...folder, process: { ...folder.process, ...guests[index] } as SeenProcess });
  });
  await Promise.all([...folders.values()].map((folder) => heardOut(folder, around.monitors)));
  return {
    at: probe.at,
    bootID: probe.bootID,
    machineID: probe.machineID,
    roundTripMs: around.roundTripMs,
    vmDirs: new Map(probe.vmDirs.map((vmDir) => [vmDir.path, seenVmDir(vmDir)])),
    folders,
    foreignFolders,
    files: new Map([...probe.paths].map(([path, file]) => [path, seenFile(file, around.boots.get(path))])),
    ports: probe.ports,
    bridges: probe.bridges,
    strangers: strangersOf(probe, [...folders.values(), ...foreignFolders.values()], foreignVmDirs),
    facts: around.facts,
  };
}

/** The end of a process is told by the look and by its monitor: whoever tells first, both are heard. */
async function heardOut({ path, process, record }: SeenFolder, monitors: Monitors): Promise<void> {
  const pid = record.kind === 'readable' ? record.record.launch?.pid : undefined;
  if (process.kind === 'absent' && pid !== undefined) await monitors.heardOut(path, pid);
}

function seenVmDir({ path, state, marker, freeBytes, totalBytes }: ProbedVmDir): SeenVmDir {
  return {
    path,
    state,
    marker: parseMarker(marker),
    ...(freeBytes === undefined ? {} : { freeBytes }),
    ...(totalBytes === undefined ? {} : { totalBytes }),
  };
}

/** What cannot be read is not absent. */
function recordOf({ vmDir, name }: Place, path: string, records: Records): RecordState {
  if (vmDir.closed.has(name)) return { kind: 'invalid', message: 'this user may not look into the folder' };
  const text = vmDir.records.get(name);
  if (text === undefined && vmDir.folders.get(name)?.includes(FOLDER_FILES.record))
    return { kind: 'invalid', message: 'it is empty or this user may not read it' };
  return records.of(path, text);
}

interface Place {
  readonly probe: Probe;
  readonly vmDir: ProbedVmDir;
  readonly name: string;
}

function seenFolder(place: Place, around: Pick<Surroundings, 'records' | 'unwrittenStops'>): SeenFolder {
  const { probe, vmDir, name } = place;
  const path = vmDir.path === '/' ? `/${name}` : `${vmDir.path}/${name}`;
  const entries = vmDir.folders.get(name) ?? [];
  const record = recordOf(place, path, around.records);
  return {
    path,
    vmDir: vmDir.path,
    name,
    record,
    stop: parseStopMarker(around.unwrittenStops.get(path) ?? vmDir.stops.get(name)),
    entries,
    process: seenProcess(probe, vmDir.pids.get(name), record, path),
    job: seenJob(probe, vmDir.jobs.get(name)),
    logTail: probe.logs.get(path) ?? '',
  };
}

function seenProcess(
  probe: Probe,
  pidfile: { readonly pid: number; readonly inode: string } | undefined,
  record: RecordState,
  path: string,
): SeenProcess {
  const pid = lockHolder(probe, pidfile) ?? launchedProcess(probe, record);
  const found = pid === undefined ? undefined : probe.processes.get(pid);
  if (pid === undefined || found === undefined) return { kind: 'absent', pidfileLeft: pidfile !== undefined };
  const startedAt = probe.at - (probe.uptimeSeconds - found.startTicks / probe.ticksPerSecond) * 1000;
  return {
    kind: 'present',
    pid,
    startTicks: found.startTicks,
    startedAt: Math.round(startedAt),
    guest: probe.listening.has(`${path}/${FOLDER_FILES.monitor}`) ? 'not-asked' : 'silent',
  };
}

function seenJob(probe: Probe, found: ReturnType<ProbedVmDir['jobs']['get']>): SeenJob | undefined {
  const report = found === undefined ? undefined : parseJobReport(found.report);
  if (report === undefined) return undefined;
  const { pid, startTicks, bootID } = report;
  // Another process was looked for than the report is of: it has only just begun.
  const fresh = found?.process !== undefined && found.process.pid !== pid;
  const same = found?.process?.startTicks === startTicks && !['Z', 'X'].includes(found.process.state);
  return { ...report, running: bootID === probe.bootID && (fresh || same) };
}

/** QEMU holds a lock on its pidfile for life: the one proof of identity that survives reused pids and reboots. */
function lockHolder(
  probe: Probe,
  pidfile: { readonly pid: number; readonly inode: string } | undefined,
): number | undefined {
  if (pidfile === undefined || !probe.lockHolders.get(pidfile.inode)?.has(pidfile.pid)) return undefined;
  return lives(probe, pidfile.pid) ? pidfile.pid : undefined;
}

/** Where somebody removed or overwrote the pidfile, the process that the record names still is the VM's: it has not ended. */
function launchedProcess(probe: Probe, record: RecordState): number | undefined {
  const launch = record.kind === 'readable' ? record.record.launch : undefined;
  if (launch?.pid === undefined || launch.bootID !== probe.bootID || !lives(probe, launch.pid)) return undefined;
  return probe.processes.get(launch.pid)?.startTicks === launch.startTicks ? launch.pid : undefined;
}

function lives(probe: Probe, pid: number): boolean {
  const state = probe.processes.get(pid)?.state;
  return state !== undefined && state !== 'Z' && state !== 'X';
}

type Guest = Partial<Extract<SeenProcess, { kind: 'present' }>> & { readonly guest: GuestStatus };

async function seenGuest(folder: SeenFolder, probe: Probe, around: Surroundings): Promise<Guest> {
  const { path, process } = folder;
  if (process.kind !== 'present' || !probe.listening.has(`${path}/${FOLDER_FILES.monitor}`)) return { guest: 'silent' };
  const { pid } = process;
  const ahead = around.ahead.get(path);
  try {
    const answers =
      ahead?.pid === pid ? await ahead.answers() : await around.guests.ask(await around.monitors.get(path, pid));
    const { status, diskBytes, machine } = answers;
    return { guest: status, diskBytes, machine, ...(await seenInside(folder, { answers, pid, probe }, around)) };
  } catch {
    return { guest: 'silent' };
  }
}

function seenFile(file: ProbedPath, boots: SeenFileBoots | undefined): SeenFile {
  const { stat, resolved, head } = file;
  if (stat === undefined) {
    const beside = file.beside === undefined ? {} : { beside: file.beside };
    return { kind: 'absent', parent: file.parent ? 'present' : 'absent', resolved, link: file.link, ...beside };
  }
  const type = /^regular/.test(stat.type) ? 'file' : /^block/.test(stat.type) ? 'block-device' : 'other';
  // An empty file has no head; it is an empty raw image.
  const header =
    head !== undefined
      ? parseImageHeader(head, resolved)
      : stat.bytes === 0 && type === 'file'
        ? { format: 'raw' as const }
        : undefined;
  const virtualBytes = header?.virtualBytes ?? (header?.format === 'raw' ? stat.bytes : undefined);
  return {
    kind: 'present',
    resolved,
    type,
    readable: file.readable,
    ...(header === undefined ? {} : { format: header.format }),
    ...(virtualBytes === undefined ? {} : { virtualBytes }),
    actualBytes: stat.actualBytes,
    ...(file.freeBytes === undefined ? {} : { freeBytes: file.freeBytes }),
    ...(header?.refersTo === undefined ? {} : { refersTo: header.refersTo }),
    ...(boots === undefined ? {} : { bootArchitectures: boots }),
  };
}

/**
 * Name and architecture only: the rest of a stranger's command line may hold secrets.
 * @param foreignVmDirs what runs from them is no stranger, even where this user may not look into them
 */
function strangersOf(probe: Probe, folders: readonly SeenFolder[], foreignVmDirs: readonly string[]): SeenStranger[] {
  const ours = new Set(folders.map(({ process }) => (process.kind === 'present' ? process.pid : 0)));
  const strangers: SeenStranger[] = [];
  for (const [pid, argv] of probe.strangers) {
    if (ours.has(pid)) continue;
    const folder = vmFolderIn(argv);
    if (folder !== undefined && foreignVmDirs.includes(dirname(folder))) continue;
    const architecture =
      /qemu-system-([a-z0-9_]+)$/.exec(argv[0] ?? '')?.[1] ?? (/qemu-kvm$/.test(argv[0] ?? '') ? 'x86_64' : undefined);
    if (architecture === undefined) continue;
    const at = argv.indexOf('-name');
    const name = at < 0 ? '' : (argv[at + 1] ?? '').split(',')[0]?.replace(/^guest=/, '');
    strangers.push({
      name: oneLine(name ?? '', 128),
      architecture: architecture === 'aarch64' ? 'arm64' : architecture,
      pid,
    });
  }
  return strangers.slice(0, MAX_STRANGERS);
}
