import { describe, expect, test } from 'vitest';
import { decide } from '../../src/reconcile/decide.ts';
import { GI } from '../fakes/simulated-world.ts';
import { FOLDER, file, type Given, GONE, noFile, ROOT, someHost, someRecord, subject } from '../fakes/subjects.ts';

const DATA = '/data/a.qcow2';
const { disks } = someRecord();
const OFF: Given = { launch: null, process: GONE };
type Seen = NonNullable<Given['files']>[string];

const outcome = (given: Given): unknown => {
  const decision = decide(subject({ ...OFF, ...given }));
  return decision.kind === 'act' ? decision.action.type : `${decision.kind} ${decision.reason}`;
};
/** A second disk at DATA, as it is seen and noted. */
const data = (disk: object, seen: Seen, noted?: object, rest: Given = {}): Given => {
  const { path = DATA } = disk as { path?: string };
  return {
    spec: {
      disks: [
        { name: 'root', size: '1Gi' },
        { name: 'data', path, ...disk },
      ],
    },
    record: {
      disks: { ...disks, ...(noted === undefined ? {} : { data: { path, format: 'qcow2', ...noted } }) } as never,
    },
    files: { [path]: seen },
    ...rest,
  };
};
const here = (fields: object = {}): Seen => file({ resolved: DATA, ...fields });
const cdrom = (seen: Seen, path = '/data/a.iso'): Given => ({
  spec: { cdroms: [{ name: 'install', path }] },
  files: { [path]: seen },
});
const iso = (fields: object = {}): Seen => file({ resolved: '/data/a.iso', format: 'raw', ...fields });

type Rows = readonly (readonly [sentence: string, given: Given, expected: string])[];
function table(name: string, rows: Rows): void {
  describe(name, () => {
    test.each(rows)('%s', (_sentence, given, expected) => {
      expect(outcome(given)).toBe(expected);
    });
  });
}

table('an existing file', [
  ['is attached as it is', data({}, here()), 'attach-disk'],
  ['of another format is not', data({ format: 'raw' }, here()), 'blocked DiskFormatMismatch'],
  [
    'whose header cannot be read is not',
    data({}, file({ resolved: DATA, format: undefined as never })),
    'blocked DiskFormatMismatch',
  ],
  [
    'of no whole number of sectors is no disk',
    data({ format: 'raw' }, here({ format: 'raw', virtualBytes: 2 ** 30 + 1 })),
    'blocked DiskFormatMismatch',
  ],
  ['that is a directory is not', data({}, here({ type: 'other' })), 'blocked DiskFormatMismatch'],
  [
    'that is a block device is',
    data({ format: 'raw', path: '/data/dev' }, file({ resolved: '/data/dev', type: 'block-device', format: 'raw' })),
    'attach-disk',
  ],
  ['that cannot be read is not', data({}, here({ readable: false })), 'blocked DiskMissing'],
  [
    'that a link leads to, and that is gone, is not made',
    data({ size: '1Gi' }, { ...noFile('/data/gone.qcow2'), link: true } as never),
    'blocked DiskMissing',
  ],
  [
    'that another disk of the VM leads to, through a link, is not',
    data({ path: '/data/link/root.qcow2' }, here({ resolved: ROOT })),
    'blocked InvalidSpec',
  ],
  ['with a backing file inside allowedPaths is', data({}, here({ refersTo: '/data/base.qcow2' })), 'attach-disk'],
  ['with a backing file outside is not', data({}, here({ refersTo: '/etc/shadow' })), 'blocked PathNotAllowed'],
  [
    'larger than its spec is no error',
    data({ size: '1Gi' }, here({ virtualBytes: 2 * GI }), { state: 'attached', sizeBytes: 2 * GI }),
    'launch',
  ],
  [
    'once attached, what its guest wrote at its beginning is no question',
    data({ format: 'raw' }, here(), { state: 'attached', format: 'raw' }),
    'launch',
  ],
  ['attached before and gone', data({}, noFile(DATA), { state: 'attached' }), 'blocked DiskMissing'],
]);

table('a file that is to be made', [
  ['is made', data({ size: '1Gi' }, noFile(DATA)), 'create-disk'],
  ['needs a size', data({}, noFile(DATA)), 'blocked InvalidSpec'],
  ['needs its folder: parents are never made', data({ size: '1Gi' }, noFile(DATA, 'absent')), 'blocked DiskMissing'],
  [
    'outside the folder ends in a known suffix',
    data({ size: '1Gi', path: '/data/passwd' }, noFile('/data/passwd')),
    'blocked InvalidSpec',
  ],
  ['inside the folder need not', data({ size: '1Gi', path: `${FOLDER}/x` }, noFile(`${FOLDER}/x`)), 'create-disk'],
  [
    'created before is never made anew',
    data({ size: '1Gi' }, noFile(DATA), { state: 'created' }),
    'blocked StorageMissing',
  ],
]);

