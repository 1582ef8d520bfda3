/** Corners of storage: boundaries, what is absent, and files that nobody looked at. */
import { describe, expect, test } from 'vitest';
import { ANNOTATIONS } from '../../src/api/meta.ts';
import { decide } from '../../src/reconcile/decide.ts';
import { inside } from '../../src/reconcile/paths.ts';
import { decideLiveGrowth, growthOf } from '../../src/reconcile/storage.ts';
import { GI } from '../fakes/simulated-world.ts';
import { file, type Given, GONE, noFile, ROOT, someHost, someRecord, subject } from '../fakes/subjects.ts';

const DATA = '/data/a.qcow2';
const ISO = '/data/a.iso';
const { disks } = someRecord();
const ABSENT: Given = { launch: null, process: GONE };
const NEW: Given = { record: null, files: { [ROOT]: noFile() } };

/** What is done, or the reason why not. */
function outcome(given: Given): string {
  const decision = decide(subject(given));
  if (decision.kind !== 'act') return decision.reason;
  return decision.action.type === 'stop' ? decision.action.step : decision.action.type;
}

type Rows = readonly (readonly [what: string, given: Given, expected: string])[];
function table(name: string, rows: Rows): void {
  describe(name, () => {
    test.each(rows)('%s', (_what, given, expected) => {
      expect(outcome(given)).toBe(expected);
    });
  });
}

const ROOT_DISK = { name: 'root', size: '1Gi' };
const here = (fields: object = {}) => file({ resolved: DATA, ...fields });
/** A second disk at DATA, as it is seen and noted. */
function data(disk: object, seen: ReturnType<typeof file> | undefined, noted?: object): Given {
  const entry =
    noted === undefined ? {} : { data: { path: DATA, format: 'qcow2' as const, state: 'created' as const, ...noted } };
  return {
    ...ABSENT,
    spec: { disks: [ROOT_DISK, { name: 'data', path: DATA, ...disk }] },
    record: { disks: { ...disks, ...entry } },
    files: seen === undefined ? {} : { [DATA]: seen },
  };
}
const cdroms = (...paths: string[]) => ({ cdroms: paths.map((path, index) => ({ name: `cd${index}`, path })) });
const long = (length: number): Given => {
  const vmDir = `/vms/${'x'.repeat(length - '/vms//web-1/qmp-user.sock'.length)}`;
  return {
    ...NEW,
    ...ABSENT,
    record: { disks: {} },
    spec: { vmDir, disks: [] },
    annotations: { [ANNOTATIONS.provisioned]: `machine-1:${vmDir}/web-1` },
  };
};

test('inside a folder', () => {
  const pairs = [
    ['/a', '/'],
    ['/a', '/a'],
    ['/a/b', '/a'],
    ['/ab', '/a'],
    ['/', '/a'],
  ] as const;
  expect(pairs.map(([path, folder]) => inside(path, folder))).toEqual([true, true, true, false, false]);
});

table('paths', [
  ['a socket of 107 bytes is not too long', long(107), 'launch'],
  ['one of 108 is', long(108), 'PathTooLong'],
  [
    'one ISO image in two CD-ROMs',
    { ...ABSENT, spec: cdroms(ISO, ISO), files: { [ISO]: file({ resolved: ISO }) } },
    'launch',
  ],
  ['one file for two disks', { ...ABSENT, spec: { disks: [ROOT_DISK, { name: 'data', path: ROOT }] } }, 'InvalidSpec'],
  [
    'without allowedPaths: the vmDir',
    {
      ...data({ path: '/vms/a.qcow2' }, undefined),
      files: { '/vms/a.qcow2': file({ resolved: '/vms/a.qcow2' }) },
      host: someHost({ allowedPaths: undefined }),
    },
    'attach-disk',
  ],
  [
    'a second CD-ROM is looked at too',
    {
      ...ABSENT,
      spec: cdroms(ISO, '/data/b.iso'),
      files: { [ISO]: file({ resolved: ISO }), '/data/b.iso': noFile('/data/b.iso') },
    },
    'ISONotFound',
  ],
  ['an ISO image that nobody looked at', { ...ABSENT, spec: cdroms(ISO) }, 'ISONotFound'],
  [
    'a known suffix in the middle',
    {
      ...data({ path: '/data/a.raw.bak', size: '1Gi' }, undefined),
      files: { '/data/a.raw.bak': noFile('/data/a.raw.bak') },
    },
    'InvalidSpec',
  ],
]);

