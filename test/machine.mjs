/** What the machine holds before and after the suites: nothing of theirs may stay behind. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from './stages.mjs';

/** Names the run in the environment of all that it starts, however far a daemon detaches itself. */
export const RUN_VARIABLE = 'QEMU_OPERATOR_TEST_RUN';

/**
 * Names the file in which the run writes down the ids of the users that it makes, one a line: a process of theirs is
 * the run's even with a clean environment.
 */
export const USERS_VARIABLE = 'QEMU_OPERATOR_TEST_USERS';

/** Folders whose entries are compared. What the product would write for this user is under them or in PLACES. */
const FOLDERS = ['/tmp', '/var/tmp', '/run', '/var/lib', homedir()];

/** Places of the product deeper than that. The cache keeps the guest's disk, its SSH server, Debian 13 and the test cluster between runs, and only that. */
const PLACES = [
  join(homedir(), '.config', 'qemu-operator'),
  join(homedir(), '.local', 'share', 'qemu-operator'),
  join(homedir(), '.local', 'state', 'qemu-operator'),
  '/etc/qemu-operator',
  '/etc/systemd/system/qemu-operator.service',
  '/run/netns',
];

const KEPT_IN_CACHE =
  /^(linux-x86_64-.*\.qcow2|dropbear-.*\.gz|debian-13-[0-9a-f]{12}|kubernetes-[0-9a-f]{12}|\.lock)$/;

function entries(folder) {
  try {
    return readdirSync(folder).map((name) => join(folder, name));
  } catch {
    return [];
  }
}

function firstColumn(path) {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split(':')[0]);
}

function mounts() {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split(' ')[4]);
}

/** Network namespaces in use by a process, by inode: an unnamed one has no entry below /run/netns. */
function networkNamespaces() {
  return entries('/proc')
    .filter((path) => /\/\d+$/.test(path))
    .flatMap((path) => {
      try {
        return [String(statSync(join(path, 'ns', 'net')).ino)];
      } catch {
        return [];
      }
    });
}

function gitStatus() {
  try {
    const args = ['status', '--porcelain', '--ignored', '--untracked-files=all'];
    return execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
      .split('\n')
      .filter((line) => line !== '' && !/^!! (test\/versions\/node-22\/)?node_modules\//.test(line));
  } catch {
    // A source tarball is no git tree; there is nothing to compare.
    return [];
  }
}

/** A picture of the machine, to be handed to `leftOver` afterwards. */
export function pictureOfMachine() {
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'qemu-operator');
  return {
    files: [...FOLDERS, ...PLACES].flatMap(entries).concat(PLACES.filter(existsSync)),
    'cached files': entries(cache).filter((path) => !KEPT_IN_CACHE.test(path.slice(cache.length + 1))),
    mounts: mounts(),
    'network namespaces': networkNamespaces(),
    users: firstColumn('/etc/passwd'),
    groups: firstColumn('/etc/group'),
    'changes in the repository': gitStatus(),
  };
}

function describe(pid) {
  const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  return command === '' ? undefined : { pid, what: `process ${pid}: ${command.slice(0, 300)}` };
}

/**
 * Living processes that the run started, but this one. Whoever gets the list may end them, so nothing else makes a
 * process the run's: a uid that /etc/passwd does not know may be a container's or a service's.
 *
 * @param {string} run
 * @param {readonly string[]} uids of the users that the run made
 */
export function processesOf(run, uids = []) {
  const mark = `${RUN_VARIABLE}=${run}`;
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      try {
        const ours =
          uids.includes(String(statSync(`/proc/${pid}`).uid)) ||
          readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').includes(mark);
        return ours ? (describe(pid) ?? []) : [];
      } catch {
        // Gone in the meantime, or another user's.
        return [];
      }
    });
}

/** The ids written down in the file that USERS_VARIABLE names. */
export function usersIn(path) {
  return existsSync(path)
    ? readFileSync(path, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
    : [];
}

/** What `after` has and `before` had not, by kind. */
export function leftOver(before, after) {
  return Object.entries(after).map(([kind, found]) => {
    const known = new Set(before[kind]);
    return { kind, items: [...new Set(found)].filter((item) => !known.has(item)) };
  });
}
