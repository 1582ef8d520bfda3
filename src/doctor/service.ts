/** The service on a machine: what systemd says of it, and the steps that install and remove it. Judges nothing. */
import { oneLine } from '../api/errors.ts';
import type { Shell } from '../host/shell.ts';
import {
  CONTROLLER_UNIT,
  foldersBeyond,
  GUESTS_UNIT,
  type Scope,
  STORE_LINE,
  UNIT_HEADER,
  type UnitFile,
} from './unit-files.ts';

/** `ctl` asks the manager that fits the user: a login by su or sudo has no XDG_RUNTIME_DIR. */
const PRELUDE = `
LC_ALL=C; export LC_ALL; umask 022
if [ "$(id -u)" = 0 ]; then
  scope=system folder=/etc/systemd/system
  ctl() { systemctl "$@"; }
else
  scope=user folder=\${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
  XDG_RUNTIME_DIR=\${XDG_RUNTIME_DIR:-/run/user/$(id -u)}; export XDG_RUNTIME_DIR
  ctl() { systemctl --user "$@"; }
fi
`;

const STATE = `
echo "scope=$scope"; echo "folder=$folder"; echo "user=$(id -un)"
[ -d /run/systemd/system ] && command -v systemctl >/dev/null && echo systemd=yes
[ -e "/var/lib/systemd/linger/$(id -un)" ] && echo lingering=yes
for c in qemu-system-x86_64 qemu-system-aarch64 qemu-img; do p=$(command -v $c) && echo "tool=\${p%/*}"; done
for unit in "$@"; do
  echo "unit=$unit"
  sed -n 's|^${STORE_LINE}|Store=|p' "$folder/$unit" 2>/dev/null | head -n 1
  [ -e "$folder/$unit" ] && echo Installed=yes
  ctl show -p LoadState,ActiveState,SubState,UnitFileState,ActiveEnterTimestamp,MainPID,NeedDaemonReload "$unit" 2>/dev/null
done
return 0
`;

const EXIT_FOREIGN = 3;

/** Prints `same` or `written`. */
const WRITE = `
file=$folder/$1
mkdir -p "$folder" || return 1
if [ -e "$file" ] || [ -L "$file" ]; then
  first=; IFS= read -r first <"$file"
  [ "$first" = '${UNIT_HEADER}' ] || return ${EXIT_FOREIGN}
  [ "$(cat "$file" && echo .)" = "$2." ] && { echo same; return 0; }
fi
printf %s "$2" >"$file.tmp" && sync "$file.tmp" && mv -f "$file.tmp" "$file" && echo written
`;

const REMOVE = `
file=$folder/$1
[ -e "$file" ] || { echo absent; return 0; }
first=; IFS= read -r first <"$file"
[ "$first" = '${UNIT_HEADER}' ] || return ${EXIT_FOREIGN}
rm -f "$file" && echo removed
`;

const CTL = 'ctl "$@"';

/** Waits for the user's manager, which lingering starts. */
const LINGER = `
loginctl enable-linger "$(id -un)" || return 1
i=0
while [ $i -lt 50 ]; do
  ctl is-system-running 2>/dev/null | grep -q . && return 0
  sleep 0.1; i=$((i+1))
done
return 0
`;

const MOMENT = `
read -r boot </proc/sys/kernel/random/boot_id
echo "$boot $(date +%s%3N)"
`;

const TIMEOUT_MS = 30_000;
/** systemctl waits for what it starts and stops. */
const CTL_TIMEOUT_MS = 120_000;

export interface UnitState {
  readonly name: string;
  readonly installed: boolean;
  /** As systemd says: active, inactive, failed, activating, ... */
  readonly active: string;
  /** running, exited, dead, ... */
  readonly sub: string;
  readonly enabled: boolean;
  /** In systemd's words; absent where it was never active. */
  readonly since?: string;
  readonly mainPID?: number;
  /** The file changed since systemd read it. */
  readonly stale: boolean;
  readonly store?: string;
}

export interface ServiceState {
  /** Whether systemd runs this machine. */
  readonly systemd: boolean;
  readonly scope: Scope;
  readonly user: string;
  /** Whether the user's units run without a login. */
  readonly lingering: boolean;
  /** Where units are written. */
  readonly folder: string;
  /** Folders of QEMU's programs that systemd does not search. */
  readonly toolFolders: readonly string[];
  readonly controller: UnitState;
  readonly guests: UnitState;
}

/** What systemd, or a script about it, refused to do. */
export class ServiceError extends Error {
  override name = 'ServiceError';
}

export async function serviceState(shell: Shell, signal: AbortSignal): Promise<ServiceState> {
  const units = [CONTROLLER_UNIT, GUESTS_UNIT];
  const { stdout } = await shell.run(PRELUDE + STATE, units, { timeoutMs: TIMEOUT_MS, signal });
  return parseServiceState(stdout.toString('utf8'));
}

