/** English. */
import { caveatsEn, fatesEn, whysEn } from './foreseen-en.ts';
import type { Sentences } from './sentences.ts';

const LISTED = { running: 'running ', stopped: 'stopped ', all: '' } as const;
const KEPT = {
  existed: 'the file existed before the VM',
  Retain: 'reclaimPolicy is Retain',
  foreign: 'not made for this VM',
  shared: 'another VM has it as its disk too',
} as const;

export const en: Sentences = {
  done: (name, action) => `VM ${name}: ${action} succeeded`,
  restartedForModify: (name) => `VM ${name}: modify succeeded; the VM was restarted so that it takes effect`,
  already: (name, state) => `VM ${name} is already ${state}; nothing was changed`,
  unfinished: (name, action, phase, why) => `VM ${name}: ${action} has not finished yet and goes on (${phase}): ${why}`,
  failed: (name, action, why) => `VM ${name}: ${action} failed: ${why}`,
  listed: (host, status, count) => `${count} ${LISTED[status]}VM(s) on ${host}`,
  sampled: (name, count) => `${count} sample(s) of VM ${name} taken`,
  sampledSoFar: (name, count, wanted) =>
    wanted === 0
      ? `${count} sample(s) of VM ${name} taken within the wait; call again to go on`
      : `${count} of ${wanted} samples of VM ${name} taken within the wait; call again for the rest`,
  endedWhileSampled: (name, count) => `VM ${name} stopped while it was monitored; ${count} sample(s) taken`,
  why: (_reason, message) => message,
  nobodyWatches: () =>
    'this tool server runs the reconcile loop: VMs live on after it ends, but nobody watches them then',
  keptDisk: (why) => KEPT[why],
  timeIsUp: () => 'not finished within wait_seconds',
  planned: (name, action, { changes, process }) =>
    changes.length === 0
      ? `dry run: ${action} would change nothing of VM ${name}`
      : `dry run: ${action} would make ${changes.length} change(s) to VM ${name}${process === undefined ? '' : `; its process ${fatesEn[process]}`}. Nothing was written`,
  foreseen: (why, detail) => whysEn[why](detail),
  caveat: (caveat) => caveatsEn[caveat],

  unknownArgument: (field, near, allowed) =>
    `${field}: unknown parameter${near === '' ? '.' : `; did you mean ${near}?`} Allowed: ${allowed}`,
  missingArgument: (field, allowed) => `${field} is required${allowed === '' ? '' : `: ${allowed}`}`,
  wrongChoice: ({ field, value, allowed }) => `${field}: ${value} must be one of ${allowed}`,
  wrongForm: ({ field, value, allowed }) => `${field}: ${value} must be ${allowed}`,
  argumentNotFor: (field, action, allowed) =>
    `${field} has no meaning for action ${action}, which takes ${allowed}; nothing was changed`,
  argumentNeeded: (field, action, allowed) => `${field} is required for action ${action}: ${allowed}`,
  alreadyExists: (name, host) => `VM ${name} already exists on host ${host}: delete it first, or use another name`,
  beingDeleted: (name) => `VM ${name} is being deleted`,
  notFound: (name, host, near, known) =>
    `VM ${name} not found on host ${host}${near === '' ? '.' : `; did you mean ${near}?`} ${known === '' ? 'There are no VMs' : `VMs there: ${known}`}`,
  unmanagedFolder: (name, folder) =>
    `VM ${name} is a folder without an object (${folder}): take it over with the command qemu-operator adopt before you manage it`,
  ambiguousNamespace: (name, namespaces) => `several namespaces have a VM ${name}: say namespace: ${namespaces}`,
  ambiguousHost: (name, hosts) => `several hosts have a VM ${name}: say host: ${hosts}`,
  hostNeeded: (hosts) => `say on which host: ${hosts}`,
  hostUnknown: (host, hosts) =>
    `host ${host} is not registered. Registered hosts: ${hosts}. For another machine give its address with ssh_user and ssh_key or ssh_pwd`,
  ambiguousAddress: (address, hosts) =>
    `several registered hosts have the address ${address}, and the login does not tell them apart: say host: ${hosts}`,
  hostIsLocal: (host, field) => `${field}: host ${host} is this machine; leave the ssh_* parameters out`,
  loginDiffers: (host, field, command) =>
    `${field} differs from what host ${host} is registered with; leave the ssh_* parameters out, or change it: ${command}`,
  loginNeeded: (field) =>
    `${field} is required: an address that is not registered needs ssh_user, and ssh_key or ssh_pwd`,
  keyNotHere: () =>
    'ssh_key is a path on the machine of the server, which is not taken over HTTP: give ssh_pwd, or have the Host registered',
  keyUnreadable: (why) => `ssh_key: must be a private key on the machine of this server: ${why}`,
  notLetIn: (address, why) => `no login to ${address}: ${why}. Nothing was kept`,
  hostNotReady: (host, why) => `host ${host} cannot take the VM: ${why}`,
  hostNotSeen: (host) =>
    `host ${host} has not been looked at yet: no controller runs, or it does not answer; try again`,
  notRunning: (name, phase) =>
    `VM ${name} is not running (${phase}); only a running VM can be monitored: start it first`,
  nothingToChange: (name, current) => `nothing to change: VM ${name} already has ${current}`,
  nothingAsked: () => 'nothing to change: modify needs memory, vcpus or disk',
  memorySyntax: () => 'a size such as 2G or 4096M, less than 8192T',
  diskSizeSyntax: () => 'a whole size such as 20G or 512M, from 1M to 4096T',
  diskSyntax: () => '"path=/data/vm/disk.qcow2,size=20G", either part optional (a comma in a path is written twice)',
  diskPathNeeded: (paths) => `the VM has several disks: say path=, one of ${paths}`,
  diskUnknown: (path, paths) => `the VM has no disk ${path}; it has ${paths}`,
  diskSizeNeeded: () => 'disk: modify needs the new size, as in size=40G',
  diskCannotShrink: (path, size) => `disk ${path} has ${size} already; a disk only grows`,
  rawDiskNotGrown: (path, size, bytes) =>
    `disk ${path} is raw and is grown by hand: stop the VM, run: qemu-img resize -f raw '${path}' ${bytes}, then modify again with size=${size}`,
  detachedDiskGoes: (paths) =>
    `keep_disks cannot keep disks that were taken out of the VM and would go with it: ${paths}; move them away first`,
  protectedVm: (name) => `VM ${name} is protected: remove the annotation qemu-operator.dev/protected first`,
  readOnly: () => 'this server is read-only (--read-only): manage_vm is refused',
  deleteNotAllowed: () => 'this server does not delete (--no-delete)',
  conflict: (name) => `VM ${name} was changed by someone else at the same time; nothing was changed: call again`,
  storeUnavailable: (why) => `the store cannot be used now: ${why}`,
  internal: (id) => `internal error ${id}; the server's log on stderr has it`,
  cursorInvalid: () => 'a next_cursor of an earlier answer; without it the list begins anew',
  qemuMissing: (command, packages) => `${command}: command not found; install it: apt-get install ${packages}`,
  qemuTooOld: (version) => `QEMU ${version} is too old; 6.0 or later is needed`,
};
