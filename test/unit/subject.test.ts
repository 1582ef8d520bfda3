import { describe, expect, test } from 'vitest';
import { effectiveSpec } from '../../src/api/effective-spec.ts';
import type { VirtualMachine } from '../../src/api/virtual-machine.ts';
import type { SeenFolder, SeenHost } from '../../src/reconcile/observed.ts';
import type { OwnershipRecord } from '../../src/reconcile/record.ts';
import { subjectOf, wantedOf } from '../../src/reconcile/subject.ts';
import { storedVm } from '../fakes/manifests.ts';
import { FACTS } from '../fakes/simulated-world.ts';
import { file, GONE, NOON, someHost, someRecord } from '../fakes/subjects.ts';

const host = someHost();
const OTHER = '99999999-2222-4333-8444-555555555555';

function folder(path: string, record: Partial<OwnershipRecord> | undefined): SeenFolder {
  const at = path.lastIndexOf('/');
  return {
    path,
    vmDir: path.slice(0, at),
    name: path.slice(at + 1),
    record: record === undefined ? { kind: 'absent' } : { kind: 'readable', record: someRecord(record) },
    entries: [],
    process: GONE,
    logTail: '',
  };
}

/** @param foreign those of other Hosts of the machine */
function seenWith(
  folders: readonly SeenFolder[],
  resolved: Readonly<Record<string, string>> = {},
  foreign: readonly SeenFolder[] = [],
): SeenHost {
  const vmDirs = [...new Set(['/vms', ...folders.map(({ vmDir }) => vmDir)])];
  return {
    at: NOON,
    bootID: 'boot-1',
    machineID: 'machine-1',
    roundTripMs: 1,
    vmDirs: new Map(vmDirs.map((path) => [path, { path, state: 'present', marker: { kind: 'absent' } }])),
    folders: new Map(folders.map((one) => [one.path, one])),
    foreignFolders: new Map(foreign.map((one) => [one.path, one])),
    files: new Map(Object.entries(resolved).map(([path, real]) => [path, file({ resolved: real })])),
    ports: [],
    bridges: new Map(),
    strangers: [],
    facts: FACTS,
  };
}

const lookAt = (
  vm: VirtualMachine,
  seen: SeenHost,
  siblings: readonly VirtualMachine[] = [vm],
  uids: readonly string[] = [],
  foreignVms: readonly VirtualMachine[] = [],
) =>
  subjectOf(vm, { host, seen, siblings, foreignVms, uidExists: (uid) => uids.includes(uid), heardEnd: () => undefined })
    .seen;

const web1 = storedVm();
const elsewhere = {
  uid: OTHER,
  name: 'b',
  disks: { root: { path: '/vms/b/root.qcow2', format: 'qcow2', state: 'created' } },
} as const;

describe('the uuid', () => {
  test("is the record's, where the record is its own", () => {
    const seen = seenWith([folder('/vms/web-1', { uuid: OTHER })]);
    expect(wantedOf(web1, host, seen).launch.uuid).toBe(OTHER);
  });
  test("is not another's", () => {
    const seen = seenWith([folder('/vms/web-1', { uid: OTHER, uuid: OTHER })]);
    expect(wantedOf(web1, host, seen)).toEqual(effectiveSpec(web1, host));
  });
});

