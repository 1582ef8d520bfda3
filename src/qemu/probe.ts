/**
 * One look at a host as one script (probe-script.ts), its answer read into plain facts; observe.ts gives them meaning.
 * Whatever lies in files is data: lines are told apart by the paths that we asked for, never by their content.
 */

import { randomBytes } from 'node:crypto';
import { FOLDER_FILES, MARKER_FILE } from '../api/effective-spec.ts';
import { oneLine } from '../api/errors.ts';
import type { Shell } from '../host/shell.ts';
import type { SeenBridge } from '../reconcile/observed.ts';
import { neighboursIn } from './addresses.ts';
import { type ProbedPort, portsOf } from './ports.ts';
import { type ProbedPath, pathsOf, utf8 } from './probe-paths.ts';
import { listeningOf, lockHoldersOf, type ProbedProcess, processesOf } from './probe-processes.ts';
import { PROBE_SCRIPT } from './probe-script.ts';

export interface ProbeRequest {
  readonly vmDirs: readonly string[];
  /** Folders whose QEMU log matters now. */
  readonly logs: readonly string[];
  readonly paths: readonly string[];
  /** Whether it matters who listens on which port, and which bridges there are. */
  readonly ports: boolean;
  readonly bridges: boolean;
  /** Clock ticks of the host, where they are known. */
  readonly ticksPerSecond?: number | undefined;
  readonly bootIdFile: string;
  readonly machineIdFile: string;
}

export interface Probe {
  readonly uptimeSeconds: number;
  readonly bootID: string;
  readonly machineID: string;
  /** Host clock, ms. */
  readonly at: number;
  readonly ticksPerSecond: number;
  /** Changes when a QEMU binary, its firmware or /dev/kvm does. */
  readonly toolsKey: string;
  readonly vmDirs: readonly ProbedVmDir[];
  /** Inode of a file to the pids that hold a lock on it: file systems number their inodes alike. */
  readonly lockHolders: ReadonlyMap<string, ReadonlySet<number>>;
  /** By MAC address in lower case, the addresses that the host has for its neighbours. */
  readonly neighbours: ReadonlyMap<string, readonly string[]>;
  /** Paths of UNIX sockets that somebody listens on. */
  readonly listening: ReadonlySet<string>;
  readonly processes: ReadonlyMap<number, ProbedProcess>;
  readonly strangers: ReadonlyMap<number, readonly string[]>;
  readonly logs: ReadonlyMap<string, string>;
  readonly paths: ReadonlyMap<string, ProbedPath>;
  readonly ports: readonly ProbedPort[];
  readonly bridges: ReadonlyMap<string, SeenBridge>;
}

export interface ProbedVmDir {
  readonly path: string;
  readonly state: 'present' | 'absent' | 'not-writable';
  readonly freeBytes?: number;
  readonly totalBytes?: number;
  readonly marker?: string;
  /** Folder names to the names in them. */
  readonly folders: ReadonlyMap<string, readonly string[]>;
  /** Folders that this user may not look into. */
  readonly closed: ReadonlySet<string>;
  readonly records: ReadonlyMap<string, string>;
  readonly stops: ReadonlyMap<string, string>;
  readonly pids: ReadonlyMap<string, { readonly pid: number; readonly inode: string }>;
  /** The report of a folder's job, and the process that it names as it was just before. */
  readonly jobs: ReadonlyMap<string, { readonly report: string; readonly process?: ProbedJobProcess }>;
}

export interface ProbedJobProcess extends ProbedProcess {
  readonly pid: number;
}

/** The script's own refusal: it lacks its tools. */
const EXIT_MISSING = 69;
const TIMEOUT_MS = 15_000;

/** @throws HostUnreachableError, ScriptTimeoutError, or Error where the host's answer makes no sense */
export async function probe(shell: Shell, request: ProbeRequest, signal: AbortSignal): Promise<Probe> {
  const { vmDirs, logs, paths } = request;
  const nonce = randomBytes(6).toString('hex');
  const args = [
    nonce,
    request.bootIdFile,
    request.machineIdFile,
    `${request.ports ? 'ports' : ''} ${request.bridges ? 'bridges' : ''}`,
    String(request.ticksPerSecond ?? ''),
    String(vmDirs.length),
    String(logs.length),
    ...vmDirs,
    ...logs,
    ...paths,
  ];
  const result = await shell.run(PROBE_SCRIPT, args, { timeoutMs: TIMEOUT_MS, signal });
  if (result.code === EXIT_MISSING) throw new Error(oneLine(result.stderr.toString('utf8'), 300));
  return parseProbe(result.stdout, request, nonce);
}

