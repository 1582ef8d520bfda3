/** Whether the folders of the VMs and of the store are fit for what is kept in them. Pure. */
import { FOLDER_FILES } from '../api/effective-spec.ts';
import { shellQuote } from '../host/quote.ts';
import { type Check, ok, problem, warning } from './check.ts';
import type { FolderFacts, MachineFacts } from './machine.ts';

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;
/** Guests whose disks cannot grow are paused below this. */
const LEAST_BYTES = 64 * MIB;
const FEW_BYTES = 2 * GIB;
const FEW_INODES = 1_000;
const OTHERS_WRITE = 0o002;
const STICKY = 0o1000;
const OTHERS = 0o077;
/** Without its terminating zero. */
const MAX_SOCKET_PATH = 107;
const SHORT_NAMES = 20;

/** As stat(1) names them. */
const NETWORK = new Set(['nfs', 'nfs4', 'cifs', 'smb', 'smb2', 'afs', 'ceph', 'lustre', 'gpfs', 'coda']);
const WITHOUT_LINKS = new Set(['msdos', 'exfat', 'vfat']);
const IN_MEMORY = new Set(['tmpfs', 'ramfs']);

export function vmDirChecks(path: string, { vmDir, user }: MachineFacts): Check[] {
  if (vmDir.state === 'absent')
    return [
      warning('vm-dir', `${path} does not exist: it is made for the first machine, unless it was there before`),
      socketCheck(path),
    ];
  if (vmDir.state === 'other') return [problem('vm-dir', `${path} is no folder`)];
  return [
    rightsCheck('vm-dir', path, vmDir, user),
    spaceCheck(path, vmDir),
    ...inodeCheck(path, vmDir),
    ...fileSystemCheck(path, vmDir),
    socketCheck(path),
  ];
}

function rightsCheck(id: string, path: string, { usable, owner, mode }: FolderFacts, user: string): Check {
  const bits = mode.toString(8);
  if (!usable)
    return problem(
      id,
      `${path} (owner ${owner}, mode ${bits}) cannot be used by ${user}`,
      `sudo chown ${user} ${shellQuote(path)}`,
    );
  if ((mode & OTHERS_WRITE) !== 0 && (mode & STICKY) === 0)
    return warning(id, `${path} can be written by everybody (mode ${bits})`, `chmod o-w ${shellQuote(path)}`);
  return ok(id, `${path} (owner ${owner}, mode ${bits}) can be used by ${user}`);
}

function spaceCheck(path: string, { freeBytes, totalBytes }: FolderFacts): Check {
  const words = `${gibibytes(freeBytes)} GiB free of ${gibibytes(totalBytes)} GiB below ${path}`;
  if (freeBytes < LEAST_BYTES)
    return problem('space', `${words}: guests that write are paused`, `make room, or grow the file system of ${path}`);
  return freeBytes < FEW_BYTES
    ? warning('space', `${words}: guests are paused when it is full`, `make room, or grow the file system of ${path}`)
    : ok('space', words);
}

function gibibytes(bytes: number): string {
  return (bytes / GIB).toFixed(1);
}

function inodeCheck(path: string, { freeInodes, totalInodes }: FolderFacts): Check[] {
  if (totalInodes === 0 || freeInodes >= FEW_INODES) return [];
  const words = `${freeInodes} of ${totalInodes} inodes free below ${path}`;
  return [freeInodes === 0 ? problem('inodes', words, 'remove files there') : warning('inodes', words)];
}

function fileSystemCheck(path: string, { fileSystem }: FolderFacts): Check[] {
  const type = fileSystem.split('/')[0] ?? '';
  if (NETWORK.has(type))
    return [
      warning(
        'file-system',
        `${path} lies on a network (${type}): locks that keep a disk from being opened twice may not reach other machines`,
        'let one machine alone use the folder, or choose a local one as vmDir of the Host',
      ),
    ];
  if (WITHOUT_LINKS.has(type))
    return [warning('file-system', `${path} lies on ${type}, which has neither hard links nor owners of files`)];
  if (IN_MEMORY.has(type))
    return [warning('file-system', `${path} lies in memory (${type}): its disks are gone with the next boot`)];
  return [];
}

/** How long a name may be before its sockets are out of reach. */
function socketCheck(path: string): Check {
  const room = MAX_SOCKET_PATH - Buffer.byteLength(`${path}//${FOLDER_FILES.userMonitor}`);
  if (room < 1) return problem('socket-paths', `${path} is too long: sockets below it have no valid path`);
  return room < SHORT_NAMES
    ? warning('socket-paths', `${path} leaves machines names of at most ${room} bytes (socket paths have 107)`)
    : ok('socket-paths', `names of at most ${Math.min(room, 63)} bytes fit below ${path}`);
}

/** Of the folder alone; what is in it is the store's to say. */
export function storeFolderCheck(path: string, { store, user }: MachineFacts): Check {
  if (store.state === 'absent') return warning('store', `there is no store in ${path} yet: the first command makes it`);
  if (store.state === 'other') return problem('store', `${path} is no folder`);
  const rights = rightsCheck('store', path, store, user);
  if (rights.state !== 'ok') return rights;
  if ((store.mode & OTHERS) !== 0)
    return warning(
      'store',
      `${path} can be looked into by others (mode ${store.mode.toString(8)})`,
      `chmod 700 ${shellQuote(path)}`,
    );
  return rights;
}