describe('what others have', () => {
  test('their folders and disks, not its own', () => {
    const disks = { root: { path: '/vms/web-1/root.qcow2', format: 'qcow2', state: 'created' } } as const;
    const seen = lookAt(web1, seenWith([folder('/vms/web-1', { disks }), folder('/vms/b', elsewhere)]));
    expect(['/vms/b/x', '/vms/b', '/vms/bc', '/vms/web-1/x'].map(seen.otherFolderWith)).toEqual([
      '/vms/b',
      '/vms/b',
      undefined,
      undefined,
    ]);
    expect(['/vms/b/root.qcow2', '/vms/web-1/root.qcow2'].map(seen.ownerOf)).toEqual(['default/b', undefined]);
  });

  test('of other Hosts of the machine too, unless it is its own folder by another name', () => {
    const foreign = [folder('/others/b', elsewhere), folder('/links/web-1', {})];
    const seen = lookAt(web1, seenWith([folder('/vms/web-1', {})], {}, foreign));
    expect(['/others/b/x', '/links/web-1/x'].map(seen.otherFolderWith)).toEqual(['/others/b', undefined]);
    expect(seen.ownerOf('/vms/b/root.qcow2')).toBe('default/b');
  });

  test('a disk that both have noted', () => {
    const own = { disks: { data: { path: '/links/b/root.qcow2', format: 'qcow2', state: 'created' } } } as const;
    const links = { '/links/b/root.qcow2': '/vms/b/root.qcow2' };
    const seen = lookAt(web1, seenWith([folder('/vms/web-1', own)], links, [folder('/others/b', elsewhere)]));
    expect([...seen.sharedDisks]).toEqual([['/links/b/root.qcow2', 'default/b']]);
  });

  test('what another user’s VM has noted, by its status where its record is hidden', () => {
    const disk = (state: string) => ({ name: state, path: `/data/${state}.raw`, format: 'raw', state });
    const disks = ['Attached', 'Created', 'Pending', 'Kept'].map(disk);
    const hidden = { ...storedVm({}, { name: 'b', uid: OTHER }), status: { disks } } as unknown as VirtualMachine;
    const owned = (foreign: readonly SeenFolder[]) => {
      const { ownerOf } = lookAt(web1, seenWith([], {}, foreign), [web1], [], [hidden]);
      return [...disks.map(({ path }) => path), '/vms/b/root.qcow2'].filter((path) => ownerOf(path) === 'default/b');
    };
    expect(owned([])).toEqual(['/data/Attached.raw', '/data/Created.raw']);
    expect(owned([folder('/others/b', elsewhere)])).toEqual(['/vms/b/root.qcow2']);
  });

  test('a folder without a record is nobody else’s', () => {
    const seen = lookAt(web1, seenWith([folder('/vms/isos', undefined)]));
    expect(seen.otherFolderWith('/vms/isos/tools.iso')).toBeUndefined();
  });

  test('through a vmDir that is a symbolic link, by where it really lies', () => {
    const seen = lookAt(web1, seenWith([folder('/vms/b', elsewhere)], { '/vms': '/data/vms' }));
    expect(seen.otherFolderWith('/data/vms/b/x')).toBe('/data/vms/b');
    expect(['/data/vms/b/root.qcow2', '/vms/b/root.qcow2'].map(seen.ownerOf)).toEqual(['default/b', undefined]);
  });
});

describe('rivals for a name', () => {
  const younger = storedVm(
    { vmName: 'web-1' },
    { name: 'second', uid: OTHER, creationTimestamp: '2026-01-02T00:00:00Z' },
  );
  test('the older object wins', () => {
    const seen = seenWith([]);
    expect(lookAt(younger, seen, [web1, younger]).olderRival).toBe('default/web-1');
    expect(lookAt(web1, seen, [web1, younger]).olderRival).toBeUndefined();
  });

  test('of two of one age, always the same', () => {
    const twin = storedVm({ vmName: 'web-1' }, { name: 'second', uid: OTHER });
    const rivals = [web1, twin].map((vm) => lookAt(vm, seenWith([]), [web1, twin]).olderRival);
    expect(rivals).toEqual([undefined, 'default/web-1']);
  });

  test('a record in another vmDir has the name, while its object exists', () => {
    const seen = seenWith([folder('/more/web-1', elsewhere)]);
    expect(lookAt(web1, seen, [web1], [OTHER]).namesake).toBe('default/b');
    expect(lookAt(web1, seen).namesake).toBeUndefined();
  });
});
