/** What a decision says, in full: the sentence reaches conditions, history, logs and tools unchanged. */
import { describe, expect, test } from 'vitest';
import { ANNOTATIONS } from '../../src/api/meta.ts';
import { decide } from '../../src/reconcile/decide.ts';
import { FACTS, GI } from '../fakes/simulated-world.ts';
import {
  FOLDER,
  file,
  type Given,
  GONE,
  noFile,
  ROOT,
  someEnd,
  someHost,
  someRecord,
  subject,
} from '../fakes/subjects.ts';

const OTHER = '99999999-2222-4333-8444-555555555555';
const DATA = '/data/a.qcow2';
const ISO = '/data/a.iso';
const { disks } = someRecord();

const NEW: Given = { record: null, metadata: { annotations: {} }, files: { [ROOT]: noFile() } };
const ABSENT: Given = { launch: null, process: GONE };
const deleted: Given = { metadata: { deletionTimestamp: '2026-01-05T11:00:00Z' } };
const creating = { disks: { root: { path: ROOT, format: 'qcow2' as const, state: 'creating' as const } } };

/** A second disk at a path of its own, as it is seen and noted. */
function data(disk: object, seen: ReturnType<typeof file>, noted?: object): Given {
  const { path = DATA } = disk as { path?: string };
  const entry =
    noted === undefined ? {} : { data: { path, format: 'qcow2' as const, state: 'created' as const, ...noted } };
  const spec = {
    disks: [
      { name: 'root', size: '1Gi' },
      { name: 'data', path, ...disk },
    ],
  };
  return { ...ABSENT, spec, record: { disks: { ...disks, ...entry } }, files: { [path]: seen } };
}
const here = (fields: object = {}) => file({ resolved: DATA, ...fields });

function cdrom(seen: ReturnType<typeof file>): Given {
  return { ...ABSENT, spec: { cdroms: [{ name: 'install', path: ISO }] }, files: { [ISO]: seen } };
}
const iso = (fields: object = {}) => file({ resolved: ISO, format: 'raw', ...fields });

const crashed: Given = { ...ABSENT, record: { end: someEnd('Crashed') } };

type Rows = readonly (readonly [sentence: string, given: Given])[];
function sentences(name: string, rows: Rows): void {
  describe(name, () => {
    test.each(rows)('%s', (sentence, given) => {
      expect(decide(subject(given)).message).toBe(sentence);
    });
  });
}

sentences('provisioning', [
  [
    'noting in the object that something of it will be on the host',
    { ...NEW, metadata: { finalizers: [], annotations: {} } },
  ],
  ['making /vms/web-1', NEW],
  ['noting in the object where its disks lie', { ...ABSENT, record: { disks: {} }, metadata: { annotations: {} } }],
  ['creating disk root (1Gi)', { ...ABSENT, record: creating, files: { [ROOT]: noFile() } }],
  ['attaching the existing /vms/web-1/root.qcow2 as disk root', { ...ABSENT, record: { disks: {} } }],
  ['growing disk root from 1Gi to 2Gi', { ...ABSENT, spec: { disks: [{ name: 'root', size: '2Gi' }] } }],
  ['growing disk root from 1Gi to 2Gi', { spec: { disks: [{ name: 'root', size: '2Gi' }] } }],
  [
    'noting the spec of disk root in the record',
    { spec: { disks: [{ name: 'root', size: '1Gi', reclaimPolicy: 'Retain' }] } },
  ],
  ['starting QEMU 10.0.2 with TCG', ABSENT],
  ['starting QEMU 10.0.2 with TCG', { ...ABSENT, spec: { restartedAt: 'b' }, record: { end: someEnd('Crashed') } }],
  ['starting again after Crashed', crashed],
  ['QEMU is up; noting it in the record', { launch: { state: 'starting' } }],
  ['clearing an interrupted launch', { launch: { state: 'starting' }, process: GONE }],
]);

