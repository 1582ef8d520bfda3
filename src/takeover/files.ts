/** The files that a QEMU process was started with, as the user that looks may see them. */
import { resolve } from 'node:path/posix';
import type { Shell } from '../host/shell.ts';
import type { QemuProcess } from './machine.ts';

export interface FoundFile {
  /** Absolute, and as near to how the process was told of it as can be. */
  readonly named: string;
  readonly kind: 'file' | 'block' | 'other' | 'absent';
  readonly readable: boolean;
  /** With symbolic links resolved. */
  readonly real: string;
  /** Its first KiB. */
  readonly head: Buffer;
  /** Whether the process has it open; undefined where nobody may know. */
  readonly isOpen?: boolean;
  /** Where it is not, those of this base name that the process has open. */
  readonly namesakes: readonly string[];
}

const TIMEOUT_MS = 10_000;
const HEAD_BYTES = 1024;

/** Arguments: the process, then paths. A file is the one that the process has if both lead to the same inode. */
const LOOK = `
LC_ALL=C; export LC_ALL
e() { base64 -w 0; }
fds=/proc/$1/fd; shift
known=0; [ -r "$fds" ] && [ -x "$fds" ] && known=1
namesakes() {
  for fd in "$fds"/*; do
    t=$(readlink -- "$fd") && [ "\${t##*/}" = "\${1##*/}" ] && [ "$t" -ef "$fd" ] && printf '%s\\0' "$t"
  done
}
for f in "$@"; do
  kind=absent; [ -e "$f" ] && kind=other; [ -f "$f" ] && kind=file; [ -b "$f" ] && kind=block
  readable=0; [ -r "$f" ] && readable=1
  open=-; [ $known = 1 ] && open=0
  for fd in "$fds"/*; do [ "$fd" -ef "$f" ] && { open=1; break; }; done
  echo "@file $kind $readable $open $(readlink -m -- "$f" | e) $([ $open = 0 ] && namesakes "$f" | e) $(case $kind in file|block) head -c ${HEAD_BYTES} -- "$f" 2>/dev/null | e ;; esac)"
done
return 0
`;

/**
 * QEMU leaves the folder that it was started in when it goes into the background: a relative path that leads nowhere
 * now, or to another file, is the one of that base name that it has open, where there is but one.
 * @throws what Shell.run throws
 */
export async function findFiles(
  shell: Shell,
  { pid, cwd = '/' }: QemuProcess,
  media: readonly { readonly path: string }[],
  signal: AbortSignal,
): Promise<readonly FoundFile[]> {
  const paths = media.map(({ path }) => resolve(cwd, path));
  const files = await look(shell, pid, paths, signal);
  const better = files.map(({ named, namesakes: [first, ...more] }, index) =>
    first === undefined || more.length > 0 || media[index]?.path.startsWith('/') === true ? named : first,
  );
  return better.every((path, index) => path === paths[index]) ? files : look(shell, pid, better, signal);
}

async function look(
  shell: Shell,
  pid: number,
  paths: readonly string[],
  signal: AbortSignal,
): Promise<readonly FoundFile[]> {
  if (paths.length === 0) return [];
  const { stdout } = await shell.run(LOOK, [String(pid), ...paths], { timeoutMs: TIMEOUT_MS, signal });
  return stdout
    .toString('latin1')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([first]) => first === '@file')
    .map(([, kind, readable, open, real = '', namesakes = '', head = ''], index) => ({
      named: paths[index] ?? '',
      kind: kind as FoundFile['kind'],
      readable: readable === '1',
      real: text(real).trimEnd(),
      head: Buffer.from(head, 'base64'),
      ...(open === '-' ? {} : { isOpen: open === '1' }),
      namesakes: [...new Set(text(namesakes).split('\0').slice(0, -1))],
    }));
}

function text(base64: string): string {
  return Buffer.from(base64, 'base64').toString('utf8');
}
