/** What is on a machine that may be taken over: the QEMU processes, and the VM folders with their records. */
import { FOLDER_FILES } from '../api/effective-spec.ts';
import type { Shell } from '../host/shell.ts';
import { parseRecord, type RecordState } from '../reconcile/record.ts';

export interface QemuProcess {
  readonly pid: number;
  readonly startTicks: number;
  /** May hold secrets. */
  readonly argv: readonly string[];
  /** The folder that its relative paths are of; undefined where this user may not know. */
  readonly cwd?: string;
}

export interface VmFolder {
  readonly vmDir: string;
  readonly name: string;
  readonly path: string;
  readonly record: Exclude<RecordState, { kind: 'absent' }>;
  /** That runs from it; undefined where none does. */
  readonly process?: QemuProcess;
}

export interface MachineSight {
  readonly machineID: string;
  /** All of them: those of VM folders too. */
  readonly processes: readonly QemuProcess[];
  /** Folders without a record are nobody's, and left out. */
  readonly folders: readonly VmFolder[];
}

const TIMEOUT_MS = 10_000;
const MAX_WORDS_BYTES = 256 * 1024;
const MAX_RECORD_BYTES = 1024 * 1024;

/** All that others wrote comes as base64; \`-\` stands for what cannot be read. Arguments: the vmDirs. */
const LOOK = `
LC_ALL=C; export LC_ALL
e() { base64 -w 0; }
boot=; read -r boot </proc/sys/kernel/random/boot_id
echo "@boot $boot"
mid=; read -r mid </etc/machine-id
echo "@machine $mid"
for f in $(grep -sl '^qemu-' /proc/[0-9]*/comm); do
  d=\${f%/comm}
  stat=; { read -r stat <"$d/stat"; } 2>/dev/null || continue
  ticks=$(printf '%s' "\${stat##*) }" | cut -d ' ' -f 20)
  cwd=$(readlink "$d/cwd" 2>/dev/null | e)
  echo "@process \${d#/proc/} $ticks \${cwd:--} $(head -c ${MAX_WORDS_BYTES} "$d/cmdline" 2>/dev/null | e)"
done
for d in "$@"; do
  for f in "\${d%/}"/*/${FOLDER_FILES.record}; do
    [ -e "$f" ] || continue
    line=$(head -c ${MAX_RECORD_BYTES} "$f" 2>/dev/null | head -n 1 | e)
    name=\${f%/*}
    echo "@folder $(printf %s "$d" | e) $(printf %s "\${name##*/}" | e) \${line:--}"
  done
done
`;

/** @throws what Shell.run throws */
export async function lookAtMachine(
  shell: Shell,
  vmDirs: readonly string[],
  signal: AbortSignal,
): Promise<MachineSight> {
  const { stdout } = await shell.run(LOOK, vmDirs, { timeoutMs: TIMEOUT_MS, signal });
  const lines = stdout
    .toString('latin1')
    .split('\n')
    .map((line) => line.split(' '));
  const of = (word: string) => lines.filter(([first]) => first === word);
  const bootID = of('@boot')[0]?.[1] ?? '';
  const machineID = of('@machine')[0]?.[1] ?? '';
  const processes = of('@process').map(processOf);
  return { machineID, processes, folders: of('@folder').map((line) => folderOf(line, processes, bootID)) };
}

function processOf([, pid, ticks, cwd = '-', words = '']: readonly string[]): QemuProcess {
  const argv = text(words).split('\0').slice(0, -1);
  return { pid: Number(pid), startTicks: Number(ticks), argv, ...(cwd === '-' ? {} : { cwd: text(cwd).trimEnd() }) };
}

function folderOf(line: readonly string[], processes: readonly QemuProcess[], bootID: string): VmFolder {
  const [, dir = '', named = '', content = '-'] = line;
  const [vmDir, name] = [text(dir), text(named)];
  const path = vmDir === '/' ? `/${name}` : `${vmDir}/${name}`;
  const state = parseRecord(content === '-' ? '' : text(content).trimEnd());
  const record = state.kind === 'absent' ? { kind: 'invalid' as const, message: 'it cannot be read' } : state;
  const process = processes.find((one) => isOf(one, path, record, bootID));
  return { vmDir, name, path, record, ...(process === undefined ? {} : { process }) };
}

/** By the pidfile that it was told to keep; where that word is hidden, by what the record names. */
function isOf({ pid, startTicks, argv }: QemuProcess, path: string, record: RecordState, bootID: string): boolean {
  if (argv[argv.indexOf('-pidfile') + 1] === `${path}/${FOLDER_FILES.pidfile}`) return true;
  const launch = record.kind === 'readable' ? record.record.launch : undefined;
  return launch?.bootID === bootID && launch.pid === pid && launch.startTicks === startTicks;
}

function text(base64: string): string {
  return Buffer.from(base64, 'base64').toString('utf8');
}