sentences('identity', [
  [
    '/vms/web-1 belongs to VM other/web-0 (uid 99999999-2222-4333-8444-555555555555); to take it over, set the annotation qemu-operator.dev/adopt: 99999999-2222-4333-8444-555555555555',
    { record: { uid: OTHER, namespace: 'other', name: 'web-0' } },
  ],
  [
    '/vms/web-1 belongs to VM default/web-1 (uid 99999999-2222-4333-8444-555555555555), and qemu-operator.dev/adopt names x',
    { record: { uid: OTHER }, annotations: { [ANNOTATIONS.adopt]: 'x' } },
  ],
  [
    '/vms/web-1 belongs to VM default/web-1 (uid 99999999-2222-4333-8444-555555555555), which still exists: it is not taken over',
    {
      record: { uid: OTHER },
      annotations: { [ANNOTATIONS.adopt]: OTHER },
      seen: { uidExists: (uid) => uid === OTHER },
    },
  ],
  [
    'taking over the folder of default/web-1 (uid 99999999-2222-4333-8444-555555555555)',
    { record: { uid: OTHER }, annotations: { [ANNOTATIONS.adopt]: OTHER } },
  ],
  ['the folder is taken over', { annotations: { [ANNOTATIONS.adopt]: OTHER } }],
  [
    'the VM was provisioned at machine-1:/vms/web-1, and /vms/web-1 has no record of it now: mount or restore it, or remove the annotation qemu-operator.dev/provisioned to give its data up',
    { record: null },
  ],
  [
    'the VM was provisioned at machine-0:/vms/web-1, and this is machine-1:/vms/web-1: mount or restore it, or remove the annotation qemu-operator.dev/provisioned to give its data up',
    { record: null, annotations: { [ANNOTATIONS.provisioned]: `machine-0:${FOLDER}` } },
  ],
  ['VM default/a claims the name web-1 on this host and is older', { ...NEW, seen: { olderRival: 'default/a' } }],
  ['VM default/a has the name web-1 on this host, in another vmDir', { ...NEW, seen: { namesake: 'default/a' } }],
  [
    '/vms/web-1 exists and holds qemu.pid, a name that qemu-operator keeps for its own files; move that file away, and the folder is taken with all else in it',
    { ...NEW, record: { kind: 'absent' }, process: GONE, folder: { entries: ['notes.txt', 'qemu.pid'] } },
  ],
  ['a QEMU process (pid 77) that no record explains runs in /vms/web-1', { ...NEW, record: { kind: 'absent' } }],
  [
    '/vms/web-1: its record has version 9, written by a later qemu-operator; the VM is left alone',
    { record: { kind: 'too-new', version: 9 } },
  ],
  [
    '/vms/web-1/.qemu-operator.json cannot be read (it is not JSON); the VM is left alone until it is restored',
    { record: { kind: 'invalid', message: 'it is not JSON' } },
  ],
  [
    'disk root (/vms/web-1/root.qcow2) was given up',
    { ...ABSENT, metadata: { annotations: {} }, files: { [ROOT]: noFile() } },
  ],
  ['annotation qemu-operator.dev/paused is set: nothing is touched', { annotations: { [ANNOTATIONS.paused]: '' } }],
  [
    'annotation qemu-operator.dev/paused is set on Host localhost',
    { host: someHost({}, { annotations: { [ANNOTATIONS.paused]: 'true' } }) },
  ],
]);

sentences('deletion', [
  ['the VM is being deleted: asking the guest to power down', deleted],
  ['removing the files of the VM', { ...deleted, process: GONE }],
  ['nothing of the VM is on the host', { ...deleted, record: null }],
  [
    '/vms/web-1 has lost its record, but QEMU (pid 77) runs there; restore .qemu-operator.json, or release the object with annotation qemu-operator.dev/orphan',
    { ...deleted, record: { kind: 'absent' }, folder: { entries: ['qemu.pid'] } },
  ],
  [
    '/vms/web-1 has lost its record, but qemu.pid is there; restore .qemu-operator.json, or release the object with annotation qemu-operator.dev/orphan',
    { ...deleted, record: { kind: 'absent' }, process: GONE, folder: { entries: ['notes.txt', 'qemu.pid'] } },
  ],
  [
    'annotation qemu-operator.dev/orphan is set: the host is left alone',
    {
      ...deleted,
      annotations: { [ANNOTATIONS.orphan]: '' },
      metadata: { ...deleted.metadata, annotations: { [ANNOTATIONS.orphan]: '' } },
    },
  ],
  [
    '/vms/web-1: its record was written by a later qemu-operator; annotation qemu-operator.dev/orphan releases the object',
    { ...deleted, record: { kind: 'too-new', version: 9 } },
  ],
  [
    '/vms/web-1/.qemu-operator.json cannot be read (it is not JSON); annotation qemu-operator.dev/orphan releases the object',
    { ...deleted, record: { kind: 'invalid', message: 'it is not JSON' } },
  ],
]);

