/** What one machine is, in one script over its shell, changing nothing. Judged in checks.ts. */
import { randomBytes } from 'node:crypto';
import type { Shell } from '../host/shell.ts';

const SCRIPT = `
LC_ALL=C; export LC_ALL
nonce=$1 holder=$2 vmdir=$3 store=$4 sudo=$5; shift 5
s() { printf '@%s %s\\n' "$nonce" "$*"; }
s user; id -un; id -u
s manager; for c in apt-get dnf pacman zypper; do command -v $c >/dev/null && { echo $c; break; }; done
s tools; for c in curl wget ip; do command -v $c >/dev/null && echo $c; done
s files; [ -r "/proc/$holder/limits" ] && sed -n 's/^Max open files *[^ ]* *\\([^ ]*\\).*/\\1/p' "/proc/$holder/limits"
folder() {
  s "$1"
  if ! [ -e "$2" ]; then echo absent; return; fi
  if ! [ -d "$2" ]; then echo other; return; fi
  echo present
  stat -L -c '%U %u %a' -- "$2"
  [ -r "$2" ] && [ -w "$2" ] && [ -x "$2" ] && echo usable || echo closed
  stat -f -c '%S %a %b %d %c' -- "$2"
  stat -f -c '%T' -- "$2"
}
folder vmdir "$vmdir"
folder store "$store"
s helper
for f in /usr/lib/qemu/qemu-bridge-helper /usr/libexec/qemu-bridge-helper /usr/libexec/qemu/qemu-bridge-helper /usr/lib64/qemu/qemu-bridge-helper; do
  [ -e "$f" ] && { stat -L -c '%n %u %a' "$f"; break; }
done
s rules
[ -e /etc/qemu/bridge.conf ] && { grep -E '^[[:space:]]*(allow|deny|include)' /etc/qemu/bridge.conf; [ -r /etc/qemu/bridge.conf ] || echo unreadable; }
s tun; [ ! -c /dev/net/tun ] && echo absent || { [ -r /dev/net/tun ] && [ -w /dev/net/tun ] && echo open || echo closed; }
s sudo; [ -n "$sudo" ] && sudo -n -l ip tuntap add dev qo0 mode tap user "$(id -un)" >/dev/null 2>&1 &&
  sudo -n -l ip link set dev qo0 up >/dev/null 2>&1 && echo granted
s bridges; for b in /sys/class/net/*/bridge; do [ -d "$b" ] && { b=\${b%/bridge}; echo "\${b##*/}"; }; done
s oomd
if [ "$(systemctl is-active systemd-oomd 2>/dev/null)" = active ]; then
  echo active
  for unit in qemu-operator.service system.slice "user@$(id -u).service" "user-$(id -u).slice" user.slice -- -.slice; do
    systemctl show -p ManagedOOMSwap -p ManagedOOMMemoryPressure -- "$unit" 2>/dev/null | grep -q =kill && echo "$unit"
  done
fi
s groups
for pid in "$@"; do
  [ -r "/proc/$pid/cgroup" ] && printf '%s %s\\n' "$pid" "$(grep -E '^(0::|1:name=systemd:)' "/proc/$pid/cgroup" | tail -n 1)"
done
s end
`;

const TIMEOUT_MS = 20_000;

export interface FolderFacts {
  /** other: there is something of that name that is no folder. */
  readonly state: 'present' | 'absent' | 'other';
  readonly owner: string;
  /** Permission bits. */
  readonly mode: number;
  /** Whether this user may read, write and enter it. */
  readonly usable: boolean;
  /** As stat(1) names the type. */
  readonly fileSystem: string;
  /** For this user, who may have less than root. */
  readonly freeBytes: number;
  readonly totalBytes: number;
  /** total is 0 where the file system does not count them. */
  readonly freeInodes: number;
  readonly totalInodes: number;
}