table('sizes', [
  ['a qcow2 grows while off', data({ size: '2Gi' }, here(), { state: 'created', sizeBytes: GI }), 'grow-disk'],
  [
    'a disk that grew is not shrunk',
    data({ size: '1Gi' }, here(), { state: 'created', sizeBytes: 2 * GI }),
    'blocked DiskCannotShrink',
  ],
  [
    'raw does not grow by us',
    data({ size: '2Gi', format: 'raw' }, here({ format: 'raw' }), { state: 'created', format: 'raw' }),
    'blocked RawDiskNotGrown',
  ],
  [
    'raw that was grown by hand is noted',
    data({ size: '2Gi', format: 'raw' }, here({ format: 'raw', virtualBytes: 2 * GI }), {
      state: 'created',
      format: 'raw',
    }),
    'note-disk',
  ],
  ['without size it is what it is', data({}, here(), { state: 'attached' }), 'launch'],
]);

table('paths', [
  [
    'outside allowedPaths',
    data({ path: '/etc/a.qcow2' }, file({ resolved: '/etc/a.qcow2' })),
    'blocked PathNotAllowed',
  ],
  ['a symbolic link that leads outside', data({}, here({ resolved: '/etc/a.qcow2' })), 'blocked PathNotAllowed'],
  [
    "another VM's folder",
    data({}, here(), undefined, {
      seen: { otherFolderWith: (path) => (path.startsWith('/data/') ? '/data' : undefined) },
    }),
    'blocked PathNotAllowed',
  ],
  [
    "another VM's disk",
    data({}, here(), undefined, { seen: { ownerOf: (path) => (path === DATA ? 'default/b' : undefined) } }),
    'blocked DiskInUse',
  ],
  [
    'our own files',
    data({ path: `${FOLDER}/qemu.pid` }, file({ resolved: `${FOLDER}/qemu.pid` })),
    'blocked PathNotAllowed',
  ],
  [
    'the marker',
    data({ path: '/vms/.qemu-operator.json' }, file({ resolved: '/vms/.qemu-operator.json' })),
    'blocked PathNotAllowed',
  ],
  [
    'the lock of the vmDir',
    data({ path: '/vms/.qemu-operator.lock' }, file({ resolved: '/vms/.qemu-operator.lock' })),
    'blocked PathNotAllowed',
  ],
  [
    'absent allowedPaths: the vmDir alone',
    data({}, here(), undefined, { host: someHost({ allowedPaths: undefined }) }),
    'blocked PathNotAllowed',
  ],
  [
    'a folder named like an allowed one',
    data({ path: '/database/a.qcow2' }, file({ resolved: '/database/a.qcow2' })),
    'blocked PathNotAllowed',
  ],
]);

table('names', [
  [
    'the name of a disk with another path before',
    data({}, here(), { state: 'created', path: '/data/b.qcow2' }),
    'blocked NameConflict',
  ],
  [
    'the name of a disk with another format before',
    data({}, here(), { state: 'created', format: 'raw' }),
    'blocked NameConflict',
  ],
  [
    'a disk that is no longer named is left alone',
    { record: { disks: { ...disks, old: { path: '/data/o.qcow2', format: 'qcow2', state: 'created' } } } },
    'launch',
  ],
  [
    'a path too long for a socket',
    {
      spec: { vmName: 'x'.repeat(63), vmDir: `/${'y'.repeat(40)}` },
      record: {},
      annotations: { 'qemu-operator.dev/provisioned': `machine-1:/${'y'.repeat(40)}/${'x'.repeat(63)}` },
    },
    'blocked PathTooLong',
  ],
]);

table('an ISO image', [
  ['that is there', cdrom(iso()), 'launch'],
  ['that is, through a link, a disk of the VM', cdrom(iso({ resolved: ROOT })), 'blocked InvalidSpec'],
  ['that is not', cdrom(noFile('/data/a.iso')), 'blocked ISONotFound'],
  ['that is a directory', cdrom(iso({ type: 'other' })), 'blocked ISONotFound'],
  ['that cannot be read', cdrom(iso({ readable: false })), 'blocked ISONotFound'],
  ['for the architecture', cdrom(iso({ bootArchitectures: ['x86_64', 'arm64'] })), 'launch'],
  ['for another', cdrom(iso({ bootArchitectures: ['arm64'] })), 'blocked ISOWrongArchitecture'],
  ['outside allowedPaths', cdrom(file({ resolved: '/etc/a.iso' }), '/etc/a.iso'), 'blocked PathNotAllowed'],
]);

test('growth by hand is told as a command', () => {
  const given = data({ size: '2Gi', format: 'raw' }, here({ format: 'raw' }), { state: 'created', format: 'raw' });
  expect(decide(subject({ ...OFF, ...given })).message).toBe(
    `disk data: a raw disk is grown by hand: qemu-img resize -f raw '${DATA}' ${2 * GI}`,
  );
});

test('a disk that grew is told with the size to write', () => {
  const given = data({ size: '1Gi' }, here(), { state: 'created', sizeBytes: 2 * GI });
  expect(decide(subject({ ...OFF, ...given })).message).toBe('disk data grew to 2Gi; set size: 2Gi in your manifest');
});

test('what is created lies where the spec says', () => {
  expect(ROOT).toBe(`${FOLDER}/root.qcow2`);
});