interface Section {
  readonly name: string;
  readonly argument: string;
  readonly lines: string[];
}

/** Latin-1 keeps every byte; names and values are turned into UTF-8 where they are taken out. */
export function parseProbe(output: Buffer, request: ProbeRequest, nonce: string): Probe {
  const sections = sectionsOf(output.toString('latin1'), nonce);
  if (sections.at(-1)?.name !== 'end') throw new Error('the probe of the host ended early');
  const first = (name: string) => sections.find((section) => section.name === name)?.lines ?? [];
  const [uptime, bootID, machineID, at, ticks] = (first('host')[0] ?? '').split(' ');
  return {
    uptimeSeconds: Number(uptime),
    bootID: bootID ?? '',
    machineID: machineID ?? '',
    at: Number(at),
    ticksPerSecond: Number(ticks),
    toolsKey: first('tools').join('\n'),
    vmDirs: vmDirsOf(sections),
    lockHolders: lockHoldersOf(first('locks')),
    neighbours: neighboursIn(first('neighbours')),
    listening: listeningOf(first('unix')),
    processes: processesOf(first('stat')),
    strangers: strangersOf(sections),
    logs: logsOf(first('logs'), request.logs),
    paths: pathsOf(first, request.paths),
    ports: portsOf(first('ports')),
    bridges: bridgesOf(first('bridges')),
  };
}

/** Text before the first marker is a noisy login script's. The nonce keeps file names and contents from faking one. */
function sectionsOf(text: string, nonce: string): Section[] {
  const marker = new RegExp(`^@${nonce} (\\w+)(?: (.*))?$`);
  const sections: Section[] = [];
  for (const line of text.split('\n')) {
    const match = line.startsWith('@') ? marker.exec(line) : null;
    if (match !== null) sections.push({ name: match[1] ?? '', argument: utf8(match[2] ?? ''), lines: [] });
    else sections.at(-1)?.lines.push(line);
  }
  return sections;
}

function vmDirsOf(sections: readonly Section[]): ProbedVmDir[] {
  const starts = sections.flatMap((section, index) => (section.name === 'vmdir' ? [index] : []));
  return starts.map((start) => {
    const head = sections[start] ?? { argument: '', lines: [] };
    const part = (name: string) => {
      const section = sections.slice(start + 1, start + 9).find((candidate) => candidate.name === name);
      return section?.lines ?? [];
    };
    const state = head.lines[0] === 'present' || head.lines[0] === 'not-writable' ? head.lines[0] : 'absent';
    if (head.lines[1] === undefined || head.lines[1] === '') {
      const none = {
        folders: new Map(),
        closed: new Set<string>(),
        records: new Map(),
        stops: new Map(),
        pids: new Map(),
        jobs: new Map(),
      };
      return { path: head.argument, state, ...none };
    }
    const [block, free, total] = head.lines[1].split(' ').map(Number);
    const prefix = `./${MARKER_FILE}:`;
    const marker = part('lines').find((line) => line.startsWith(prefix));
    return {
      path: head.argument,
      state,
      freeBytes: (block ?? 0) * (free ?? 0),
      totalBytes: (block ?? 0) * (total ?? 0),
      ...(marker === undefined || marker === '' ? {} : { marker: utf8(marker.slice(prefix.length)) }),
      folders: foldersOf(part('folders'), part('entries')),
      closed: new Set(foldersOf(part('closed'), []).keys()),
      records: namedLines(part('lines'), FOLDER_FILES.record),
      stops: namedLines(part('lines'), FOLDER_FILES.stop),
      pids: pidsOf(part('lines'), part('inodes')),
      jobs: jobsOf(part('jobs')),
    };
  });
}

