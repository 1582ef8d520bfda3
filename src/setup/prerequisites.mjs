/**
 * What the quickstart and the tests need of the system, how to see that it is missing, and how to install it.
 * Plain JavaScript without packages: this runs before `npm ci`, under whatever Node the system has.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Told by people's package managers other than apt-get; there we only print the command. */
const OTHER_MANAGERS = [
  ['dnf', 'dnf install', 'fedora'],
  ['pacman', 'pacman -S', 'arch'],
  ['zypper', 'zypper install', 'suse'],
  ['brew', 'brew install', 'brew'],
];

const command = (name) => () => commandPath(name) !== undefined;
const oneOf =
  (...paths) =>
  () =>
    paths.some((path) => existsSync(path));

/** Each entry: what it is, how to see it, the Debian package that brings it, and the names elsewhere. */
const QEMU = [
  {
    name: 'qemu-system-x86_64',
    present: command('qemu-system-x86_64'),
    package: 'qemu-system-x86',
    fedora: 'qemu-system-x86',
    arch: 'qemu-system-x86',
    suse: 'qemu-x86',
    brew: 'qemu',
  },
  {
    name: 'qemu-img',
    present: command('qemu-img'),
    package: 'qemu-utils',
    fedora: 'qemu-img',
    arch: 'qemu-img',
    suse: 'qemu-img',
    brew: 'qemu',
  },
];

const SAMPLE_GUEST = [
  { name: 'mtools', present: command('mformat'), package: 'mtools' },
  { name: 'syslinux', present: command('syslinux'), package: 'syslinux' },
];

const BOTH_ARCHITECTURES = [
  { name: 'qemu-system-aarch64', present: command('qemu-system-aarch64'), package: 'qemu-system-arm' },
  {
    name: 'UEFI firmware for x86_64',
    present: oneOf('/usr/share/OVMF/OVMF_CODE_4M.fd', '/usr/share/OVMF/OVMF_CODE.fd'),
    package: 'ovmf',
  },
  {
    name: 'UEFI firmware for arm64',
    present: oneOf('/usr/share/AAVMF/AAVMF_CODE.fd'),
    package: 'qemu-efi-aarch64',
  },
  { name: 'ssh', present: command('ssh'), package: 'openssh-client' },
  { name: 'xorriso', present: command('xorriso'), package: 'xorriso' },
];

/** For the service, for guests on bridges, and to know a picture. */
const SYSTEM = [
  { name: 'systemd', present: oneOf('/lib/systemd/systemd'), package: 'systemd' },
  {
    name: 'logind for users',
    present: oneOf('/lib/x86_64-linux-gnu/security/pam_systemd.so'),
    package: 'libpam-systemd',
  },
  { name: 'a bus for users', present: oneOf('/usr/lib/systemd/user/dbus.socket'), package: 'dbus-user-session' },
  { name: 'ip', present: command('ip'), package: 'iproute2' },
  { name: 'file', present: command('file'), package: 'file' },
];

const SHELLS = [
  { name: 'zsh', present: command('zsh'), package: 'zsh' },
  { name: 'fish', present: command('fish'), package: 'fish' },
];

/** A remote host, and what it may have to lead to a socket: the tests start sshd themselves. */
const SSH_HOST = [
  { name: 'sshd', present: oneOf('/usr/sbin/sshd'), package: 'openssh-server' },
  { name: 'socat', present: command('socat'), package: 'socat' },
  { name: 'nc', present: command('nc.openbsd'), package: 'netcat-openbsd' },
  { name: 'sudo', present: command('sudo'), package: 'sudo' },
  { name: 'iptables', present: command('iptables'), package: 'iptables' },
];

/** Whose scripts are those of Argo CD. */
const LUA = [{ name: 'lua5.1', present: command('lua5.1'), package: 'lua5.1' }];

const IMAGE_SERVER = [
  { name: 'curl', present: command('curl'), package: 'curl' },
  { name: 'wget', present: command('wget'), package: 'wget' },
  { name: 'openssl', present: command('openssl'), package: 'openssl' },
];

/** What `npm run quickstart` needs. */
export const FOR_QUICKSTART = [...QEMU, ...SAMPLE_GUEST];

/** What `npm test` needs. */
export const FOR_TESTS = [
  ...FOR_QUICKSTART,
  ...BOTH_ARCHITECTURES,
  ...IMAGE_SERVER,
  ...SYSTEM,
  ...SHELLS,
  ...SSH_HOST,
  ...LUA,
];