test('a CD-ROM that lies outside is named', () => {
  const given = { ...ABSENT, spec: cdroms('/etc/a.iso'), files: { '/etc/a.iso': file({ resolved: '/etc/a.iso' }) } };
  expect(decide(subject(given)).message).toMatch(/^cdrom cd0: \/etc\/a\.iso lies outside/);
});

table('disks', [
  ['one that nobody looked at is made', data({ size: '1Gi' }, undefined), 'create-disk'],
  ['a file behind one that we made', data({}, here({ refersTo: '/etc/x' }), { state: 'created' }), 'launch'],
  ['a file behind an attached one', data({}, here({ refersTo: '/etc/x' }), { state: 'attached' }), 'PathNotAllowed'],
  [
    'a raw one has no file behind it',
    data({ format: 'raw' }, here({ format: 'raw', refersTo: '/etc/x' })),
    'attach-disk',
  ],
  [
    'an attached raw one of an odd size',
    data({ format: 'raw' }, here({ format: 'raw', virtualBytes: GI + 1 }), { state: 'attached', format: 'raw' }),
    'launch',
  ],
  ['a qcow2 of an odd size', data({}, here({ virtualBytes: GI + 1 })), 'attach-disk'],
  [
    'a new one of a running VM waits for the restart',
    { ...data({ size: '1Gi' }, noFile(DATA)), process: 'running', launch: {} },
    'Running',
  ],
  [
    'one in the making is not noted',
    { ...data({ size: '1Gi' }, noFile(DATA), { state: 'creating' }), process: 'running', launch: {} },
    'Running',
  ],
]);

test('attaching notes the size that the guest sees', () => {
  expect(decide(subject(data({}, here({ virtualBytes: 3 * GI }))))).toMatchObject({ action: { virtualBytes: 3 * GI } });
  expect(decide(subject(data({}, here({ virtualBytes: undefined as never }))))).toMatchObject({
    action: { virtualBytes: 0 },
  });
});

test('growing is a step of provisioning', () => {
  expect(decide(subject({ ...ABSENT, spec: { disks: [{ name: 'root', size: '2Gi' }] } }))).toMatchObject({
    action: { type: 'grow-disk', toBytes: 2 * GI },
    reason: 'Provisioning',
  });
});

test('a growth that nobody asks for is none', () => {
  expect(growthOf({ format: 'qcow2', sizeBytes: GI }, GI)).toBe('none');
});

describe('growing while running', () => {
  function grown(disk: object, bytes: number | undefined, launched = true): unknown {
    const given = subject({ spec: { disks: [{ name: 'root', ...disk }] } });
    const spec = { ...given.wanted.launch, ...(launched ? {} : { disks: [] }) } as never;
    const record = {
      ...someRecord(),
      launch: { state: 'running', spec, bootID: 'b', at: 0, accelerator: 'TCG', qemuVersion: '1' },
    } as const;
    const decision = decideLiveGrowth(given, record, new Map(bytes === undefined ? [] : [['root', bytes]]));
    return decision?.kind === 'act' ? decision.action.type : decision;
  }

  test('a smaller disk that QEMU was started with grows', () => {
    expect(grown({ size: '2Gi' }, GI)).toBe('grow-disk-live');
  });

  test.each([
    ['as large as wanted', { size: '2Gi' }, 2 * GI, true],
    ['larger than wanted', { size: '2Gi' }, 3 * GI, true],
    ['of no wanted size', {}, GI, true],
    ['of unknown size', { size: '2Gi' }, undefined, true],
    ['raw', { size: '2Gi', format: 'raw' }, GI, true],
    ['not of this process', { size: '2Gi' }, GI, false],
  ] as const)('one that is %s does not', (_what, disk, bytes, launched) => {
    expect(grown(disk, bytes, launched)).toBeUndefined();
  });
});
