/** The archive for a bug report: what was seen, without what is nobody's business. */
import { randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { FOLDER_FILES } from '../api/effective-spec.ts';
import type { AnyObject } from '../api/kinds.ts';
import type { Shell } from '../host/shell.ts';
import type { Check } from './check.ts';
import { Redactor } from './redact.ts';
import { type TarFile, tarOf } from './tar.ts';
import { CONTROLLER_UNIT } from './unit-files.ts';

/** Of each log, from its end. */
const LOG_BYTES = 65_536;
const JOURNAL_LINES = 500;
/** VMs whose files are taken. */
const MOST_FOLDERS = 200;
const TIMEOUT_MS = 60_000;

const JSON_FILES: readonly string[] = [FOLDER_FILES.record, FOLDER_FILES.stop, FOLDER_FILES.job];
const TEXT_FILES: readonly string[] = [FOLDER_FILES.log, `${FOLDER_FILES.log}.1`, FOLDER_FILES.jobErrors];

const READ = `
LC_ALL=C; export LC_ALL
nonce=$1; shift
[ "$(id -u)" = 0 ] && u= || { u=--user; XDG_RUNTIME_DIR=\${XDG_RUNTIME_DIR:-/run/user/$(id -u)}; export XDG_RUNTIME_DIR; }
for folder in "$@"; do
  for name in ${[...JSON_FILES, ...TEXT_FILES].join(' ')}; do
    [ -f "$folder/$name" ] && { printf '\\n@%s %s %s\\n' "$nonce" "$name" "$folder"; tail -c ${LOG_BYTES} "$folder/$name"; }
  done
done
printf '\\n@%s journal\\n' "$nonce"
command -v journalctl >/dev/null && timeout 20 journalctl $u -u ${CONTROLLER_UNIT} -n ${JOURNAL_LINES} -o short-iso --no-hostname --no-pager 2>/dev/null
printf '\\n@%s end\\n' "$nonce"
`;

const CONTENTS = `A report about a machine with qemu-operator.

In it: the doctor's checks, versions, objects with their status, of each machine on this host the ownership record,
the stop marker, the job that makes a disk and the end of QEMU's logs, and the end of the service's journal.

Left out, always: cloud-init's data and keys, Secrets and the folder that holds them, passwords, tokens and keys
wherever they look like that, annotations of others, who signs in to a URL and its query, command lines and
environments of processes, what guests printed on their consoles, and what is on disks.

Replaced by stand-ins, the same for the same value: IP addresses (except loopback and QEMU's own network) and ids of
32 hexadecimal digits such as the machine's. The home folder is written as ~.

Still in it: names of machines and objects, paths, MAC addresses, sizes and times. Look through it before you send it.
`;

export interface BundleInput {
  readonly checks: readonly Check[];
  readonly versions: Readonly<Record<string, unknown>>;
  readonly objects: readonly AnyObject[];
  /** Folders of the VMs on this machine. */
  readonly folders: readonly string[];
  readonly home: string | undefined;
}

/** A gzipped tar archive. */
export async function bundle(shell: Shell, input: BundleInput, signal: AbortSignal): Promise<Buffer> {
  const redactor = new Redactor(input.home);
  const json = (value: unknown) => `${JSON.stringify(redactor.value(value), undefined, 2)}\n`;
  const files: TarFile[] = [
    { name: 'README.txt', text: CONTENTS },
    { name: 'versions.json', text: json(input.versions) },
    { name: 'doctor.json', text: json({ checks: input.checks }) },
    ...input.objects.map((object, i) => ({ name: `objects/${number(i)}-${object.kind}.json`, text: json(object) })),
    ...(await hostFiles(shell, input.folders.slice(0, MOST_FOLDERS), redactor, signal)),
  ];
  const top = 'qemu-operator-report';
  const named = files.map(({ name, text }) => ({ name: `${top}/${name}`, text }));
  return gzipSync(tarOf(named, Math.floor(Date.now() / 1000)));
}

/** Names of objects and folders stand inside the files: a name in the archive is ours. */
function number(i: number): string {
  return String(i + 1).padStart(4, '0');
}

async function hostFiles(
  shell: Shell,
  folders: readonly string[],
  redactor: Redactor,
  signal: AbortSignal,
): Promise<TarFile[]> {
  const nonce = randomBytes(6).toString('hex');
  const { stdout } = await shell.run(READ, [nonce, ...folders], { timeoutMs: TIMEOUT_MS, signal });
  const pieces = stdout.toString('utf8').split(`\n@${nonce} `).slice(1);
  return pieces.flatMap((piece): TarFile[] => {
    const end = piece.indexOf('\n');
    const [name = '', ...words] = piece.slice(0, end).split(' ');
    const text = piece.slice(end + 1);
    if (name === 'end') return [];
    if (name === 'journal') return [{ name: 'journal.txt', text: redactor.text(text) }];
    const at = number(folders.indexOf(words.join(' ')));
    const isJson = JSON_FILES.includes(name);
    return [
      {
        name: `machines/${at}/${name.replace(/^\./, '')}`,
        text: isJson ? recordText(text, redactor) : redactor.text(text),
      },
    ];
  });
}

function recordText(text: string, redactor: Redactor): string {
  try {
    return `${JSON.stringify(redactor.value(JSON.parse(text)), undefined, 2)}\n`;
  } catch {
    return `(damaged, ${text.length} characters)\n`;
  }
}