sentences('disks', [
  [
    'disk root: /vms/web-1/root.qcow2 was created on this host and is gone; it is not made anew. Mount or restore it, or remove the annotation qemu-operator.dev/provisioned to give its data up',
    { ...ABSENT, files: { [ROOT]: noFile() } },
  ],
  [
    'disk data: /data/a.qcow2 was attached before and is gone; restore it, or remove the disk from the spec',
    data({}, noFile(DATA), { state: 'attached' }),
  ],
  [
    'disk data: /data/a.qcow2 does not exist and spec.disks[data].size says no size to create it with',
    data({}, noFile(DATA)),
  ],
  [
    "disk data: the folder of /data/a.qcow2 does not exist; make it first: folders outside the VM's own are never made",
    data({ size: '1Gi' }, noFile(DATA, 'absent')),
  ],
  [
    "disk data: a file that is created outside the VM's folder ends in .qcow2, .raw or .img; /data/passwd does not",
    data({ size: '1Gi', path: '/data/passwd' }, noFile('/data/passwd')),
  ],
  [
    'disk data: /data/a.qcow2 is a symbolic link to /data/gone.qcow2, which does not exist; mount or restore that, or remove the link',
    data({ size: '1Gi' }, { ...noFile('/data/gone.qcow2'), link: true } as never),
  ],
  ['disk data: /vms/web-1/root.qcow2 is disk root of this VM as well', data({ path: ROOT }, file())],
  ['disk data: /data/a.qcow2 (really /vms/web-1/root.qcow2) is disk root of this VM as well', data({}, file())],
  [
    'cdrom install: /vms/web-1/root.qcow2 is disk root of this VM as well',
    { ...ABSENT, spec: { cdroms: [{ name: 'install', path: ROOT }] } },
  ],
  [
    'disk data was /data/a.qcow2 (qcow2) before; its file was left untouched: use another name for /data/a.qcow2',
    data({ format: 'raw' }, here({ format: 'raw' }), { format: 'qcow2' }),
  ],
  [
    'disk data was /data/b.qcow2 (qcow2) before; its file was left untouched: use another name for /data/a.qcow2',
    data({}, here(), { path: '/data/b.qcow2' }),
  ],
  ['disk data grew to 2Gi; set size: 2Gi in your manifest', data({ size: '1Gi' }, here(), { sizeBytes: 2 * GI })],
  ['disk data: /data/a.qcow2 is neither a regular file nor a block device', data({}, here({ type: 'other' }))],
  [
    'disk data: /data/a.qcow2 cannot be read by the user that runs QEMU; mend its owner or mode',
    data({}, here({ readable: false })),
  ],
  [
    'disk data: /data/a.qcow2 is 9 bytes long, no whole number of 512-byte sectors: it is no disk image',
    data({}, file({ resolved: '/data/a.qcow2', format: 'raw', virtualBytes: 9 })),
  ],
  [
    'disk data: /data/a.qcow2 holds a qcow2 image, the spec says raw; set format: qcow2',
    data({ format: 'raw' }, here()),
  ],
  [
    'disk data: the header of /data/a.qcow2 cannot be read, so that nobody knows whether it is qcow2',
    data({}, here({ format: undefined })),
  ],
  [
    "disk data: the file behind /data/a.qcow2: /etc/shadow lies outside the host's allowedPaths (/vms, /data)",
    data({}, here({ refersTo: '/etc/shadow' })),
  ],
  [
    "disk data: a raw disk is grown by hand: qemu-img resize -f raw '/data/a.qcow2' 2147483648",
    data({ size: '2Gi', format: 'raw' }, here({ format: 'raw' }), { format: 'raw' }),
  ],
  [
    'qemu-img: command not found; install it: apt-get install qemu-utils',
    { ...data({ size: '1Gi' }, noFile(DATA)), seen: { facts: { ...FACTS, qemuImg: false } } },
  ],
]);