/** NUL-separated `./name/` and `./name/entry`; an unmatched pattern comes back as itself. */
function foldersOf(folderLines: readonly string[], entryLines: readonly string[]): Map<string, string[]> {
  const folders = new Map<string, string[]>();
  for (const item of folderLines.join('\n').split('\0')) {
    const name = /^\.\/(.*)\/$/s.exec(item)?.[1];
    if (name !== undefined && name !== '*') folders.set(utf8(name), []);
  }
  for (const item of entryLines.join('\n').split('\0')) {
    const match = /^\.\/([^/]*)\/([^/]*)$/s.exec(item);
    if (match?.[1] === undefined || match[2] === undefined || match[2] === '*' || match[2] === '.[!.]*') continue;
    folders.get(utf8(match[1]))?.push(utf8(match[2]));
  }
  return folders;
}

/** `./name/file:first line`, as grep -H prints it; lines of other files are left out. */
function namedLines(lines: readonly string[], file: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of lines) {
    const end = line.indexOf(`/${file}:`);
    // A name has no slash: what stands before the first one is ours, whatever the line's text holds.
    if (!line.startsWith('./') || end < 0 || end !== line.indexOf('/', 2)) continue;
    const name = utf8(line.slice(2, end));
    if (!found.has(name)) found.set(name, utf8(line.slice(end + file.length + 2)));
  }
  return found;
}

function pidsOf(pidLines: readonly string[], inodeLines: readonly string[]): ProbedVmDir['pids'] {
  const inodes = new Map<string, string>();
  for (const line of inodeLines) {
    const match = /^(\d+) \.\/(.*)\/[^/]*$/.exec(line);
    if (match?.[1] !== undefined && match[2] !== undefined) inodes.set(utf8(match[2]), match[1]);
  }
  const pids = new Map<string, { pid: number; inode: string }>();
  for (const [name, text] of namedLines(pidLines, FOLDER_FILES.pidfile)) {
    pids.set(name, { pid: /^\d{1,10}$/.test(text.trim()) ? Number(text) : 0, inode: inodes.get(name) ?? '' });
  }
  // An empty pidfile has an inode but no line.
  for (const [name, inode] of inodes) if (!pids.has(name)) pids.set(name, { pid: 0, inode });
  return pids;
}

/** NUL-separated threes: `./name/file`, the line of /proc/<pid>/stat or nothing, the report. */
function jobsOf(lines: readonly string[]): ProbedVmDir['jobs'] {
  const jobs = new Map<string, { report: string; process?: ProbedJobProcess }>();
  const items = lines.join('\n').split('\0');
  for (let index = 0; index + 2 < items.length; index += 3) {
    const [file = '', stat = '', report = ''] = items.slice(index, index + 3);
    const name = /^\.\/([^/]*)\/[^/]*$/.exec(file)?.[1];
    const [found] = processesOf([stat]);
    if (name === undefined) continue;
    jobs.set(utf8(name), {
      report: utf8(report),
      ...(found === undefined ? {} : { process: { pid: found[0], ...found[1] } }),
    });
  }
  return jobs;
}

function strangersOf(sections: readonly Section[]): Map<number, string[]> {
  const strangers = new Map<number, string[]>();
  for (const { name, argument, lines } of sections) {
    if (name === 'stranger') strangers.set(Number(argument), utf8(lines.join('\n')).split('\0'));
  }
  return strangers;
}

/** `name mtu port...`; names of interfaces have no spaces. */
function bridgesOf(lines: readonly string[]): Map<string, SeenBridge> {
  return new Map(
    lines.flatMap((line): [string, SeenBridge][] => {
      const [name, mtu, ...ports] = line.split(' ');
      return name === undefined || mtu === undefined ? [] : [[name, { mtu: Number(mtu), ports: new Set(ports) }]];
    }),
  );
}

function logsOf(lines: readonly string[], folders: readonly string[]): Map<string, string> {
  const logs = new Map<string, string>();
  for (const line of lines) {
    const end = line.indexOf(`/${FOLDER_FILES.log}\t`);
    const folder = end < 0 ? undefined : utf8(line.slice(0, end));
    if (folder !== undefined && folders.includes(folder))
      logs.set(folder, utf8(line.slice(end + FOLDER_FILES.log.length + 2)));
  }
  return logs;
}