/** What `npm run test:versions` needs on top of that. */
export const FOR_VERSIONS = [{ name: 'debootstrap', present: command('debootstrap'), package: 'debootstrap' }];

/** Full path of a command, also where an ordinary user's PATH does not look. */
export function commandPath(name) {
  const folders = (process.env.PATH || '').split(delimiter).concat('/usr/sbin', '/sbin');
  return folders
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** The entries of `wanted` that this system does not have. */
export function missingFrom(wanted) {
  return wanted.filter((entry) => !entry.present());
}

/** The command that a person would type to install the missing entries, for the system at hand. */
export function installCommand(missing) {
  if (commandPath('apt-get') !== undefined)
    return `sudo apt-get install --no-install-recommends ${packagesOf(missing)}`;
  const manager = OTHER_MANAGERS.find(([name]) => commandPath(name) !== undefined);
  if (manager === undefined)
    return `(install with your package manager: ${missing.map(({ name }) => name).join(', ')})`;
  const [name, install, names] = manager;
  const packages = new Set(missing.map((entry) => entry[names] || entry.package));
  return `${name === 'brew' ? '' : 'sudo '}${install} ${[...packages].join(' ')}`;
}

/**
 * Installs what is missing, saying what it does. Returns undefined when all is there, else a sentence that says
 * what a person has to do.
 */
export function install(wanted, say) {
  const missing = missingFrom(wanted);
  if (missing.length === 0) return undefined;
  const names = missing.map(({ name }) => name).join(', ');
  const prefix = rootPrefix();
  if (commandPath('apt-get') === undefined || prefix === undefined)
    return `${names}: not installed, and this user may not install it. Run: ${installCommand(missing)}`;
  const packages = [...new Set(missing.map((entry) => entry.package))];
  say(`Installing ${packages.join(' ')} with apt-get (for ${names})`);
  const apt = ['apt-get', 'install', '--yes', '--no-install-recommends', ...packages];
  let failure = aptKnows(packages) ? runAsRoot(prefix, apt) : 'apt has no lists yet';
  if (failure !== undefined) {
    failure = updateLists(prefix, say) || runAsRoot(prefix, apt);
  }
  const still = missingFrom(wanted);
  if (still.length === 0) return undefined;
  return `${still.map(({ name }) => name).join(', ')}: could not be installed. Run: ${installCommand(still)}\n${failure || ''}`;
}

/** Fetches apt's package lists anew; returns undefined or a sentence. For a download that apt no longer finds. */
export function refreshPackageLists(say) {
  const prefix = rootPrefix();
  if (commandPath('apt-get') === undefined || prefix === undefined)
    return 'The package lists may be out of date. Run: sudo apt-get update';
  return updateLists(prefix, say);
}

function updateLists(prefix, say) {
  say('Fetching the package lists with apt-get update');
  return runAsRoot(prefix, ['apt-get', 'update']);
}

function packagesOf(missing) {
  return [...new Set(missing.map((entry) => entry.package))].join(' ');
}

/** How this user becomes root without being asked: not at all, `sudo -n`, or undefined for never. */
function rootPrefix() {
  if (process.getuid && process.getuid() === 0) return [];
  const sudo = commandPath('sudo');
  if (sudo === undefined) return undefined;
  return spawnSync(sudo, ['-n', 'true'], { stdio: 'ignore' }).status === 0 ? [sudo, '-n'] : undefined;
}

/** Runs a command as root; undefined when it succeeded, else the end of what it said. */
function runAsRoot(prefix, args) {
  // Through env: sudo clears the environment.
  const [program, ...rest] = [...prefix, 'env', 'DEBIAN_FRONTEND=noninteractive', 'LC_ALL=C', ...args];
  const done = spawnSync(program, rest, { stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 64 * 1024 * 1024 });
  if (done.status === 0) return undefined;
  return `${args.join(' ')} failed: ${String(done.stderr || done.error || '')
    .trim()
    .slice(-1500)}`;
}

/** Whether apt's lists name a version to install for every package. */
function aptKnows(packages) {
  const shown = spawnSync('apt-cache', ['policy', ...packages], {
    env: { ...process.env, LC_ALL: 'C' },
    encoding: 'utf8',
  });
  const candidates = String(shown.stdout).match(/^ {2}Candidate: (?!\(none\)).+$/gm) || [];
  return candidates.length === packages.length;
}
