/**
 * A machine of its own for systemd: process, mount and control group namespaces over a copy-on-write view of this
 * one's files, with the real systemd as its first process. It boots, shuts down and boots again like any machine; its
 * boot id is a file. Nothing of this machine's units, generators or sysctls takes part.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Ended } from './cli-rig.ts';
import type { OnFinished } from './rig.ts';
import { until } from './wait.ts';

const REPOSITORY = join(import.meta.dirname, '..', '..', '..');
const SYSTEMD = '/lib/systemd/systemd';
const BOOT_MS = 60_000;

/** What starts in it, and in which order it ends, is only what these say; `user@.service` and logind are Debian's own. */
const UNITS: Readonly<Record<string, string>> = {
  'sysinit.target': '[Unit]\nConflicts=emergency.target\n',
  'basic.target': '[Unit]\nRequires=sysinit.target\nAfter=sysinit.target\nWants=dbus.socket\n',
  'local-fs.target': '[Unit]\nDefaultDependencies=no\n',
  'multi-user.target':
    '[Unit]\nRequires=basic.target\nAfter=basic.target\nWants=dbus.service systemd-logind.service systemd-journald.service\nAllowIsolate=yes\n',
};

const BOOT = `
set -e
root=$1 repository=$2 new=$1/merged
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" "$new"
mount -t proc proc "$new/proc"
mount --bind "$root/boot-id" "$new/proc/sys/kernel/random/boot_id"
mount -t sysfs sysfs "$new/sys"
mount -t tmpfs tmpfs "$new/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$new/sys/fs/cgroup"
mount -t tmpfs tmpfs "$new/run"
mount -t tmpfs tmpfs "$new/tmp"
mount -t tmpfs -o mode=755 tmpfs "$new/dev"
for device in null zero full random urandom tty; do touch "$new/dev/$device"; mount --bind "/dev/$device" "$new/dev/$device"; done
mkdir "$new/dev/shm" "$new/dev/pts"
mount -t tmpfs tmpfs "$new/dev/shm"
mount -t devpts devpts "$new/dev/pts"
mkdir -p "$new$repository"
mount --bind "$repository" "$new$repository"
mount --bind "$root/shared" "$new/srv"
mount --bind "$root/units" "$new/etc/systemd/system"
cd "$new"
pivot_root . mnt
umount -l /mnt
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin ${SYSTEMD} --show-status=0 --unit=multi-user.target
`;

/** The unified hierarchy, wherever this machine has it. */
function controlGroups(): string | undefined {
  return readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .find(([, , type]) => type === 'cgroup2')?.[1];
}

/** Whether this machine lets us have one: root with the right to make namespaces, and systemd installed. */
export function canRunSystemd(): boolean {
  const overlay = readFileSync('/proc/filesystems', 'utf8').includes('overlay');
  if (process.getuid?.() !== 0 || !existsSync(SYSTEMD) || controlGroups() === undefined || !overlay) return false;
  return spawnSync('unshare', ['--mount', '--pid', '--fork', '--cgroup', '--uts', '--ipc', 'true']).status === 0;
}

export class SystemdMachine {
  /** `/srv` of the machine, as this one sees it. */
  readonly shared: string;
  readonly #root: string;
  readonly #group: string;
  #child: ChildProcess | undefined;

  constructor(root: string, onFinished: OnFinished) {
    this.#root = root;
    this.shared = join(root, 'shared');
    this.#group = join(controlGroups() ?? '', `qo-${process.pid}-${Date.now()}`);
    for (const folder of ['upper', 'work', 'merged', 'shared', 'units']) mkdirSync(join(root, folder));
    this.#hideUnits();
    onFinished(async () => {
      this.#child?.kill('SIGKILL');
      await this.#ended();
      await until('its control groups are empty', () => this.#removeGroups(), Boolean);
    });
  }

  /** A character device 0:0 in the upper layer hides what lies below. */
  #hideUnits(): void {
    const systemd = realpathSync('/lib/systemd');
    const upper = join(this.#root, 'upper', systemd);
    mkdirSync(join(upper, 'system'), { recursive: true });
    const wants = readdirSync(join(systemd, 'system')).filter((name) => name.endsWith('.wants'));
    for (const name of ['system-generators', ...wants.map((want) => join('system', want))])
      execFileSync('mknod', [join(upper, name), 'c', '0', '0']);
    for (const [name, text] of Object.entries(UNITS)) writeFileSync(join(this.#root, 'units', name), text);
  }

  /** @param bootID what /proc/sys/kernel/random/boot_id says in it */
  async boot(bootID: string): Promise<void> {
    writeFileSync(join(this.#root, 'boot-id'), `${bootID}\n`);
    mkdirSync(this.#group, { recursive: true });
    const names = ['--mount', '--pid', '--fork', '--kill-child', '--uts', '--ipc', '--cgroup'];
    const enter = 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"';
    const command = ['sh', '-c', enter, 'sh', this.#group, 'unshare', ...names];
    this.#child = spawn(command[0] ?? '', [...command.slice(1), 'sh', '-c', BOOT, 'sh', this.#root, REPOSITORY], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    await until(
      'systemd is up',
      () =>
        this.run('systemctl', 'is-system-running').then(
          ({ stdout }) => stdout.trim(),
          () => 'not yet a process',
        ),
      (state) => state === 'running' || state === 'degraded',
      BOOT_MS,
    );
  }

  /** Runs a command in it as root. */
  async run(...command: readonly string[]): Promise<Ended> {
    const inner = this.#firstProcess();
    const words = ['-t', String(inner), '--mount', '--pid', '--uts', '--ipc', '--cgroup', '--root'];
    // Not into a group of its own: systemd must see the command as somebody's who logged in.
    const child = spawn(
      'nsenter',
      [...words, 'env', '-i', '--chdir=/', `PATH=${process.env['PATH']}`, 'HOME=/root', ...command],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    return new Promise((resolve) => child.on('close', (code) => resolve({ code, stdout, stderr })));
  }

  async ok(...command: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(...command);
    if (code !== 0) throw new Error(`${command.join(' ')} ended with ${code}: ${stdout}${stderr}`);
    return stdout;
  }

  /** Powers it off, in order, and waits until it is. */
  async shutDown(): Promise<void> {
    await this.run('systemctl', '--no-block', 'poweroff');
    await this.#ended();
  }

  async #ended(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    await new Promise((resolve) => child.once('exit', resolve));
  }

  /** As this machine numbers it: unshare's only child. */
  #firstProcess(): number {
    const pid = this.#child?.pid;
    const children = pid === undefined ? '' : readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    const first = Number(children.trim());
    if (first === 0 || Number.isNaN(first)) throw new Error('the machine does not run');
    return first;
  }

  #removeGroups(): boolean {
    try {
      const groups = readdirSync(this.#group, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map((entry) => join(entry.parentPath, entry.name))
        .sort((a, b) => b.length - a.length);
      for (const group of [...groups, this.#group]) rmdirSync(group);
      return true;
    } catch {
      return !existsSync(this.#group);
    }
  }
}