export interface MachineFacts {
  readonly user: string;
  readonly uid: number;
  readonly packageManager: string | undefined;
  /** Those of curl, wget and ip that this user finds. */
  readonly tools: readonly string[];
  /** Most files that the process of the loop, or this one, may open; undefined: no limit, or not known. */
  readonly openFiles: number | undefined;
  readonly vmDir: FolderFacts;
  readonly store: FolderFacts;
  readonly bridgeHelper: { readonly path: string; readonly uid: number; readonly mode: number } | undefined;
  /** Lines of /etc/qemu/bridge.conf; undefined where this user may not read it. */
  readonly bridgeRules: readonly string[] | undefined;
  /** What the kernel makes interfaces of guests with, to this user. */
  readonly tun: 'open' | 'closed' | 'absent';
  /** Whether sudo makes interfaces for this user without a password; false where that was not asked. */
  readonly sudo: boolean;
  readonly bridges: readonly string[];
  /** Units whose processes systemd-oomd may end all at once; empty where it does not run. */
  readonly oomdUnits: readonly string[];
  /** Control group by pid. */
  readonly groups: ReadonlyMap<number, string>;
}

export interface MachineRequest {
  readonly vmDir: string;
  readonly store: string;
  /** Of the process whose limits count. */
  readonly holder: number;
  /** Whether sudo's rights matter. */
  readonly sudo: boolean;
  readonly pids: readonly number[];
}

export async function machineFacts(shell: Shell, request: MachineRequest, signal: AbortSignal): Promise<MachineFacts> {
  const nonce = randomBytes(6).toString('hex');
  const { vmDir, store, holder, sudo, pids } = request;
  const args = [nonce, String(holder), vmDir, store, sudo ? 'sudo' : '', ...pids.map(String)];
  const { stdout } = await shell.run(SCRIPT, args, { timeoutMs: TIMEOUT_MS, signal });
  return parseMachine(stdout.toString('utf8'), nonce);
}

/** @throws Error where the script was cut short */
export function parseMachine(text: string, nonce: string): MachineFacts {
  const sections = new Map<string, readonly string[]>(
    text
      .split(`@${nonce} `)
      .slice(1)
      .map((section) => {
        const [name = '', ...lines] = section.trimEnd().split('\n');
        return [name, lines];
      }),
  );
  if (!sections.has('end')) throw new Error('the look at the machine ended early');
  const lines = (name: string) => sections.get(name) ?? [];
  const [user = '', uid] = lines('user');
  const [helper] = lines('helper');
  const [helperPath = '', helperUid, helperMode = '0'] = helper?.split(' ') ?? [];
  const rules = lines('rules');
  const openFiles = Number(lines('files')[0] ?? Number.NaN);
  return {
    user,
    uid: Number(uid),
    packageManager: lines('manager')[0],
    tools: lines('tools'),
    openFiles: Number.isNaN(openFiles) ? undefined : openFiles,
    vmDir: folderFacts(lines('vmdir')),
    store: folderFacts(lines('store')),
    bridgeHelper:
      helper === undefined
        ? undefined
        : { path: helperPath, uid: Number(helperUid), mode: Number.parseInt(helperMode, 8) },
    bridgeRules: rules.includes('unreadable') ? undefined : rules,
    sudo: lines('sudo').includes('granted'),
    tun: tunState(lines('tun')[0]),
    bridges: lines('bridges'),
    oomdUnits: lines('oomd').filter((line) => line !== 'active'),
    groups: groupsOf(lines('groups')),
  };
}

function tunState(word: string | undefined): MachineFacts['tun'] {
  return word === 'open' || word === 'closed' ? word : 'absent';
}

function folderFacts([state, identity = '', usable, space = '', fileSystem = '']: readonly string[]): FolderFacts {
  const [owner = '', , mode = '0'] = identity.split(' ');
  const [block = 0, free = 0, total = 0, freeInodes = 0, totalInodes = 0] = space.split(' ').map(Number);
  return {
    state: state === 'present' || state === 'other' ? state : 'absent',
    owner,
    mode: Number.parseInt(mode, 8),
    usable: usable === 'usable',
    fileSystem,
    freeBytes: block * free,
    totalBytes: block * total,
    freeInodes,
    totalInodes,
  };
}

/** `PID 0::/system.slice/...`, the unified hierarchy where there is one. */
function groupsOf(lines: readonly string[]): Map<number, string> {
  return new Map(
    lines.map((line) => {
      const at = line.indexOf(' ');
      return [Number(line.slice(0, at)), line.slice(line.lastIndexOf(':') + 1)];
    }),
  );
}
