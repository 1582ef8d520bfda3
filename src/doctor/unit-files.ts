/**
 * The systemd units, as text. Two of them: one runs the controller and may be restarted at any time, the other one's
 * stop is the end of the guests, and it does something only while the machine shuts down. Source: systemd.unit(5),
 * systemd.service(5), systemd.kill(5), systemd.exec(5).
 */

/** system: root's, for the machine. user: an ordinary user's, which needs lingering to outlive its login. */
export type Scope = 'system' | 'user';

export interface UnitPlan {
  readonly scope: Scope;
  /** Absolute paths: Node, and the command's file. */
  readonly command: readonly [node: string, entry: string];
  /** Absolute. */
  readonly store: string;
  /** Folders of QEMU that systemd's own PATH lacks. */
  readonly folders: readonly string[];
}

export interface UnitFile {
  readonly name: string;
  readonly text: string;
}

export const CONTROLLER_UNIT = 'qemu-operator.service';
export const GUESTS_UNIT = 'qemu-operator-guests.service';

/** First line of every unit of ours: only such a file is replaced or removed. */
export const UNIT_HEADER = '# Written by `qemu-operator service install`, which replaces it.';

/** Line that names the store, for `service status`. */
export const STORE_LINE = '# Store: ';

/**
 * How long the guests' end may take, seconds. A user's manager is killed 120 s after it was told to end
 * (user@.service), and what still runs then with it.
 */
const STOP_SECONDS: Readonly<Record<Scope, number>> = { system: 300, user: 100 };
/** Of these, for the steps that end a QEMU whose guest did not: quit, SIGTERM, SIGKILL. */
const LAST_STEPS_SECONDS = 20;

/**
 * How Node runs a controller that lives for months: what it allocates is short-lived, and V8 by itself would let the
 * space for it grow to several times of what is held. Costs some CPU. Source: `node --v8-options`.
 */
export const CONTROLLER_NODE_OPTIONS: readonly string[] = [
  '--max-semi-space-size=1',
  '--optimize-for-size',
  // Each of V8's helpers has an arena of its own.
  '--v8-pool-size=1',
];

const SYSTEMD_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * QEMU inherits all of it, so it takes away only what neither QEMU nor its helpers need. Nothing that makes a mount
 * namespace (disks may lie anywhere, and be mounted later), no MemoryDenyWriteExecute (TCG and V8 write code), no
 * DeviceAllow (KVM, block devices, and ProtectClock implies one), no NoNewPrivileges (the bridge helper is setuid).
 * A user's manager would imply NoNewPrivileges with any of it, so user units have none.
 */
const HARDENING = `
CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_BOOT CAP_SYS_TIME CAP_SYSLOG CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_WAKE_ALARM
LockPersonality=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=~@module @reboot @swap @clock
SystemCallErrorNumber=EPERM`;

/** At shutdown units are stopped in the reverse order: the guests while the file systems and the network are there. */
const SYSTEM_ORDER = `
After=local-fs.target remote-fs.target network.target`;

export function unitFiles(plan: UnitPlan): readonly UnitFile[] {
  const { scope, store } = plan;
  const system = scope === 'system';
  const target = system ? 'multi-user.target' : 'default.target';
  const common = `UMask=0077${environment(plan.folders)}`;
  const seconds = STOP_SECONDS[scope];
  const controller = `${UNIT_HEADER}
${STORE_LINE}${store}
[Unit]
Description=qemu-operator, the controller of virtual machines${system ? SYSTEM_ORDER : ''}
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=${commandLine(plan, ['run', '--log-format', 'json'], CONTROLLER_NODE_OPTIONS)}
Restart=always
RestartSec=2
# QEMU runs in this unit's control group and outlives a restart, and one QEMU that memory ran out for ends no other.
KillMode=process
OOMPolicy=continue
TasksMax=infinity
TimeoutStopSec=30
${common}${system ? HARDENING : ''}

[Install]
WantedBy=${target}
`;
  const guests = `${UNIT_HEADER}
${STORE_LINE}${store}
[Unit]
Description=Guests of qemu-operator, stopped in order when the machine shuts down${system ? SYSTEM_ORDER : ''}
Wants=${CONTROLLER_UNIT}
After=${CONTROLLER_UNIT}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=${commandLine(plan, ['service', 'start-guests'])}
ExecStop=${commandLine(plan, ['service', 'stop-guests', '--if-shutting-down', '--timeout', `${seconds - LAST_STEPS_SECONDS}s`])}
TimeoutStartSec=60
TimeoutStopSec=${seconds}
${common}

[Install]
WantedBy=${target}
`;
  return [
    { name: CONTROLLER_UNIT, text: controller },
    { name: GUESTS_UNIT, text: guests },
  ];
}

function commandLine(
  { command: [node, entry], store }: UnitPlan,
  words: readonly string[],
  nodeOptions: readonly string[] = [],
): string {
  const args = [...nodeOptions, entry, '--store', store, ...words].map((word) => quoted(word).replaceAll('$', '$$$$'));
  // The program itself is not searched for variables.
  return [quoted(node), ...args].join(' ');
}

function environment(folders: readonly string[]): string {
  return folders.length === 0 ? '' : `\nEnvironment=${quoted(`PATH=${SYSTEMD_PATH}:${folders.join(':')}`)}`;
}

/** One word of a unit file: quotes and backslashes as in C, and no specifiers. */
function quoted(word: string): string {
  if (/[\u0000-\u001f\u007f]/.test(word))
    throw new RangeError('a unit file cannot name a path with control characters');
  return /^[\w/.,:=+-]+$/.test(word) ? word : `"${word.replace(/[\\"]/g, '\\$&').replaceAll('%', '%%')}"`;
}

/** Folders that systemd does not search by itself. */
export function foldersBeyond(folders: readonly string[]): string[] {
  const known = new Set(SYSTEMD_PATH.split(':'));
  return [...new Set(folders)].filter((folder) => folder.startsWith('/') && !known.has(folder));
}
