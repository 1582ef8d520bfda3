/** What of a VM is on its host now: the command line of its process, and which of our files are in its folder. */
import { FOLDER_FILES } from '../api/effective-spec.ts';
import type { Shell } from '../host/shell.ts';

export interface VmOnHost {
  /** Of the QEMU process as it runs; undefined where there is none, or it is hidden from us. */
  readonly argv: readonly string[] | undefined;
  /** Files of the folder by name, with their sizes in bytes. */
  readonly files: ReadonlyMap<string, number>;
}

const TIMEOUT_MS = 3_000;
const MAX_OUTPUT_BYTES = 1024 * 1024;

/** The process is the one that QEMU's own pidfile names. What cannot be read is left out. */
const LOOK = `
folder=$1 pidfile=$2; shift 2
echo @files
for name in "$@"; do
  [ -e "$folder/$name" ] && printf '%s %s\\n' "$(stat -c %s "$folder/$name" 2>/dev/null || echo 0)" "$name"
done
echo @argv
pid=; [ -r "$folder/$pidfile" ] && read -r pid <"$folder/$pidfile"
case $pid in ''|*[!0-9]*) ;; *) [ -r "/proc/$pid/cmdline" ] && cat "/proc/$pid/cmdline" ;; esac
return 0
`;

/** @throws what Shell.run throws */
export async function lookAtVm(shell: Shell, folder: string, signal: AbortSignal): Promise<VmOnHost> {
  const names = [...Object.values(FOLDER_FILES), `${FOLDER_FILES.log}.1`];
  const options = { timeoutMs: TIMEOUT_MS, maxOutputBytes: MAX_OUTPUT_BYTES, signal };
  const { stdout } = await shell.run(LOOK, [folder, FOLDER_FILES.pidfile, ...names], options);
  const text = stdout.toString('utf8');
  const [, files = '', words = ''] = /(?:^|\n)@files\n((?:\d+ \S+\n)*)@argv\n([\s\S]*)$/.exec(text) ?? [];
  const argv = words.split('\0').slice(0, -1);
  return {
    // A pid that the kernel has given away belongs to somebody else's command line.
    argv: argv.includes(`${folder}/${FOLDER_FILES.pidfile}`) ? argv : undefined,
    files: new Map(
      files
        .trimEnd()
        .split('\n')
        .map((line): [string, number] => [line.slice(line.indexOf(' ') + 1), Number(line.split(' ')[0])])
        .filter(([name]) => name !== ''),
    ),
  };
}
