/**
 * The frame of every effect on a host: one script that holds the vmDir's lock while it works, checks the fence
 * first, and writes files so that a crash leaves the old or the new one.
 */
import { randomBytes } from 'node:crypto';
import { FOLDER_FILES, MARKER_FILE } from '../api/effective-spec.ts';
import { oneLine } from '../api/errors.ts';
import type { RunResult, Shell } from '../host/shell.ts';
import { EffectError, FencedError } from '../reconcile/driver.ts';

export const LOCK_FILE = '.qemu-operator.lock';

const EXIT_FENCED = 78;
const EXIT_BUSY = 75;
/** sysexits.h: EX_CANTCREAT. */
export const EXIT_NO_VM_DIR = 73;

/**
 * `w FILE JSON` writes one line durably; "@now@", "@pid@" and "@ticks@", marked by the nonce, become figures.
 * A take-over holds the lock exclusively, so no effect of a former owner is half done when the epoch rises.
 */
const PRELUDE = `
LC_ALL=C; export LC_ALL; umask 077
nonce=$1 vmdir=$2 epoch=$3 folder=$4 moment=; shift 4
now() { date +%s%3N; }
fail() { printf '%s\\n' "$*" >&2; }
# put NAME VALUE: replaces a stand-in in $text. By the shell alone: a launch is waited for, and each process counts.
put() {
  mark="\\"@$nonce:$1@\\""
  while case $text in *"$mark"*) : ;; *) false ;; esac; do
    text=\${text%%"$mark"*}$2\${text#*"$mark"}
  done
}
w() {
  t="$1.tmp$$" text=$2
  case $text in *"@$nonce:now@"*) moment=\${moment:-$(now)}; put now "$moment" ;; esac
  put pid "\${pid:-0}"; put ticks "\${ticks:-0}"
  # A shell's own printf calls a full disk an I/O error; cat tells the two apart.
  { printf '%s\\n' "$text" >"$t"; } 2>/dev/null || printf '%s\\n' "$text" | cat >"$t" || { rm -f "$t"; return 1; }
  sync "$t" && mv -f "$t" "$1" || { rm -f "$t"; fail "cannot write $1"; return 1; }
}
# Clock ticks since boot at which a process started: with the pid its identity.
started() {
  [ -r "/proc/$1/stat" ] && read -r stat <"/proc/$1/stat" || return 1
  set -f; set -- \${stat##*) }; set +f
  printf '%s\\n' "\${20}"
}
# What the user has no right to, where sudo grants it without a password; its other files stay ours.
root() {
  said=$(sudo -n "$@" 2>&1 9>&-) && return 0
  case $said in *sudo:*|*sudoers*|*'not allowed'*) ;; *) fail "$said"; return 1 ;; esac
  refused="sudo -n $*"; way=$(command -v "$1") || way=$1; shift
  # Of ip, what gives away no more than interfaces.
  case $way in */ip) grant="$way tuntap *, $way link *" ;; *) grant="$way $*" ;; esac
  fail "$(id -un) is refused $refused ($said). Grant it on the host: echo '$(id -un) ALL=(root) NOPASSWD: $grant' | sudo tee -a /etc/sudoers.d/qemu-operator"
  return 1
}
`;

const LOCK = `
[ -d "$vmdir" ] || { fail "$vmdir does not exist"; return 1; }
exec 9>>"$vmdir/${LOCK_FILE}" || return 1
`;

const FENCE = `
flock -s -w 20 9 || return ${EXIT_BUSY}
line=; [ -r "$vmdir/${MARKER_FILE}" ] && IFS= read -r line <"$vmdir/${MARKER_FILE}"
raised=\${line#*'"epoch":'}; raised=\${raised%%[!0-9]*}
[ "$raised" = "$epoch" ] || { fail "the vmDir is at epoch \${raised:-none}, this controller at $epoch"; return ${EXIT_FENCED}; }
record="$folder/${FOLDER_FILES.record}"
`;

const TIMEOUT_MS = 120_000;

/** Values that only the host knows, put in where JSON says `stand.now` and so on. */
export interface StandIns {
  readonly nonce: string;
  readonly now: number;
  readonly pid: number;
  readonly ticks: number;
}

export function standIns(): StandIns {
  const nonce = randomBytes(6).toString('hex');
  const stand = (name: string) => `@${nonce}:${name}@` as unknown as number;
  return { nonce, now: stand('now'), pid: stand('pid'), ticks: stand('ticks') };
}

export interface Effect {
  readonly body: string;
  readonly args: readonly string[];
  readonly stand: StandIns;
  /** Reason of a refusal whose words are not known; default InternalError. */
  readonly refusal?: string;
  /** Script that comes before the vmDir's lock is taken. */
  readonly before?: string;
}

export interface EffectPlace {
  readonly vmDir: string;
  readonly epoch: number;
  readonly folder: string;
}

/** @throws EffectError, FencedError, or what the shell throws */
export async function runEffect(
  shell: Shell,
  place: EffectPlace,
  effect: Effect,
  signal: AbortSignal,
): Promise<RunResult> {
  const args = [effect.stand.nonce, place.vmDir, String(place.epoch), place.folder, ...effect.args];
  const result = await shell.run(PRELUDE + LOCK + FENCE + effect.body, args, { timeoutMs: TIMEOUT_MS, signal });
  return checked(result, effect.refusal);
}

/** The claim raises the epoch itself, so it runs without the fence. */
export async function runUnfenced(
  shell: Shell,
  place: EffectPlace,
  effect: Effect,
  signal: AbortSignal,
): Promise<RunResult> {
  const args = [effect.stand.nonce, place.vmDir, String(place.epoch), place.folder, ...effect.args];
  const script = PRELUDE + (effect.before ?? '') + LOCK + effect.body;
  return checked(await shell.run(script, args, { timeoutMs: TIMEOUT_MS, signal }));
}

function checked(result: RunResult, refusal = 'InternalError'): RunResult {
  if (result.code === 0) return result;
  const said = oneLine(result.stderr.toString('utf8'), 700) || `exit code ${result.code} without a word`;
  if (result.code === EXIT_FENCED) throw new FencedError(said);
  if (result.code === EXIT_NO_VM_DIR) throw new EffectError('VMDirMissing', said);
  if (result.code === EXIT_BUSY)
    throw new EffectError('InternalError', `another controller holds the lock of the vmDir: ${said}`);
  throw new EffectError(reasonOf(said) ?? refusal, said);
}

/** QEMU's and qemu-img's words (measured on 7.2 and 10.0) to the reason that a person acts on. */
const REASON_PATTERNS: readonly (readonly [RegExp, string])[] = [
  [/Failed to get ".*" lock|another process using the image/, 'DiskInUse'],
  [/No space left on device|Disk quota exceeded/, 'InsufficientStorage'],
  [/Cannot allocate memory|cannot set up guest memory/, 'InsufficientMemory'],
  [/Could not set up host forwarding|Address already in use/, 'PortInUse'],
  [/access denied by acl file|failed to parse default acl file|is refused sudo -n ip/, 'BridgeNotAllowed'],
  [/Could not access KVM|failed to initialize kvm/i, 'KVMUnavailable'],
  [/command not found|: not found/, 'QEMUNotInstalled'],
];

function reasonOf(said: string): string | undefined {
  return REASON_PATTERNS.find(([pattern]) => pattern.test(said))?.[1];
}