sentences('paths', [
  [
    "disk data: /etc/a.qcow2 lies outside the host's allowedPaths (/vms, /data)",
    data({ path: '/etc/a.qcow2' }, file({ resolved: '/etc/a.qcow2' })),
  ],
  [
    "disk data: /data/a.qcow2 (really /etc/a.qcow2) lies outside the host's allowedPaths (/vms, /data)",
    data({}, here({ resolved: '/etc/a.qcow2' })),
  ],
  [
    "disk data: /etc/a.qcow2 lies outside the host's allowedPaths (/vms)",
    {
      ...data({ path: '/etc/a.qcow2' }, file({ resolved: '/etc/a.qcow2' })),
      host: someHost({ allowedPaths: undefined }),
    },
  ],
  [
    'disk data: /vms/web-1/qemu.pid has the name of a file that qemu-operator keeps for itself',
    data({ path: `${FOLDER}/qemu.pid` }, file({ resolved: `${FOLDER}/qemu.pid` })),
  ],
  [
    "disk data: /data/a.qcow2 lies in another VM's folder, /data",
    { ...data({}, here()), seen: { otherFolderWith: (path) => (path.startsWith('/data/') ? '/data' : undefined) } },
  ],
  [
    'disk data: /data/a.qcow2 is a disk of VM default/b',
    { ...data({}, here()), seen: { ownerOf: (path) => (path === DATA ? 'default/b' : undefined) } },
  ],
  [
    "/vms/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx/web-1/qmp-user.sock has 115 bytes; a UNIX socket's path has at most 107: use a shorter vmDir or vmName",
    {
      ...ABSENT,
      spec: { vmDir: `/vms/${'x'.repeat(90)}` },
      annotations: { [ANNOTATIONS.provisioned]: `machine-1:/vms/${'x'.repeat(90)}/web-1` },
    },
  ],
]);

sentences('ISO images', [
  ['cdrom install: /data/a.iso does not exist on the host', cdrom(noFile(ISO))],
  [
    'cdrom install: /data/a.iso does not exist on the host; beside it there is b.iso, c.iso',
    cdrom({ ...noFile(ISO), beside: ['b.iso', 'c.iso'] } as never),
  ],
  ['cdrom install: /data/a.iso is neither a regular file nor a block device', cdrom(iso({ type: 'other' }))],
  ['cdrom install: /data/a.iso cannot be read by the user that runs QEMU', cdrom(iso({ readable: false }))],
  ['cdrom install: /data/a.iso boots arm64, this VM is x86_64', cdrom(iso({ bootArchitectures: ['arm64'] }))],
]);

sentences('what a launch needs', [
  [
    'qemu-system-x86_64: command not found; install it: apt-get install qemu-system-x86',
    { ...ABSENT, seen: { facts: { ...FACTS, qemu: {} } } },
  ],
  [
    'qemu-system-aarch64: command not found; install it: apt-get install qemu-system-arm',
    { ...ABSENT, spec: { architecture: 'arm64' }, seen: { facts: { ...FACTS, qemu: {} } } },
  ],
  [
    '/usr/bin/q is version 5.2.0; 6.0 or later is needed',
    { ...ABSENT, seen: { facts: { ...FACTS, qemu: { x86_64: { command: '/usr/bin/q', version: '5.2.0' } } } } },
  ],
  [
    'no UEFI firmware for x86_64; install it: apt-get install ovmf',
    { ...ABSENT, spec: { firmware: { type: 'UEFI' } } },
  ],
  [
    'no UEFI firmware for arm64; install it: apt-get install qemu-efi-aarch64',
    {
      ...ABSENT,
      spec: { architecture: 'arm64' },
      seen: { facts: { ...FACTS, qemu: { arm64: { command: 'q', version: '6.0.0' } } } },
    },
  ],
  [
    'vcpus: 9 are more than QEMU 10.0.2 gives a machine, at most 8',
    {
      ...ABSENT,
      spec: { vcpus: 9 },
      seen: { facts: { ...FACTS, qemu: { x86_64: { command: 'q', version: '10.0.2', maxVcpus: 8 } } } },
    },
  ],
  [
    'memory: 4096Mi are more than the host has, 3.9Gi',
    { ...ABSENT, spec: { memory: '4Gi' }, seen: { facts: { ...FACTS, memoryBytes: 3.9 * GI } } },
  ],
  [
    'accelerator is KVM, which does not work here: /dev/kvm does not exist; use Auto or TCG',
    { ...ABSENT, spec: { accelerator: 'KVM' } },
  ],
  [
    'accelerator is KVM, which does not work here: the host is x86_64; use Auto or TCG',
    { ...ABSENT, spec: { accelerator: 'KVM', architecture: 'arm64' } },
  ],
]);