export function parseServiceState(text: string): ServiceState {
  const [head = '', ...units] = text.split(/^unit=/m);
  const [machine] = [fields(head)];
  const states = new Map(units.map((unit) => [unit.slice(0, unit.indexOf('\n')), fields(unit)]));
  return {
    systemd: machine.get('systemd')?.[0] === 'yes',
    scope: machine.get('scope')?.[0] === 'system' ? 'system' : 'user',
    user: machine.get('user')?.[0] ?? '',
    lingering: machine.get('lingering')?.[0] === 'yes',
    folder: machine.get('folder')?.[0] ?? '',
    toolFolders: foldersBeyond(machine.get('tool') ?? []),
    controller: unitState(CONTROLLER_UNIT, states.get(CONTROLLER_UNIT)),
    guests: unitState(GUESTS_UNIT, states.get(GUESTS_UNIT)),
  };
}

function fields(text: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const at = line.indexOf('=');
    if (at > 0) found.set(line.slice(0, at), [...(found.get(line.slice(0, at)) ?? []), line.slice(at + 1)]);
  }
  return found;
}

function unitState(name: string, found: ReadonlyMap<string, readonly string[]> = new Map()): UnitState {
  const value = (key: string) => found.get(key)?.[0] ?? '';
  const mainPID = Number(value('MainPID'));
  return {
    name,
    installed: value('Installed') === 'yes',
    active: value('ActiveState') || 'inactive',
    sub: value('SubState') || 'dead',
    enabled: value('UnitFileState') === 'enabled',
    ...(value('ActiveEnterTimestamp') === '' ? {} : { since: value('ActiveEnterTimestamp') }),
    ...(mainPID > 0 ? { mainPID } : {}),
    stale: value('NeedDaemonReload') === 'yes',
    ...(value('Store') === '' ? {} : { store: value('Store') }),
  };
}

/** @throws ServiceError where a file of that name is not ours */
export async function writeUnit(
  shell: Shell,
  { name, text }: UnitFile,
  signal: AbortSignal,
): Promise<'same' | 'written'> {
  return (await step(shell, WRITE, [name, text], name, signal)) === 'same' ? 'same' : 'written';
}

/** @throws ServiceError where a file of that name is not ours */
export async function removeUnit(shell: Shell, name: string, signal: AbortSignal): Promise<'absent' | 'removed'> {
  return (await step(shell, REMOVE, [name], name, signal)) === 'absent' ? 'absent' : 'removed';
}

async function step(
  shell: Shell,
  script: string,
  args: readonly string[],
  name: string,
  signal: AbortSignal,
): Promise<string> {
  const { code, stdout, stderr } = await shell.run(PRELUDE + script, args, { timeoutMs: TIMEOUT_MS, signal });
  if (code === EXIT_FOREIGN)
    throw new ServiceError(`there is a unit ${name} that \`service install\` did not write: move it away first`);
  if (code !== 0) throw new ServiceError(`${name}: ${oneLine(stderr.toString('utf8'), 500)}`);
  return stdout.toString('utf8').trim();
}

/** @throws ServiceError with systemctl's own words */
export async function systemctl(shell: Shell, words: readonly string[], signal: AbortSignal): Promise<void> {
  const { code, stderr } = await shell.run(PRELUDE + CTL, words, { timeoutMs: CTL_TIMEOUT_MS, signal });
  if (code !== 0) throw new ServiceError(`systemctl ${words.join(' ')}: ${oneLine(stderr.toString('utf8'), 500)}`);
}

/** The user's units from now on run without a login. @throws ServiceError */
export async function enableLingering(shell: Shell, signal: AbortSignal): Promise<void> {
  const { code, stderr } = await shell.run(PRELUDE + LINGER, [], { timeoutMs: TIMEOUT_MS, signal });
  if (code !== 0) throw new ServiceError(`loginctl enable-linger: ${oneLine(stderr.toString('utf8'), 500)}`);
}

/** Whether the manager whose units these are is about to end: the machine's, or the user's. */
export async function isShuttingDown(shell: Shell, signal: AbortSignal): Promise<boolean> {
  const { stdout } = await shell.run(PRELUDE + CTL, ['is-system-running'], { timeoutMs: TIMEOUT_MS, signal });
  return stdout.toString('utf8').trim() === 'stopping';
}

/** This boot of the machine, and the time by its clock, ms. */
export async function bootMoment(shell: Shell, signal: AbortSignal): Promise<{ bootID: string; at: number }> {
  const { stdout } = await shell.run(MOMENT, [], { timeoutMs: TIMEOUT_MS, signal });
  const [bootID = '', at] = stdout.toString('utf8').trim().split(' ');
  return { bootID, at: Number(at) };
}
